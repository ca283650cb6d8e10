"""Records of annotation files, one for each image. Files have different keys for the same field."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field, PlainValidator

from bdam.data.descriptions import COLUMNS, Share, Text

from .spelling import find_similar_ids


# The keys that files have for the fields of a record. In files, `image_id` is the person.
KEYS = {
    "image_id": ("image", "file_name", "file_path", "img_path"),
    "person_id": ("person_id", "id", "image_id"),
    "captions": ("captions", "caption"),
}
ALIASES = {name: AliasChoices(*keys) for name, keys in KEYS.items()}
# What splits are called, in records and as folders, and their names in the schema.
SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
SIMILAR_IDS = "groups of ids differ only in spelling, and count as different"
# Numbers that fit into an int64 column, also after the ids of joined data sets are shifted.
PLAIN_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def _relative(path: str) -> str:
    if posixpath.normpath(path) == "." or re.search(r"^/|^[A-Za-z]:|[\\\0]|(^|/)\.\.(/|$)", path):
        raise ValueError("must lead from the image folder to an image inside it, with / between the folders")
    return unicodedata.normalize("NFC", posixpath.normpath(path).removeprefix("imgs/"))


def _name(value: object) -> int | str:
    """The id as a number if it is spelled as one, so that JSON and CSV give equal ids; otherwise as a string."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a whole number or a name")
    word = str(value)
    if not word.strip():
        raise ValueError("must not be blank")
    return int(word) if PLAIN_NUMBER.fullmatch(word) else word


def _number(value: object) -> int:
    name = _name(value)
    if isinstance(name, str):
        raise ValueError("must be a whole number, written as 12 is")
    return name


ImagePath = Annotated[str, AfterValidator(_relative)]
Captions = Annotated[list[Text], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Split = Annotated[
    SplitName,
    BeforeValidator(lambda value: SPLIT_NAMES.get(str(value).lower(), value)),
]
Number = Annotated[int, PlainValidator(_number)]
Name = Annotated[int | str, PlainValidator(_name)]


class Record(BaseModel):
    """
    An image, with the names of the schema.

    Args:
        image_id: path of the image, relative to the image folder.
        person_id: the person in it, a number or a name.
        outfit_id: the person's outfit; outfits of different persons may have equal ids.
        camera_id: the camera that took it.
        role: "query" or "gallery" in the official protocol.
        identity_agreement, clothing_agreement: how far several descriptions of it agree, in (0, 1].
    """

    image_id: ImagePath = Field(validation_alias=ALIASES["image_id"])
    person_id: Name = Field(validation_alias=ALIASES["person_id"])
    captions: Captions = Field(default=[], validation_alias=ALIASES["captions"])
    split: Split | None = None
    outfit_id: Name | None = None
    camera_id: Number | None = None
    role: Literal["query", "gallery"] | None = None
    identity_description: Text | None = None
    clothing_description: Text | None = None
    identity_agreement: Share | None = None
    clothing_agreement: Share | None = None


class CaptionedRecord(Record):
    """An image of a text-to-image benchmark: the person is a number, and there is at least one caption."""

    person_id: int = Field(strict=True, ge=0, lt=10**18, validation_alias=ALIASES["person_id"])
    captions: Captions = Field(min_length=1, validation_alias=ALIASES["captions"])


@dataclass
class Listing:
    """
    The records of a benchmark.

    Args:
        records: one per image.
        images: the folder that the paths of the images are relative to.
        descriptions: the file of generated descriptions, which need not exist.
        problems: a sentence for each record and description that is not valid and left out.
        unknown_descriptions: lines of `descriptions` whose image no record has.
    """

    records: list[Record]
    images: Path
    descriptions: Path
    problems: list[str]
    unknown_descriptions: list[str] = field(default_factory=list)

    def undescribed(self) -> dict[str, list[str]]:
        """The images without a description, by column; empty where there is no file of descriptions."""
        columns = COLUMNS if self.descriptions.is_file() else ()
        return {
            column: [record.image_id for record in self.records if getattr(record, column) is None]
            for column in columns
        }

    def similar_ids(self) -> list[str]:
        """Groups of persons, and of outfits of a person, whose ids differ only in spelling."""
        outfits: dict[int | str, list[int | str]] = {}
        for record in self.records:
            outfit_ids = outfits.setdefault(record.person_id, [])
            if record.outfit_id is not None:
                outfit_ids.append(record.outfit_id)
        groups = [("persons", group) for group in find_similar_ids(outfits)]
        groups += [
            (f"outfits of person {person!r}:", group)
            for person, outfit_ids in outfits.items()
            for group in find_similar_ids(outfit_ids)
        ]
        return [f"{name} {', '.join(map(ascii, group))}" for name, group in groups]


def join_records(records: Iterable[tuple[str, Record]], problems: list[str]) -> list[Record]:
    """
    One record per image, with the captions of all its records: some files have a record per caption.

    Args:
        records: each with its file and its location in it.
        problems: gets a sentence for each record that disagrees with the first one of its image on the person, the
            outfit or the split; its captions are left out.
    """
    images: dict[str, Record] = {}
    for location, record in records:
        first = images.setdefault(record.image_id, record)
        if first is record:
            continue
        if disagreement := _disagreement(first, record):
            problems.append(f"{location}: the records of image {record.image_id} disagree on its {disagreement}.")
        else:
            first.captions += record.captions
    return list(images.values())


def _disagreement(first: Record, record: Record) -> str | None:
    for name in ("person_id", "outfit_id", "split"):
        values = getattr(first, name), getattr(record, name)
        if values[0] != values[1]:
            return f"{name.removesuffix('_id')}, {values[0]!r} and {values[1]!r}: remove the wrong one"
    return None
