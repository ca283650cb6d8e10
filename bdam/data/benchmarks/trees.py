"""Clothes-changed image benchmarks, whose folders and file names say it all; nobody captioned them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bdam.data.descriptions import DESCRIPTIONS_FILE
from bdam.data.images import is_image

from .records import Listing, Record, join_records


FOLDERS = ("train", "val", "query", "test")
# What paths tell by digits.
NUMBERS = ("person_id", "outfit_id", "camera_id")


def prcc(path: str) -> dict:
    """
    PRCC (Yang et al. 2019): `{train,val}/PERSON/CAMERA_….jpg` and `test/CAMERA/PERSON/….jpg`. Cameras A and B saw the
    same clothes, C others. The official gallery is A; queries are B (same clothes) and C (clothes changed).
    """
    split, *names = path.split("/")
    camera, person = names[:2] if split == "test" else (names[1][0], names[0])
    role = None if split != "test" else "gallery" if camera == "A" else "query"
    return _record(path, split, role, person, str(int(camera == "C")), str("ABC".index(camera)))


def ltcc(path: str) -> dict:
    """LTCC (Qian et al. 2020): `{train,query,test}/PERSON_OUTFIT_cCAMERA_….png`; the official gallery is `test`."""
    folder, name = path.split("/")
    person, outfit, camera, *_ = name.split("_")
    role = {"query": "query", "test": "gallery"}.get(folder)
    return _record(path, "test" if role else "train", role, person, outfit, camera.removeprefix("c"))


def _record(image: str, split: str, role: str | None, person: str, outfit: str, camera: str) -> dict:
    return {
        "image": image,
        "split": split,
        "role": role,
        "person_id": person,
        "outfit_id": outfit,
        "camera_id": camera,
    }


@dataclass(frozen=True)
class ImageTree:
    """
    Args:
        describe: what an image's path tells, as a record whose ids are the words of the path; ValueError or
            IndexError if it tells too little.
        images: the folder that paths start from, below the root; without it, the root.
    """

    describe: Callable[[str], dict]
    images: str = ""

    def read(self, root: Path) -> Listing:
        images = root / self.images if (root / self.images).is_dir() else root
        problems: list[str] = []
        records = join_records(self._records(images, problems), problems)
        if not problems and not {"train", "test"} <= {record.split for record in records}:
            raise FileNotFoundError(f"{images} has no images in folders train and test: give the folder of both.")
        return Listing(records, images, root / DESCRIPTIONS_FILE, problems)

    def _records(self, images: Path, problems: list[str]) -> Iterator[tuple[str, Record]]:
        spellings: dict[tuple[str, int], str] = {}
        for path in (path for folder in FOLDERS for path in sorted((images / folder).rglob("*"))):
            if not is_image(path):
                continue
            try:
                told = self.describe(path.relative_to(images).as_posix())
                numbers = {name: _number(told[name]) for name in NUMBERS}
                record = Record.model_validate({**told, **numbers})
            except (ValueError, IndexError):
                problems.append(f"{path}: the name does not tell who it is in what: rename or remove it.")
                continue
            known = {name: spellings.setdefault((name, number), told[name]) for name, number in numbers.items()}
            if other := next((name for name in NUMBERS if known[name] != told[name]), None):
                words = f"{known[other]} and {told[other]}"
                problems.append(f"{path}: {words} are one {other.removesuffix('_id')}, or two: rename one of them.")
            else:
                yield str(path), record


def _number(word: str) -> int:
    """The number that digits stand for; folders and files pad it with zeros."""
    if not re.fullmatch("[0-9]{1,18}", word):
        raise ValueError(f"{word!r} is no number")
    return int(word)
