"""Hits as tables and figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.markup import escape
from rich.table import Table
from tqdm.auto import tqdm

from bdam.evaluation.figures import RankedQuery
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hit, Hits, Query


# Of maps of lost score. The image is seen through the deepest red, whose opacity is out of 255.
RED, DEEPEST = "#dc2626", 190


def hits_table(title: str, hits: Hits) -> Table:
    """
    A table with a row per hit: rank, the probability of a second look if there was one, score, its identity and
    clothing parts, and the path or id of the image. A line ends the likely hits, and below the table stands what the
    scores mean.
    """
    is_reranked = any(hit.probability is not None for hit in hits)
    columns = [*(["second look"] if is_reranked else []), "score", "identity", "clothing", "image"]
    table = Table("rank", *columns, title=escape(title), title_justify="left")
    table.caption, table.caption_justify = escape(hits.meaning), "left"
    for rank, hit in enumerate(hits, 1):
        probability = "–" if hit.probability is None else f"{hit.probability:.3f}"
        scores = [f"{score:.3f}" for score in (hit.score, hit.identity, hit.clothing)]
        cells = [probability, *scores] if is_reranked else scores
        is_last_likely = hits.confidence is not None and rank == hits.confidence.num_likely
        table.add_row(str(rank), *cells, escape(hit.row["path"] or hit.image_id), end_section=is_last_likely)
    return table


def hits_row(
    gallery: Gallery,
    title: str,
    hits: list[Hit],
    like: str | Image.Image | None = None,
    explained: Mapping[str, Any] | None = None,
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
    """
    example = show_image(gallery, like) if isinstance(like, str) else like
    examples = gallery.store.find([like]) if isinstance(like, str) else []
    person = examples[0].row.get("person_id") if examples else None
    right = None if person is None else [hit.row.get("person_id") == person for hit in hits]
    shown = tqdm(hits, desc="Explaining", unit="image", leave=False, disable=explained is None)
    query = None if explained is None else gallery.embed_query(**explained)
    images = [show_image(gallery, hit.image_id, query) for hit in shown]
    return RankedQuery(title, images, [hit.score for hit in hits], right, example=example)


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


def placeholder() -> Image.Image:
    """What is shown in place of an image that cannot be read."""
    image = Image.new("RGB", (160, 320), "#e2e8f0")
    text = "gone since\nit was\nindexed"
    ImageDraw.Draw(image).text(
        (80, 160), text, "#475569", ImageFont.load_default(22), anchor="mm", align="center", spacing=8
    )
    return image
