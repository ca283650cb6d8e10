"""Benchmarks that search by an image and a sentence about what the person wears now."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from bdam.data.descriptions import DESCRIPTIONS_FILE, Text

from .files import scan_file
from .records import ImagePath, Listing, Record, join_records


class GalleryRecord(BaseModel):
    """An image of the gallery. It is right for queries with the same `instance_id`; with -1, it is right for none."""

    file_path: ImagePath
    instance_id: int = Field(strict=True, ge=-1)


class QueryRecord(GalleryRecord):
    """A query: an image, and a caption of the clothes in the images to find."""

    caption: Text


ROLES: dict[str, type[GalleryRecord]] = {"query": QueryRecord, "gallery": GalleryRecord}


@dataclass(frozen=True)
class ComposedFiles:
    """
    The layout of ITCPR (Liu et al. 2024): `query.json` and `gallery.json`. Right is an image of the same instance, so
    that other images of the person are wrong; each image of no instance is a person of its own.
    """

    def read(self, root: Path) -> Listing:
        """
        The records below `root`; those that are not valid are left out and described in `problems`.

        Raises:
            FileNotFoundError: if one of the two files is missing.
        """
        if missing := [f"{role}.json" for role in ROLES if not (root / f"{role}.json").is_file()]:
            raise FileNotFoundError(f"{root} holds no {' nor '.join(missing)}: give the folder of both.")
        problems: list[str] = []
        records = join_records((found for role in ROLES for found in self._scan(root, role, problems)), problems)
        return Listing(records, root, root / DESCRIPTIONS_FILE, problems)

    def _scan(self, root: Path, role: str, problems: list[str]) -> Iterator[tuple[str, Record]]:
        path = root / f"{role}.json"
        for location, found in scan_file(path, ROLES[role], problems):
            known = found.instance_id >= 0
            fields = {
                "image": found.file_path,
                "person_id": str(found.instance_id) if known else f"none of {found.file_path}",
                "captions": [found.caption] if isinstance(found, QueryRecord) else [],
                "role": role,
                "split": "test",
            }
            yield f"{path}, {location}", Record.model_validate(fields)
