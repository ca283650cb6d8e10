"""What a search is asked, and what it finds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from bdam.retrieval.confidence import Confidence
from bdam.retrieval.stores.base import StoredImage
from bdam.retrieval.stores.columns import check_filter


@dataclass(frozen=True)
class Hit:
    """
    An image that a search found.

    Args:
        image_id: its key in the gallery; [`Gallery.image`] opens it.
        score: `identity + clothing`.
        identity: cosine similarity of the identity halves, times `1 - clothing_weight`.
        clothing: cosine similarity of the clothing halves, times `clothing_weight`.
        row: its other columns, such as `path` and `folder`, or those of its data set.
        probability: that it shows the person of the sentence, by the second look of [`Reranker`]; None without one.
    """

    image_id: str
    score: float
    identity: float
    clothing: float
    row: dict[str, Any]
    probability: float | None = None


class Hits(list[Hit]):
    """
    The images that a search found, best first.

    Args:
        hits: the images.
        warnings: one sentence for each thing that the model lost of the query: where a sentence was cut, which words
            it does not know; and what a second look left out.
        confidence: what the scores mean; None if that is not known.
        meaning: the same in words; or why it is not known.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        warnings: Iterable[str] = (),
        confidence: Confidence | None = None,
        meaning: str = "",
    ):
        super().__init__(hits)
        self.warnings = list(warnings)
        self.confidence = confidence
        self.meaning = meaning


@dataclass(frozen=True)
class Query:
    """
    What is searched for.

    Args:
        vector: (D,), float32, weighted, see [`Embedder.weigh`].
        clothing_weight: in [0, 1].
        like_id: the id of the example, if it is an image of the gallery.
        warnings: what the model lost of the sentences.
    """

    vector: torch.Tensor
    clothing_weight: float
    like_id: str | None
    warnings: list[str]


def first_of_each(images: list[StoredImage], column: str) -> list[StoredImage]:
    """
    The images without those whose value in a column an earlier one has. Those without a value stay.

    Raises:
        ValueError: if they have no such column.
    """
    first: dict[Any, StoredImage] = {}
    for image in images:
        check_filter(column, image.row)
        value = image.row[column]
        first.setdefault((image.image_id,) if value is None else value, image)
    return list(first.values())
