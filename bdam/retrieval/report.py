"""What was found, as tables and figures."""

from PIL.Image import Image
from rich.markup import escape
from rich.table import Table

from bdam.evaluation.figures import RankedQuery
from bdam.retrieval.gallery import Gallery, Hit


def hits_table(title: str, hits: list[Hit]) -> Table:
    """A row per picture, best first: its score, what the person and the clothes have in it, and where it is."""
    table = Table("rank", "score", "identity", "clothing", "picture", title=escape(title), title_justify="left")
    for rank, hit in enumerate(hits, 1):
        scores = (f"{score:.3f}" for score in (hit.score, hit.identity, hit.clothing))
        table.add_row(str(rank), *scores, escape(hit.row["path"] or hit.picture))
    return table


def hits_row(gallery: Gallery, title: str, hits: list[Hit], like: str | Image | None = None) -> RankedQuery:
    """
    What [`ranked_grid`] draws, with the example that was searched by, if there was one. Who is on the pictures is
    right or wrong only where an example of the gallery is, of which the same is known.
    """
    example = gallery.picture(like) if isinstance(like, str) else like
    entries = gallery.collection.find([like]) if isinstance(like, str) else []
    person = entries[0].row.get("person_id") if entries else None
    right = None if person is None else [hit.row.get("person_id") == person for hit in hits]
    pictures, scores = [gallery.picture(hit.picture) for hit in hits], [hit.score for hit in hits]
    return RankedQuery(title, pictures, scores, right, example=example)
