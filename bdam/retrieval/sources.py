"""Pictures of a folder or of a data set, as rows of one kind."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from bdam.data.benchmarks.descriptions import Description
from bdam.data.benchmarks.files import read_file
from bdam.data.loading import load_split
from bdam.data.pictures import (
    PictureError,
    decode_picture,
    file_stamp,
    find_picture,
    list_pictures,
    open_picture,
    read_column,
)


# Of every row: the picture's name in the gallery, the picture, and what tells whether it has changed: the stamp of its
# file, which is quick to compare, and a digest of its content.
ROW = Features(
    {
        "picture": Value("string"),
        "image": Image(decode=False),
        "stamp": Value("int64"),
        "content": Value("int64"),
    }
)
# Names that columns of a data set cannot keep.
RESERVED = (*ROW, "image_id", "path", "part", "vector", "picture_key")


@dataclass(frozen=True)
class Pictures:
    """
    Pictures to be taken into a gallery.

    Args:
        rows: the columns of `ROW` but for `content`, `identity_description` if pictures are fused with it, and what
            can be filtered by.
        source: what errors call them.
        folder: where they lie, if they are those of a folder.
    """

    rows: Dataset
    source: str
    folder: Path | None = None

    @property
    def has_descriptions(self) -> bool:
        return "identity_description" in self.rows.column_names


def find_pictures(source: str, split: str, use_descriptions: bool = False) -> Pictures:
    """
    The pictures of a name on the command line, see [`read_pictures`]: of a folder, or of the split of a data set; and,
    where they are to be used, their identity descriptions, from the data set or from `descriptions.jsonl` in the
    folder.

    Raises:
        FileNotFoundError: besides, if there is nothing of that name, or no descriptions.
    """
    folder = Path(source).expanduser()
    if not folder.exists() and ":" not in source:
        raise FileNotFoundError(f"Nothing at {source}: give a folder of pictures or of a data set, or NAME:ROOT.")
    if not folder.is_dir() or (folder / "dataset_dict.json").is_file():
        dataset = load_split(source, split)
        columns = (read_column(dataset, name) for name in ("image_id", "identity_description"))
        return read_pictures(dataset, dict(zip(*columns, strict=True)) if use_descriptions else None, source)
    path = folder / "descriptions.jsonl"
    if not use_descriptions:
        return read_pictures(folder)
    if not path.is_file():
        raise FileNotFoundError(f"No descriptions at {path}: write them by `bdam caption describe {folder}`.")
    return read_pictures(
        folder, {record.image_id: record.identity_description for _, record in read_file(path, Description)}
    )


def read_pictures(
    source: str | Path | Dataset, descriptions: Mapping[str, str | None] | None = None, name: str = "the data set"
) -> Pictures:
    """
    The pictures of a folder, which can be filtered by the `folder` that a file lies in, or of a data set, by its
    columns of numbers, words and truth values.

    Args:
        source: a folder, whose pictures are named by their paths in it; or a data set with a column `image`, whose
            pictures are named by `image_id` or, without that, by their content.
        descriptions: identity descriptions by the pictures' names, as far as there are any.
        name: what errors call a data set.

    Raises:
        FileNotFoundError: if there is no such folder, or no picture in it.
        ValueError: if the data set has no pictures, one without a name, or two of one name.
    """
    if isinstance(source, Dataset):
        rows, folder = _of_data_set(source, name), None
    else:
        folder = Path(source).expanduser().resolve()
        rows, name = _of_folder(folder), str(source)
    names = rows["picture"][:]
    (twice, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ValueError(f"{name}: two pictures are named {twice}: give each a name of its own.")
    if descriptions is not None:
        by_name = {normalize_name(picture): text for picture, text in descriptions.items()}
        texts = [by_name.get(picture) for picture in names]
        rows = rows.add_column("identity_description", texts, feature=Value("string"))
    stamps = [_stamp(image) for image in rows["image"]]
    return Pictures(rows.add_column("stamp", stamps, feature=ROW["stamp"]), name, folder)


def normalize_name(name: str) -> str:
    """One spelling of names that look alike: accents may be characters of their own, or not (Unicode's form C)."""
    return unicodedata.normalize("NFC", name)


def file_path(image: Mapping[str, Any] | None) -> str | None:
    """The absolute path of a picture that is a file; None for one that came with its bytes, and for none."""
    if image is None or image["bytes"] is not None or not image["path"]:
        return None
    return os.path.abspath(image["path"])


def open_rows(pictures: Pictures, places: list[int]) -> Dataset:
    """
    Some of the rows, whose `image` becomes a PIL image when a row is read, or None if it cannot be read; with the
    digest of its `content`, both of the same reading.
    """
    return pictures.rows.select(places).with_transform(_open_batch)


def digest(image: Mapping[str, Any] | None) -> int:
    """A number that changes when the content of a picture does."""
    return _number(_read(image) or b"")


def to_table(rows: Dataset, contents: list[int]) -> pa.Table:
    """
    Rows as a collection takes them, with the digests of their pictures, which have either bytes or an absolute path:
    one that came with its bytes forgets the file that these were read from once.
    """
    images = [
        {"bytes": None, "path": path} if (path := file_path(image)) else {"bytes": image["bytes"], "path": None}
        for image in rows["image"]
    ]
    table = rows.with_format("arrow")[:].append_column("content", pa.array(contents, pa.int64()))
    return table.set_column(table.column_names.index("image"), "image", pa.array(images, ROW["image"].pa_type))


def why_unreadable(image: dict[str, Any] | None) -> str:
    """Why a picture could not be read."""
    try:
        decode_picture(image, "")
    except PictureError as error:
        return error.reason
    return "it could not be read at first"


def _of_folder(folder: Path) -> Dataset:
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {folder}: give one with pictures, or a data set.")
    paths = [path.relative_to(folder) for path in list_pictures(folder)]
    columns = {
        "picture": [normalize_name(path.as_posix()) for path in paths],
        "image": [{"path": str(folder / path), "bytes": None} for path in paths],
        "folder": [normalize_name(path.parent.as_posix()) for path in paths],
    }
    features = {"picture": ROW["picture"], "image": ROW["image"], "folder": Value("string")}
    return Dataset.from_dict(columns, Features(features))


def _of_data_set(dataset: Dataset, name: str) -> Dataset:
    if "image" not in dataset.column_names or not len(dataset):
        raise ValueError(
            f"{name} has no pictures: it needs rows, and a column `image`; it has {dataset.column_names}."
        )
    dataset = dataset.with_format(None).cast_column("image", Image(decode=False))
    filters = [
        column
        for column, feature in dataset.features.items()
        if isinstance(feature, Value) and column not in RESERVED and "description" not in column
    ]
    rows = dataset.select_columns(["image", *filters])
    return rows.add_column("picture", _names(dataset, name), feature=ROW["picture"])


def _names(dataset: Dataset, name: str) -> list[str]:
    if "image_id" not in dataset.column_names:
        return [f"{digest(image):016x}" for image in dataset["image"]]
    names = dataset["image_id"][:]
    if None in names:
        raise ValueError(f"{name}, row {names.index(None)}: `image_id` is missing: give each picture a name.")
    return [normalize_name(str(image_id)) for image_id in names]


def _stamp(image: Mapping[str, Any] | None) -> int:
    """A number that changes when the file of a picture is written anew."""
    if (path := file_path(image)) is None:
        return digest(image)
    try:
        return _number(file_stamp(Path(path)).encode())
    except (OSError, ValueError):
        return 0


def _read(image: Mapping[str, Any] | None) -> bytes | None:
    """The content of a picture; None if there is none, or none that can be read."""
    if (path := file_path(image)) is None:
        return image["bytes"] if image else None
    try:
        return find_picture(Path(path)).read_bytes()
    except (OSError, ValueError):
        return None


def _open_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    contents = [_read(image) for image in batch["image"]]
    images = [_open(content) for content in contents]
    return {**batch, "image": images, "content": [_number(content or b"") for content in contents]}


def _open(content: bytes | None) -> PILImage.Image | None:
    try:
        return open_picture(BytesIO(content)) if content is not None else None
    except PictureError:
        return None


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "big")
