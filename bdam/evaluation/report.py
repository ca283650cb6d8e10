"""Results for people and for programs."""

import json
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table


METRICS = {"r1": "R-1", "r5": "R-5", "r10": "R-10", "map": "mAP", "minp": "mINP"}


def results_table(records: list[dict]) -> Table:
    """One line per record; the three galleries of a setting stand together."""
    splits = ", ".join(sorted({record["split"] for record in records}))
    sizes = ", ".join(sorted({str(record["num_gallery"]) for record in records}))
    title = f"Text-to-image person retrieval, {splits} split, gallery of {sizes} pictures (%)"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("protocol", "query", "clothing", "gallery"):
        table.add_column(name, overflow="fold")
    for name in (*METRICS.values(), "queries"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = None
    for record in sorted(records, key=_setting):
        setting = _setting(record)
        if previous not in (None, setting):
            table.add_section()
        protocol, query, clothing_weight = setting if setting != previous else ("", "", "")
        table.add_row(
            protocol,
            query.replace("_", " "),
            f"{clothing_weight}",
            record["gallery"],
            *(f"{record[name]:.2f}" for name in METRICS),
            str(record["num_queries"]),
        )
        previous = setting
    return table


def write_results(path: Path, records: list[dict]) -> None:
    """Writes the records as JSON, whole or not at all."""
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)


def _setting(record: dict) -> tuple[str, str, float]:
    return record["protocol"], record["query"], record["clothing_weight"]
