"""
Corpora of captioned images for pretraining, which are read as a stream, since they are too large for anything else.

A corpus is a number of shards, each a sequence of rows: `image`, as `datasets` stores it undecoded, `image_id`,
`person_id` (None where nobody knows, as in most corpora), `captions` and, where known, both descriptions.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ijson
from datasets import IterableDataset, load_dataset
from pydantic import BaseModel, Field

from bdam.data.benchmarks.files import validate
from bdam.data.benchmarks.records import ALIASES, Captions, ImagePath, Name
from bdam.data.descriptions import Text
from bdam.data.hub import HUB, download, reason_of


Row = dict[str, Any]
# Rows that are read at once.
CHUNK = 1000
# The columns of parquet files and of WebDataset that hold an image, and those that hold a caption.
IMAGES = ("image", "jpg", "jpeg", "png", "webp")
CAPTION = re.compile(r"caption_?\d+|txt|text")
OPTIONAL = ("person_id", "identity_description", "clothing_description")


class CorpusRecord(BaseModel):
    """
    An image of a corpus.

    Args:
        image_id: path of the image, relative to the root.
        captions: at least one.
        person_id: the person in it, a number or a name.
        identity_description, clothing_description: what was written about it.
    """

    image_id: ImagePath = Field(validation_alias=ALIASES["image_id"])
    captions: Captions = Field(min_length=1, validation_alias=ALIASES["captions"])
    person_id: Name | None = None
    identity_description: Text | None = None
    clothing_description: Text | None = None


class Corpus(Protocol):
    """
    Rows in shards.

    Args:
        source: the corpus in errors.
    """

    source: str

    @property
    def num_shards(self) -> int: ...

    def read_shard(self, index: int) -> Iterator[Row]:
        """
        The rows of a shard, in the same order each time.

        Raises:
            ValueError: if a file or a row is not as it should be, naming it and the remedy.
        """
        ...


@dataclass(frozen=True)
class StoredCorpus(Corpus):
    """A corpus whose files hold the images: parquet files, WebDataset, or a data set of the Hub."""

    source: str
    dataset: IterableDataset

    @property
    def num_shards(self) -> int:
        return self.dataset.num_shards

    def read_shard(self, index: int) -> Iterator[Row]:
        shard = self.dataset.shard(self.num_shards, index).with_format("arrow")
        rows = (row for table in shard.iter(CHUNK) for row in table.to_pylist())
        try:
            for number, row in enumerate(rows, 1):
                yield _stored_row(row, f"{self.source}, shard {index}, row {number}", f"{index}/{number}")
        except ValueError:
            raise
        except Exception as error:  # of readers of files and of the Hub, without a common class
            problem = f"{self.source}, shard {index}, cannot be read: {reason_of(error)}"
            raise ValueError(f"{problem}: download it again.") from error


@dataclass(frozen=True)
class ListedCorpus(Corpus):
    """
    A corpus whose images lie in a folder and are listed in JSON files.

    Args:
        source: the corpus in errors.
        files: the files, each a list of records, or an object with the captions of each image.
        pairs: the keys of images and captions in a record; by default those of benchmarks.
        person: the key of the person; None (default) if nobody knows.
        root: the folder that the paths of images are relative to.
    """

    source: str
    files: list[Path]
    root: Path
    pairs: tuple[tuple[str, str], ...] = ()
    person: str | None = None

    @property
    def num_shards(self) -> int:
        return len(self.files)

    def read_shard(self, index: int) -> Iterator[Row]:
        for number, record in enumerate(_read_json(self.files[index]), 1):
            location = f"{self.files[index]}, record {number}"
            if not isinstance(record, dict):
                raise ValueError(f"{location}: must be an object, got {record!r}: correct it.")
            for fields in self._images(record):
                row = _row(fields, location)
                yield {**row, "image": {"bytes": None, "path": str(self.root / row["image_id"])}}

    def _images(self, record: Row) -> Iterator[Row]:
        person = {} if self.person is None else {"person_id": record.get(self.person)}
        for image, caption in self.pairs:
            yield {"image": record.get(image), "captions": record.get(caption), **person}
        if not self.pairs:
            keys = [key for name in ("image_id", "captions") for key in ALIASES[name].choices if key != "image_id"]
            yield {key: record[key] for key in keys if key in record} | person


@dataclass(frozen=True)
class Layout:
    """
    The published layout of a corpus.

    Args:
        files: a pattern of its files, relative to the root.
        listing: further arguments of [`ListedCorpus`]; None (default) for a [`StoredCorpus`].
    """

    files: str
    listing: dict[str, Any] | None = None


CORPORA = {
    "luperson-mllm": Layout("*.json", {}),  # Tan et al. 2024
    "mals": Layout("gene_attrs/g_[ci]_*_attrs.json", {}),  # Yang et al. 2023
    "pab": Layout("annotation/train/attr_*.json", {}),  # Yang et al. 2024
    "syncpr": Layout(
        "SynCPR.json",
        {
            "pairs": (
                ("reference_image_path", "reference_caption"),
                ("target_image_path", "target_caption"),
            ),
            "person": "cpr_id",
        },
    ),
    "synth-pedes": Layout("synthpedes_dataset.json", {"person": "id"}),  # Zuo et al. 2024
    "webperson": Layout("data/train-*.parquet"),  # Zheng et al. 2025
}
# The files of a folder without a published layout, and the readers of `datasets` for them.
STORED = {".parquet": "parquet", ".tar": "webdataset"}


def open_corpus(source: str) -> Corpus:
    """
    The corpus at a source.

    Args:
        source: `NAME:ROOT`, where NAME is a key of `CORPORA` and ROOT the folder that it was unpacked to; a folder of
            parquet files or of tar files (WebDataset); or `hf:USER/NAME[@REVISION][/CONFIG]`, whose split `train` is
            streamed.

    Raises:
        FileNotFoundError: if there is no such corpus, folder or data set, or it has no files of the corpus.
    """
    name, root = _name_root(source)
    if name == HUB:
        return StoredCorpus(source, download(root, source, streaming=True, split="train"))
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No corpus at {source}: give NAME:ROOT, where NAME is one of {', '.join(CORPORA)}, a folder of parquet "
            "or tar files, or hf:USER/NAME."
        )
    layout = CORPORA[name] if name else _own_layout(folder)
    files = sorted(folder.glob(layout.files))
    if not files:
        raise FileNotFoundError(f"{folder} holds no {layout.files}: give the folder that holds them.")
    if layout.listing is not None:
        return ListedCorpus(source, files, folder, **layout.listing)
    reader = STORED[files[0].suffix]
    dataset = load_dataset(reader, data_files=list(map(str, files)), streaming=True, split="train")
    return StoredCorpus(source, dataset)


def resolve_corpus(source: str) -> str:
    """The same source (see [`open_corpus`]) with an absolute path, if it has one."""
    name, root = _name_root(source)
    if name == HUB:
        return source
    return f"{name}{':' * bool(name)}{os.path.abspath(os.path.expanduser(root))}"


def _name_root(source: str) -> tuple[str, str]:
    """`NAME:ROOT` → NAME and ROOT; `hf:ADDRESS` → `hf` and ADDRESS; any other source → `""` and the source."""
    name, _, root = source.partition(":")
    return (name, root) if root and name in (HUB, *CORPORA) else ("", source)


def _own_layout(folder: Path) -> Layout:
    """The layout of a folder of one's own: all files with the first ending of `STORED` that the folder has."""
    patterns = [f"*{ending}" for ending in STORED]
    return Layout(next((pattern for pattern in patterns if any(folder.glob(pattern))), patterns[0]))


def _stored_row(row: Row, location: str, number: str) -> Row:
    """The row of an image, whatever its columns are called. `number` names an image that has no name."""
    image = next((row[name] for name in IMAGES if row.get(name)), None)
    if image is None:
        raise ValueError(f"{location}: none of the columns {', '.join(IMAGES)} holds an image: add it.")
    if isinstance(row.get("json"), dict):
        row = row | row["json"]
    name = row.get("image_path") or row.get("__key__") or row.get("image_id") or image["path"] or number
    captions = row.get("captions") or row.get("caption")
    if captions is None:
        captions = [text for key, text in row.items() if text and CAPTION.fullmatch(key)]
    known = {key: row[key] for key in OPTIONAL if key in row}
    return {**_row({"image": str(name).lstrip("/"), "captions": captions, **known}, location), "image": image}


def _row(fields: Row, location: str) -> Row:
    found = validate(fields, CorpusRecord)
    if isinstance(found, str):
        raise ValueError(f"{location}: {found}")
    return dict(found)


def _read_json(path: Path) -> Iterator[Any]:
    """The records of a list, or those of an object whose keys are images and whose values are captions."""
    try:
        with path.open("rb") as file:
            first = file.read(64).lstrip()[:1]
            file.seek(0)
            if first == b"{":
                yield from ({"image": image, "captions": captions} for image, captions in ijson.kvitems(file, ""))
            elif first == b"[":
                yield from ijson.items(file, "item", use_float=True)
            else:
                raise ijson.JSONError("neither a list nor an object")
    except ijson.JSONError as error:
        raise ValueError(f"{path} is damaged ({reason_of(error)}): download it again.") from None
