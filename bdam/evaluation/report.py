"""Results for people and for programs."""

import json
from pathlib import Path

from rich.table import Table


METRICS = {"r1": "R-1", "r5": "R-5", "r10": "R-10", "map": "mAP", "minp": "mINP"}


def results_table(records: list[dict]) -> Table:
    """One line per record; the three galleries of a setting stand together."""
    splits = ", ".join(sorted({record["split"] for record in records}))
    table = Table(title=f"Text-to-image person retrieval, {splits} split (%)")
    for name in ("protocol", "query", "clothing weight", "gallery"):
        table.add_column(name, no_wrap=True)
    for name in METRICS.values():
        table.add_column(name, justify="right")
    table.add_column("queries × gallery", justify="right")
    previous = None
    for record in sorted(records, key=_setting):
        protocol, query, clothing_weight = _setting(record)
        if previous is not None and previous != protocol:
            table.add_section()
        previous = protocol
        table.add_row(
            protocol,
            query.replace("_", " "),
            f"{clothing_weight:g}",
            record["gallery"],
            *(f"{record[name]:.2f}" for name in METRICS),
            f"{record['num_queries']} × {record['num_gallery']}",
        )
    return table


def write_results(path: Path, records: list[dict]) -> None:
    """Writes the records as JSON, whole or not at all."""
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)


def _setting(record: dict) -> tuple[str, str, float]:
    return record["protocol"], record["query"], record["clothing_weight"]
