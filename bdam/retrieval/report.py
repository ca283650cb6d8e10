"""What was found, as tables."""

from rich.markup import escape
from rich.table import Table

from bdam.retrieval.gallery import Hit


def hits_table(title: str, hits: list[Hit]) -> Table:
    """A row per picture, best first: its score, what the person and the clothes have in it, and where it is."""
    table = Table("rank", "score", "identity", "clothing", "picture", title=escape(title), title_justify="left")
    for rank, hit in enumerate(hits, 1):
        scores = (f"{score:.3f}" for score in (hit.score, hit.identity, hit.clothing))
        table.add_row(str(rank), *scores, escape(hit.row["path"] or hit.picture))
    return table
