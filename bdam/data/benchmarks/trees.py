"""Clothes-changed image benchmarks, whose folders and file names say it all; nobody captioned them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bdam.data.pictures import is_picture

from .records import Listing, Record, join_records


FOLDERS = ("train", "val", "query", "test")


def prcc(path: str) -> dict:
    """
    PRCC (Yang et al. 2019): `{train,val}/PERSON/CAMERA_….jpg` and `test/CAMERA/PERSON/….jpg`. Cameras A and B saw the
    same clothes, C others. The official gallery is A; queries are B (same clothes) and C (clothes changed).
    """
    split, *names = path.split("/")
    camera, person = names[:2] if split == "test" else (names[1][0], names[0])
    role = None if split != "test" else "gallery" if camera == "A" else "query"
    outfit = int(camera == "C")
    return _record(path, split, role, person, outfit, "ABC".index(camera))


def ltcc(path: str) -> dict:
    """LTCC (Qian et al. 2020): `{train,query,test}/PERSON_OUTFIT_cCAMERA_….png`; the official gallery is `test`."""
    folder, name = path.split("/")
    person, outfit, camera, *_ = name.split("_")
    role = {"query": "query", "test": "gallery"}.get(folder)
    return _record(path, "test" if role else "train", role, person, outfit, camera.removeprefix("c"))


def _record(image: str, split: str, role: str | None, person: str, outfit: str | int, camera: str | int) -> dict:
    numbers = {"person_id": int(person), "outfit_id": int(outfit), "camera_id": int(camera)}
    return {"image": image, "split": split, "role": role, **numbers}


@dataclass(frozen=True)
class PictureTree:
    """
    Args:
        describe: what a picture's path tells, as a record; ValueError or IndexError if it tells too little.
        pictures: the folder that paths start from, below the root; without it, the root.
    """

    describe: Callable[[str], dict]
    pictures: str = ""

    def read(self, root: Path) -> Listing:
        pictures = root / self.pictures if (root / self.pictures).is_dir() else root
        records = join_records(self._records(pictures), str(pictures))
        if not {"train", "test"} <= {record.split for record in records}:
            raise FileNotFoundError(f"{pictures} has no pictures in folders train and test: give the folder of both.")
        return Listing(records, pictures, root / "descriptions.jsonl")

    def _records(self, pictures: Path) -> Iterator[Record]:
        for path in (path for folder in FOLDERS for path in sorted((pictures / folder).rglob("*"))):
            if not is_picture(path):
                continue
            try:
                yield Record.model_validate(self.describe(path.relative_to(pictures).as_posix()))
            except (ValueError, IndexError):
                raise ValueError(f"{path}: the name does not tell who it is in what: rename or remove it.") from None
