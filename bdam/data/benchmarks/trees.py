"""Benchmarks with changed clothes, whose records are in the names of folders and files. They have no captions."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bdam.data.descriptions import DESCRIPTIONS_FILE
from bdam.data.images import is_image

from .records import Listing, Record, join_records


FOLDERS = ("train", "val", "query", "gallery", "test")
# The fields that are digits in a path.
NUMBERS = ("person_id", "outfit_id", "camera_id")


def prcc(path: str) -> dict:
    """
    The record of an image of PRCC (Yang et al. 2019).

    Paths are `{train,val}/PERSON/CAMERA_….jpg` and `test/CAMERA/PERSON/….jpg`. A person wears the same clothes before
    cameras A and B, and others before C. The official gallery is A; the queries are B (same clothes) and C (changed).
    """
    split, *names = path.split("/")
    camera, person = names[:2] if split == "test" else (names[1][0], names[0])
    role = None if split != "test" else "gallery" if camera == "A" else "query"
    return _record(path, split, role, person, str(int(camera == "C")), str("ABC".index(camera)))


def ltcc(path: str) -> dict:
    """
    The record of an image of LTCC (Qian et al. 2020).

    Paths are `{train,query,test}/PERSON_OUTFIT_cCAMERA_….png`. The official gallery is `test`.
    """
    folder, name = path.split("/")
    person, outfit, camera, *_ = name.split("_")
    role = {"query": "query", "test": "gallery"}.get(folder)
    return _record(path, "test" if role else "train", role, person, outfit, camera.removeprefix("c"))


def vc_clothes(path: str) -> dict:
    """
    The record of an image of VC-Clothes (Wan et al. 2020), whose persons are rendered.

    Paths are `{train,query,gallery}/PERSON-CAMERA-OUTFIT-NUMBER.jpg`, as in `data/datasets/vcclothes.py` of
    https://github.com/guxinqian/Simple-CCReID. That code tests same clothes on cameras 2 and 3, and changed clothes on
    cameras 3 and 4. Here both protocols use all four cameras, so results do not compare with its two subsets.
    """
    folder, name = path.split("/")
    person, camera, outfit, *_ = name.split("-")
    role = folder if folder in ("query", "gallery") else None
    return _record(path, "test" if role else "train", role, person, outfit, camera)


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
    A layout in which the path of each image has its record.

    Args:
        parse: from the path of an image to its record, whose ids are digits as they stand in the path; raises
            ValueError or IndexError for other paths.
        images: the folder below the root that paths are relative to; by default, and if there is none, the root.
    """

    parse: Callable[[str], dict]
    images: str = ""

    def read(self, root: Path) -> Listing:
        """
        The records below `root`; those that are not valid are left out and described in `problems`.

        Raises:
            FileNotFoundError: if there are no images of train or of test.
        """
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
                words = self.parse(path.relative_to(images).as_posix())
                numbers = {name: _number(words[name]) for name in NUMBERS}
                record = Record.model_validate({**words, **numbers})
            except (ValueError, IndexError):
                problems.append(f"{path}: the name has no person, outfit and camera: rename or remove it.")
                continue
            first = {name: spellings.setdefault((name, number), words[name]) for name, number in numbers.items()}
            if name := next((name for name in NUMBERS if first[name] != words[name]), None):
                both = f"{first[name]} and {words[name]}"
                problems.append(f"{path}: {both} are one {name.removesuffix('_id')}, or two: rename one of them.")
            else:
                yield str(path), record


def _number(word: str) -> int:
    """The number that digits, padded with zeros, stand for."""
    if not re.fullmatch("[0-9]{1,18}", word):
        raise ValueError(f"{word!r} is no number")
    return int(word)
