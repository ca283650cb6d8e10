"""One image as annotations tell of it, whatever they call their keys."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field, PlainValidator

from bdam.data.descriptions import COLUMNS, Share, Text

from .spelling import find_lookalikes


# What files call the fields of a record; where a file has `image_id`, that is who the person is.
KEYS = {
    "image_id": ("image", "file_path", "img_path"),
    "person_id": ("person_id", "id", "image_id"),
    "captions": ("captions", "caption"),
}
ALIASES = {name: AliasChoices(*keys) for name, keys in KEYS.items()}
LOOKALIKES = "groups of ids differ only in how they are spelled, and count as different"
# Numbers that fit into a column of a data set, and leave room to be shifted.
PLAIN_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def _relative(path: str) -> str:
    if posixpath.normpath(path) == "." or re.search(r"^/|^[A-Za-z]:|[\\\0]|(^|/)\.\.(/|$)", path):
        raise ValueError("must lead from the image folder to an image inside it, with / between the folders")
    return unicodedata.normalize("NFC", posixpath.normpath(path).removeprefix("imgs/"))


def _name(value: object) -> int | str:
    """A number where the word is how that number is written, so that ids in JSON and CSV are the same; or the word."""
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
    Literal["train", "validation", "test"],
    BeforeValidator(lambda value: {"val": "validation"}.get(str(value).lower(), str(value).lower())),
]
Number = Annotated[int, PlainValidator(_number)]
Name = Annotated[int | str, PlainValidator(_name)]


class Record(BaseModel):
    """
    An image, under the names of the schema.

    Args:
        image_id: path of the image within the image folder.
        person_id: who is on it; persons may have names.
        outfit_id: what they wear, told apart within the person only.
        camera_id, role: which camera took it, and whether an official protocol has it as "query" or in the "gallery".
        identity_agreement, clothing_agreement: how far several descriptions of it agree.
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
    """An image of a text benchmark: persons are numbers, and each image has captions."""

    person_id: int = Field(strict=True, ge=0, lt=10**18, validation_alias=ALIASES["person_id"])
    captions: Captions = Field(min_length=1, validation_alias=ALIASES["captions"])


@dataclass
class Listing:
    """
    What the folder of a benchmark holds.

    Args:
        records: one per image.
        images: the folder that their paths start from.
        descriptions: the file of generated descriptions, which may not be there.
        problems: what is wrong with the records and descriptions that are left out, a sentence for each.
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

    def lookalikes(self) -> list[str]:
        """Persons, and outfits of a person, whose ids differ only in how they are spelled."""
        outfits: dict[int | str, list[int | str]] = {}
        for record in self.records:
            of_person = outfits.setdefault(record.person_id, [])
            if record.outfit_id is not None:
                of_person.append(record.outfit_id)
        groups = [("persons", group) for group in find_lookalikes(outfits)]
        groups += [
            (f"outfits of person {person!r}:", group)
            for person, of_person in outfits.items()
            for group in find_lookalikes(of_person)
        ]
        return [f"{what} {', '.join(map(ascii, group))}" for what, group in groups]


def join_records(records: Iterable[tuple[str, Record]], problems: list[str]) -> list[Record]:
    """
    One record per image: some files give each caption a record of its own. Where records of one image disagree on
    its person, outfit or split, the first counts, and `problems` tells of the others.

    Args:
        records: each with its file and its place in it.
    """
    images: dict[str, Record] = {}
    for place, record in records:
        first = images.setdefault(record.image_id, record)
        if first is record:
            continue
        if disagreement := _disagreement(first, record):
            problems.append(f"{place}: the records of image {record.image_id} disagree on its {disagreement}.")
        else:
            first.captions += record.captions
    return list(images.values())


def _disagreement(first: Record, record: Record) -> str | None:
    for name in ("person_id", "outfit_id", "split"):
        values = getattr(first, name), getattr(record, name)
        if values[0] != values[1]:
            return f"{name.removesuffix('_id')}, {values[0]!r} and {values[1]!r}: remove the wrong one"
    return None
