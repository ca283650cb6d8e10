"""A row per image: what a gallery knows of it, wherever the image came from and wherever the row is kept."""

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from bdam.data.images import ImageError, decode_image, file_stamp, find_image, open_image


# Of every row: the image's name in the gallery, the image, and what tells whether it has changed: the stamp of its
# file, which is quick to compare, and a digest of its content.
ROW = Features(
    {
        "image_id": Value("string"),
        "image": Image(decode=False),
        "stamp": Value("int64"),
        "content": Value("int64"),
    }
)
# Names that columns of a data set cannot keep.
RESERVED = (*ROW, "path", "part", "vector", "image_key")


def normalize_name(name: str) -> str:
    """One spelling of names that look alike: accents may be characters of their own, or not (Unicode's form C)."""
    return unicodedata.normalize("NFC", name)


def file_path(image: Mapping[str, Any] | None) -> str | None:
    """The absolute path of an image that is a file; None for one that came with its bytes, and for none."""
    if image is None or image["bytes"] is not None or not image["path"]:
        return None
    return os.path.abspath(image["path"])


def open_images(rows: Dataset) -> Dataset:
    """
    Rows whose `image` becomes a PIL image when a row is read, or None if it cannot be read; with the
    digest of its `content`, both of the same reading.
    """
    return rows.with_transform(_open_batch)


def digest(image: Mapping[str, Any] | None) -> int:
    """A number that changes when the content of an image does."""
    return _number(_read(image) or b"")


def to_table(rows: Dataset, contents: list[int]) -> pa.Table:
    """
    Rows as a store takes them, with the digests of their images, which have either bytes or an absolute path:
    one that came with its bytes forgets the file that these were read from once.
    """
    images = [
        {"bytes": None, "path": path} if (path := file_path(image)) else {"bytes": image["bytes"], "path": None}
        for image in rows["image"]
    ]
    table = rows.with_format("arrow")[:].append_column("content", pa.array(contents, pa.int64()))
    return table.set_column(table.column_names.index("image"), "image", pa.array(images, ROW["image"].pa_type))


def why_unreadable(image: dict[str, Any] | None) -> str:
    """Why an image could not be read."""
    try:
        decode_image(image, "")
    except ImageError as error:
        return error.reason
    return "it could not be read at first"


def stamp_of(image: Mapping[str, Any] | None) -> int:
    """A number that changes when the file of an image is written anew."""
    if (path := file_path(image)) is None:
        return digest(image)
    try:
        return _number(file_stamp(Path(path)).encode())
    except (OSError, ValueError):
        return 0


def _read(image: Mapping[str, Any] | None) -> bytes | None:
    """The content of an image; None if there is none, or none that can be read."""
    if (path := file_path(image)) is None:
        return image["bytes"] if image else None
    try:
        return find_image(Path(path)).read_bytes()
    except (OSError, ValueError):
        return None


def _open_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    contents = [_read(image) for image in batch["image"]]
    images = [_open(content) for content in contents]
    return {**batch, "image": images, "content": [_number(content or b"") for content in contents]}


def _open(content: bytes | None) -> PILImage.Image | None:
    try:
        return open_image(BytesIO(content)) if content is not None else None
    except ImageError:
        return None


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "big")
