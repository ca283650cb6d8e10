"""Hits of searches: as a table in the terminal, or as JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from bdam.commands.options import console, errors


if TYPE_CHECKING:
    from bdam.retrieval.hits import Hits


def to_record(title: str, hits: "Hits") -> dict[str, Any]:
    """The hits of a query for JSON, with what their scores mean and warnings about its sentences."""
    return {
        "query": title,
        "warnings": hits.warnings,
        "confidence": None if hits.confidence is None else asdict(hits.confidence),
        "meaning": hits.meaning,
        "hits": [*map(asdict, hits)],
    }


def print_hits(title: str, hits: "Hits") -> None:
    """Prints the hits of a query as a table, after the warnings about its sentences."""
    from bdam.retrieval.display import hits_table

    for warning in hits.warnings:
        errors.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    console.print(hits_table(title, hits))
