"""Hides one part of an image after another, and measures how much its score falls (Zeiler and Fergus 2014)."""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch
from PIL import ImageStat
from PIL.Image import Image

from bdam.retrieval.embedder import Embedder


# Rows and columns of a map: cells of a pedestrian crop, twice as high as wide, are squares.
CELLS = (8, 4)


@dataclass(frozen=True, eq=False)
class LostScore:
    """
    What the score of an image loses when a part of the image is hidden, for each cell of a grid over the image.
    Negative where the score gains.

    Args:
        identity: (rows, columns), float32; what [`Hit.identity`] loses.
        clothing: (rows, columns), float32; what [`Hit.clothing`] loses.
    """

    identity: np.ndarray
    clothing: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """(rows, columns), float32; what [`Hit.score`] loses."""
        return self.identity + self.clothing


def lost_score(
    embedder: Embedder,
    query: torch.Tensor,
    image: Image,
    description: str | None = None,
    cells: tuple[int, int] = CELLS,
) -> LostScore:
    """
    What the score of an image loses, cell by cell, when the cell is hidden.

    Args:
        embedder: embeds the image and its copies with a hidden cell, as one list.
        query: (D,), weighted, see [`Embedder.weigh`].
        image: in RGB.
        description: the identity description that the image and its copies are fused with, if any.
        cells: rows and columns of the grid.

    Raises:
        ValueError: if there is no row or no column.
    """
    if min(cells) < 1:
        raise ValueError(f"`cells` must be at least one row and one column, got {cells}.")
    images = [image, *(hide(image, box) for box in cell_boxes(image.size, cells))]
    vectors = embedder(images=images, descriptions=[description] * len(images))
    parts = (part.numpy() for part in embedder.score_parts(query, vectors))
    return LostScore(*((part[0] - part[1:]).reshape(cells) for part in parts))


def cell_boxes(size: tuple[int, int], cells: tuple[int, int] = CELLS) -> list[tuple[int, int, int, int]]:
    """
    What is hidden for each cell, row by row: the cell and half a cell around it, as far as the image goes. Boxes that
    overlap agree better with where things are than the cells alone (docs/results).

    Args:
        size: `(width, height)` of the image in pixels.
        cells: rows and columns of the grid.

    Returns:
        `(left, top, right, bottom)` in pixels, of at least one pixel each.
    """
    (width, height), (rows, columns) = size, cells
    across, down = _spans(width, columns), _spans(height, rows)
    return [(left, top, right, bottom) for top, bottom in down for left, right in across]


def hide(image: Image, box: tuple[int, int, int, int]) -> Image:
    """A copy of an RGB image whose mean color fills a box."""
    red, green, blue = map(round, ImageStat.Stat(image).mean)
    copy = image.copy()
    copy.paste((red, green, blue), box)
    return copy


def _spans(length: int, parts: int) -> list[tuple[int, int]]:
    step = length / parts
    return [(max(floor((part - 0.5) * step), 0), min(ceil((part + 1.5) * step), length)) for part in range(parts)]
