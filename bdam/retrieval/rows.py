"""The rows of a gallery: the columns that each image has, whatever its source and store."""

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


# Columns of every row: the key of the image in the gallery, the image, the stamp of its file, which changes when the
# file is written, and the digest of its content.
ROW = Features(
    {
        "image_id": Value("string"),
        "image": Image(decode=False),
        "stamp": Value("int64"),
        "content": Value("int64"),
    }
)
# Columns of a data set with these names are left out.
RESERVED = (*ROW, "path", "part", "vector", "image_key")


def normalize_name(name: str) -> str:
    """A name in Unicode's normalization form C, so that names that look alike are equal."""
    return unicodedata.normalize("NFC", name)


def file_path(image: Mapping[str, Any] | None) -> str | None:
    """The absolute path of an image that is a file; None for one that is given by its bytes, or missing."""
    if image is None or image["bytes"] is not None or not image["path"]:
        return None
    return os.path.abspath(image["path"])


def open_images(rows: Dataset) -> Dataset:
    """
    Rows with images that are decoded when a row is read.

    Args:
        rows: with a column `image`.

    Returns:
        Rows whose `image` is a PIL image, or None if it cannot be read, and whose `content` is its digest. Both come
        from one read of the file.
    """
    return rows.with_transform(_open_batch)


def digest(image: Mapping[str, Any] | None) -> int:
    """A number of 56 bits that changes when the bytes of an image do (SHA-256, cut)."""
    return _number(_read(image) or b"")


def to_table(rows: Dataset, contents: list[int]) -> pa.Table:
    """
    Rows as [`Store.add`] takes them: each image has either bytes or an absolute path.

    Args:
        rows: N rows without `content`.
        contents: the digests of their N images.
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
    return "it could not be read when it was indexed"


def stamp_of(image: Mapping[str, Any] | None) -> int:
    """A number that changes when the file of an image is written; the digest of an image without a file."""
    if (path := file_path(image)) is None:
        return digest(image)
    try:
        return _number(file_stamp(Path(path)).encode())
    except (OSError, ValueError):
        return 0


def _read(image: Mapping[str, Any] | None) -> bytes | None:
    """The bytes of an image; None if it is missing or cannot be read."""
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
