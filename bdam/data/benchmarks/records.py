"""One picture as annotations tell of it, whatever they call their keys."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field, StringConstraints


# What files call the fields of a record; where a file has `image_id`, that is who the person is.
KEYS = {
    "image_id": ("image", "file_path", "img_path"),
    "person_id": ("person_id", "id", "image_id"),
    "captions": ("captions", "caption"),
}
ALIASES = {name: AliasChoices(*keys) for name, keys in KEYS.items()}
DESCRIPTIONS = ("identity_description", "clothing_description")


def _relative(path: str) -> str:
    if not path or re.search(r"^/|^[A-Za-z]:|[\\\0]|(^|/)\.\.(/|$)", path):
        raise ValueError("must lead from the picture folder to a picture inside it, with / between the folders")
    return posixpath.normpath(path).removeprefix("imgs/")


PicturePath = Annotated[str, AfterValidator(_relative)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Captions = Annotated[list[Text], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Split = Annotated[
    Literal["train", "validation", "test"],
    BeforeValidator(lambda value: {"val": "validation"}.get(str(value).lower(), str(value).lower())),
]
Number = Annotated[int, Field(ge=0, lt=2**62)]
# A number where it reads as one, so that ids in JSON and in CSV are the same.
Name = Annotated[Number | Text, Field(union_mode="left_to_right")]


class Record(BaseModel):
    """
    A picture, under the names of the schema.

    Args:
        image_id: path of the picture within the picture folder.
        person_id: who is on it; persons may have names.
        outfit_id: what they wear, told apart within the person only.
        camera_id, role: which camera took it, and whether an official protocol has it as "query" or in the "gallery".
    """

    image_id: PicturePath = Field(validation_alias=ALIASES["image_id"])
    person_id: Name = Field(validation_alias=ALIASES["person_id"])
    captions: Captions = Field(default=[], validation_alias=ALIASES["captions"])
    split: Split | None = None
    outfit_id: Name | None = None
    camera_id: Number | None = None
    role: Literal["query", "gallery"] | None = None
    identity_description: Text | None = None
    clothing_description: Text | None = None


class CaptionedRecord(Record):
    """A picture of a text benchmark: persons are numbers, and each picture has captions."""

    person_id: Number = Field(strict=True, validation_alias=ALIASES["person_id"])
    captions: Captions = Field(min_length=1, validation_alias=ALIASES["captions"])


@dataclass
class Listing:
    """
    What the folder of a benchmark holds.

    Args:
        records: one per picture.
        pictures: the folder that their paths start from.
        descriptions: the file of generated descriptions, which may not be there.
        unknown_descriptions: its lines whose picture no record has.
    """

    records: list[Record]
    pictures: Path
    descriptions: Path
    unknown_descriptions: list[str] = field(default_factory=list)

    def undescribed(self) -> dict[str, list[str]]:
        """The pictures that the descriptions leave out, by kind; none where there is no such file."""
        kinds = DESCRIPTIONS if self.descriptions.is_file() else ()
        return {kind: [record.image_id for record in self.records if getattr(record, kind) is None] for kind in kinds}


def join_records(records: Iterable[Record], source: str) -> list[Record]:
    """
    One record per picture: some files give each caption a record of its own.

    Raises:
        ValueError: if records of one picture disagree on its person, outfit or split.
    """
    pictures: dict[str, Record] = {}
    for record in records:
        first = pictures.setdefault(record.image_id, record)
        if first is record:
            continue
        for name in ("person_id", "outfit_id", "split"):
            values = getattr(first, name), getattr(record, name)
            if values[0] != values[1]:
                raise ValueError(
                    f"{source}: the records of picture {record.image_id} disagree on its {name.removesuffix('_id')}, "
                    f"{values[0]!r} and {values[1]!r}: remove the wrong one."
                )
        first.captions += record.captions
    return list(pictures.values())
