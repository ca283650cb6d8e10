"""Hits as tables and figures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.markup import escape
from rich.table import Table
from tqdm.auto import tqdm

from bdam.data.images import is_image
from bdam.evaluation.figures import RankedQuery
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hit, Hits, Query


# Of maps of lost score. The image is seen through the deepest red, whose opacity is out of 255.
RED, DEEPEST = "#dc2626", 190
# Of a table of hits, after the rank.
COLUMNS = ("second look", "score", "identity", "clothing", "time", "image")
OPTIONAL = ("second look", "time")

# Shows an image in the frame that it was cut from, by its row; None where that is not known.
InFrame = Callable[[dict[str, Any]], Image.Image | None]


def hits_table(title: str, hits: Hits) -> Table:
    """
    A table with a row per hit: rank, the probability of a second look if there was one, score, its identity and
    clothing parts, the time in the video if there is one, and the path or id of the image. A line ends the likely
    hits, and below the table stands what the scores mean.
    """
    rows = [_cells(hit) for hit in hits]
    columns = [name for name in COLUMNS if name not in OPTIONAL or any(cells[name] for cells in rows)]
    table = Table("rank", *columns, title=escape(title), title_justify="left")
    table.caption, table.caption_justify = escape(hits.meaning), "left"
    for rank, cells in enumerate(rows, 1):
        is_last_likely = hits.confidence is not None and rank == hits.confidence.num_likely
        table.add_row(str(rank), *(cells[name] or "–" for name in columns), end_section=is_last_likely)
    return table


def _cells(hit: Hit) -> dict[str, str]:
    """The cells of the row of a hit, by column; a cell is empty if its value is not known."""
    probability = "" if hit.probability is None else f"{hit.probability:.3f}"
    scores = (f"{score:.3f}" for score in (hit.score, hit.identity, hit.clothing))
    name = escape(hit.row["path"] or hit.image_id)
    return dict(zip(COLUMNS, (probability, *scores, show_time(hit.row), name), strict=True))


def hits_row(
    gallery: Gallery,
    title: str,
    hits: list[Hit],
    like: str | Image.Image | None = None,
    explained: Mapping[str, Any] | None = None,
    in_frame: InFrame | None = None,
) -> RankedQuery:
    """
    A query and its hits for [`ranked_grid`].

    Args:
        gallery: that was searched.
        title: of the row.
        hits: images to show, best first.
        like: the example of the query, if it had one: an image, or the id of one of the gallery. If that one has a
            `person_id`, hits of the same person are marked as right and the others as wrong.
        explained: the query, as [`Gallery.explain`] takes it, if the hits are to be shown with [`lay_over`].
        in_frame: shows the hits that come from footage in their frames; None if they are to be shown alone.
    """
    example = show_image(gallery, like) if isinstance(like, str) else like
    examples = gallery.store.find([like]) if isinstance(like, str) else []
    person = examples[0].row.get("person_id") if examples else None
    right = None if person is None else [hit.row.get("person_id") == person for hit in hits]
    shown = tqdm(hits, desc="Explaining", unit="image", leave=False, disable=explained is None)
    query = None if explained is None else gallery.embed_query(**explained)
    images = [show_image(gallery, hit.image_id, query) for hit in shown]
    frames = None if in_frame is None else [show_frame(hit.row, in_frame) for hit in hits]
    return RankedQuery(title, images, [hit.score for hit in hits], right, example=example, frames=frames)


def show_image(gallery: Gallery, image_id: str, query: Query | None = None) -> Image.Image:
    """
    An image of the gallery; a placeholder if it cannot be read.

    Args:
        gallery: that has it.
        image_id: the image.
        query: which the image is to be explained for with [`lay_over`], if any.
    """
    image = read_image(gallery, image_id)
    if image is None:
        return placeholder()
    return image if query is None else lay_over(image, gallery.explain_image(query, image_id, image).score)


def read_image(gallery: Gallery, image_id: str) -> Image.Image | None:
    """An image of the gallery; None if it cannot be read."""
    try:
        return gallery.image(image_id)
    except (OSError, ValueError):
        return None


def show_frame(row: dict[str, Any], in_frame: InFrame) -> tuple[Image.Image, str] | None:
    """
    The frame that an image was cut from, a placeholder if it is gone or has changed, with its source and time; None
    if the image does not come from footage.
    """
    if row.get("source") is None:
        return None
    label = f"{row['source']} {show_time(row)}".rstrip()
    return in_frame(row) or placeholder("not in\nthe footage", (320, 180)), label


def show_time(row: dict[str, Any]) -> str:
    """The time of an image in its video, such as 1:05.5; empty for photographs, and where no time is known."""
    time, source = row.get("time"), row.get("source")
    if not isinstance(time, int | float) or (source and is_image(Path(source))):
        return ""
    return "{:.0f}:{:04.1f}".format(*divmod(round(time, 1), 60))


def lay_over(image: Image.Image, lost: np.ndarray) -> Image.Image:
    """
    An image in gray, red where its score is lost: the redder, the more.

    Args:
        image: in RGB.
        lost: (rows, columns), a map of [`LostScore`]. Its largest value is the deepest red; what is not above 0 stays
            gray.
    """
    shares = lost.clip(0) / max(lost.max(), np.finfo(lost.dtype).tiny)
    cells = Image.fromarray((DEEPEST * shares).round().astype(np.uint8))
    red = Image.new("RGB", image.size, RED)
    return Image.composite(red, image.convert("L").convert("RGB"), cells.resize(image.size, Image.Resampling.BICUBIC))


def placeholder(text: str = "gone since\nit was\nindexed", size: tuple[int, int] = (160, 320)) -> Image.Image:
    """What is shown in place of an image or a frame that cannot be read."""
    image = Image.new("RGB", size, "#e2e8f0")
    center, font = (size[0] // 2, size[1] // 2), ImageFont.load_default(22)
    ImageDraw.Draw(image).text(center, text, "#475569", font, anchor="mm", align="center", spacing=8)
    return image
