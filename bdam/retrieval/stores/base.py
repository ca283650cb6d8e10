"""The protocol of stores, and the types that it uses."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import torch


@dataclass(frozen=True)
class Span:
    """
    The numbers of a column from `start` to `end`, both included.

    Args:
        start, end: None for no bound.

    Raises:
        ValueError: if a bound is no finite number.
    """

    start: float | None = None
    end: float | None = None

    def __post_init__(self):
        if not all(math.isfinite(bound) for bound in (self.start, self.end) if bound is not None):
            raise ValueError(f"A span must have finite bounds, got {self.start} to {self.end}.")


# Columns, each with the value, the list of values or the [`Span`] that its images must have.
Filter = Mapping[str, Any]


@dataclass(frozen=True)
class EmbeddingSpace:
    """
    The model and the sizes of vectors. Vectors of equal weights and sizes can be compared.

    Args:
        checkpoint: of the model: a folder, or a name on the Hub.
        weights: fingerprint of its weights, or their commit on the Hub.
        identity_size: size of the identity half of a vector.
        clothing_size: size of the clothing half; 0 for a model without clothing stream.
    """

    checkpoint: str
    weights: str
    identity_size: int
    clothing_size: int

    @property
    def size(self) -> int:
        """The size D of a vector."""
        return self.identity_size + self.clothing_size

    def check(self, other: "EmbeddingSpace", uri: str) -> None:
        """
        Checks that vectors of another space can be compared with those of this one.

        Args:
            other: the other space.
            uri: of the store of this space, for messages.

        Raises:
            ValueError: if they cannot.
        """
        if (self.weights, self.identity_size) != (other.weights, other.identity_size):
            raise ValueError(
                f"{uri} holds vectors of {self.checkpoint} (weights {self.weights}), which do not compare with "
                f"those of {other.checkpoint} (weights {other.weights}): give that model, or another URI."
            )


@dataclass(frozen=True)
class StoredImage:
    """
    An image of a store.

    Args:
        row: its columns except the image, with the `path` of its file, or None.
        vector: (D,), float32.
    """

    row: dict[str, Any]
    vector: torch.Tensor

    @property
    def image_id(self) -> str:
        return self.row["image_id"]


class ImageState(NamedTuple):
    """
    What is compared to see whether an image has changed since it was embedded.

    Args:
        stamp: changes when its file is written; see `ROW`.
        content: digest of its bytes; see `ROW`.
        path: of its file; None if it was given by its bytes.
        identity_description: that it was fused with, if any.
    """

    stamp: int
    content: int
    path: str | None
    identity_description: str | None = None


class Store(Protocol):
    """
    Keeps rows, with the columns of `ROW` and others, and a vector of each, all of one space.

    Attributes:
        space: of the vectors.
    """

    space: EmbeddingSpace

    def __len__(self) -> int:
        """The number of images."""

    def states(self, image_ids: Collection[str] | None = None) -> dict[str, ImageState]:
        """Image id → its state, of all images, or of those of these ids that are there."""

    def ids_by_stamp(self, stamps: Collection[int]) -> dict[int, str]:
        """Stamp → the id of an image that has it, for those stamps that an image has."""

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        """
        Adds rows with their vectors, all or none.

        Args:
            rows: N rows, whose images have either bytes or a path, and whose ids the store does not have.
            vectors: (N, D), float32.

        Raises:
            ValueError: if the store cannot keep such rows.
        """

    def remove(self, image_ids: Collection[str]) -> None:
        """Removes images; ids that are not there are ignored."""

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[StoredImage]:
        """
        The images of largest inner product with a query, best first.

        Args:
            query: (D,), float32.
            k: number of images.
            filter: columns, each with the value, the list of values or the [`Span`] that its images must have; `{}`
                for all.

        Raises:
            ValueError: if the filter names an unknown column, or a value that is not of its type.
        """

    def count(self, filter: Filter) -> int:
        """The number of images that a search with this filter is among; errors are those of [`Store.search`]."""

    def find(self, image_ids: list[str]) -> list[StoredImage]:
        """The images of these ids that are there, in their order."""

    def content(self, image_id: str) -> bytes:
        """The bytes of an image that has no `path`."""

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        """All rows with their vectors (n, D), as `add` takes them, chunk by chunk."""

    def vectors(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        """The ids of all images with their vectors (n, D), chunk by chunk."""

    def choices(self) -> dict[str, list | Span]:
        """
        Column → its values, or the span of its numbers, of the columns that the web page offers as filters; `{}` if
        that is not known.
        """
