"""Hits as tables and figures."""

from PIL import Image, ImageDraw, ImageFont
from rich.markup import escape
from rich.table import Table

from bdam.evaluation.figures import RankedQuery
from bdam.retrieval.gallery import Gallery, Hit


def hits_table(title: str, hits: list[Hit]) -> Table:
    """A table with a row per hit: rank, score, its identity and clothing parts, and the path or id of the image."""
    table = Table("rank", "score", "identity", "clothing", "image", title=escape(title), title_justify="left")
    for rank, hit in enumerate(hits, 1):
        scores = (f"{score:.3f}" for score in (hit.score, hit.identity, hit.clothing))
        table.add_row(str(rank), *scores, escape(hit.row["path"] or hit.image_id))
    return table


def hits_row(gallery: Gallery, title: str, hits: list[Hit], like: str | Image.Image | None = None) -> RankedQuery:
    """
    A query and its hits for [`ranked_grid`].

    Args:
        gallery: that was searched.
        title: of the row.
        hits: images to show, best first.
        like: the example of the query, if it had one: an image, or the id of one of the gallery. If that one has a
            `person_id`, hits of the same person are marked as right and the others as wrong.
    """
    example = show_image(gallery, like) if isinstance(like, str) else like
    examples = gallery.store.find([like]) if isinstance(like, str) else []
    person = examples[0].row.get("person_id") if examples else None
    right = None if person is None else [hit.row.get("person_id") == person for hit in hits]
    images, scores = [show_image(gallery, hit.image_id) for hit in hits], [hit.score for hit in hits]
    return RankedQuery(title, images, scores, right, example=example)


def show_image(gallery: Gallery, image_id: str) -> Image.Image:
    """An image of the gallery; a placeholder if it cannot be read."""
    try:
        return gallery.image(image_id)
    except (OSError, ValueError):
        return _placeholder()


def _placeholder() -> Image.Image:
    image = Image.new("RGB", (160, 320), "#e2e8f0")
    text = "gone since\nit was\nindexed"
    ImageDraw.Draw(image).text(
        (80, 160), text, "#475569", ImageFont.load_default(22), anchor="mm", align="center", spacing=8
    )
    return image
