"""What every store does, and the types that it does it with."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import torch

from bdam.retrieval.rows import ROW, normalize_name


Filter = Mapping[str, Any]


@dataclass(frozen=True)
class EmbeddingSpace:
    """
    What makes vectors comparable.

    Args:
        checkpoint: the model that they come from: a folder, or a name on the Hub.
        weights: a fingerprint of its weights, or their commit on the Hub.
        identity_size, clothing_size: how many numbers of a vector are of the identity and of the clothing.
    """

    checkpoint: str
    weights: str
    identity_size: int
    clothing_size: int

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        return self.identity_size + self.clothing_size

    def check(self, other: "EmbeddingSpace", uri: str) -> None:
        """
        Raises:
            ValueError: if vectors of the other space do not compare with those of this one, which are kept at `uri`.
        """
        if (self.weights, self.identity_size) != (other.weights, other.identity_size):
            raise ValueError(
                f"{uri} holds vectors of {self.checkpoint} (weights {self.weights}), which do not compare with "
                f"those of {other.checkpoint} (weights {other.weights}): give that model, or another place."
            )


@dataclass(frozen=True)
class StoredImage:
    """An image of a store: its columns, with the `path` of its file or None; and its vector (D,)."""

    row: dict[str, Any]
    vector: torch.Tensor

    @property
    def image_id(self) -> str:
        return self.row["image_id"]


class ImageState(NamedTuple):
    """
    An image as it was when it was embedded.

    Args:
        stamp, content: see `ROW`.
        path: its file; None if it came with its bytes.
        identity_description: what it was fused with, if anything.
    """

    stamp: int
    content: int
    path: str | None
    identity_description: str | None = None


class Store(Protocol):
    """Keeps rows with the columns of `ROW` and a vector each, all of one space."""

    space: EmbeddingSpace

    def __len__(self) -> int: ...

    def states(self, image_ids: Collection[str] | None = None) -> dict[str, ImageState]:
        """The images by name, all or those asked for, each as it was when it was embedded."""

    def ids_by_stamp(self, stamps: Collection[int]) -> dict[int, str]:
        """By stamp, the name of an image that has it, as far as there are any."""

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        """Adds rows, whose images have either bytes or a path, with their vectors (N, D), whole or not at all."""

    def remove(self, image_ids: Collection[str]) -> None:
        """Removes images."""

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[StoredImage]:
        """
        The k images of largest inner product with the query (D,), best first, among those whose columns have the
        values, or one of the lists of values, that the filter names.

        Raises:
            ValueError: if the filter names an unknown column.
        """

    def find(self, image_ids: list[str]) -> list[StoredImage]:
        """The images of these names, as far as they are there."""

    def content(self, image_id: str) -> bytes:
        """The bytes of an image that is no file."""

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        """All rows with their vectors, as `add` takes them."""

    def vectors(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        """The names of all images with their vectors (n, D), some at a time."""

    def choices(self) -> dict[str, list]:
        """Columns to filter by, with their values, where these are few and known."""


def check_filter(name: str, columns: Iterable[str]) -> None:
    """
    Raises:
        ValueError: if rows with these columns have none of this name to filter by.
    """
    if name not in (known := filter_columns(columns)):
        raise ValueError(f"Nothing to filter by is called {name!r}: there is {', '.join(known)}.")


def filter_columns(columns: Iterable[str]) -> list[str]:
    """Those of the columns that rows can be filtered by."""
    return [name for name in columns if name not in (*ROW, "identity_description", "path", "part")]


def filter_values(name: str, wanted: Any, kind: pa.DataType) -> pa.Array:
    """
    The values that a filter asks for, in the type of the column of this name; words are converted to that type.

    Raises:
        ValueError: if the column holds no such values.
    """
    values = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    values = [normalize_name(value) if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values).cast(kind)
    except (pa.ArrowException, OverflowError):
        raise ValueError(f"{name!r} holds {kind}, not {values!r}.") from None
