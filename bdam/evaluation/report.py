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


def analysis_table(analysis: dict) -> Table:
    """Gates, fusion weights and probes beside the paper's figures; what there is nothing of says so."""
    title = f"Inside {analysis['run']}: {analysis['split']} split, {analysis['num_pictures']} pictures"
    table = Table("", "", title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("this run", "paper"):
        table.add_column(name, justify="right")
    for kind, label in (("gates", "gate"), ("fusion_weights", "fusion weight")):
        for name, value in analysis[kind].items():
            table.add_row(label, name, _mean_and_std(value), _mean_and_std(value["paper"]))
        if not analysis[kind]:
            table.add_row(label, "", "none")
        table.add_section()
    for kind, probe in analysis["probes"].items():
        for name, area in probe["areas"].items():
            table.add_row(
                f"ROC AUC of {len(probe['words'])} {kind} words", f"from {name}", f"{area:.2f}", "chance 0.50"
            )
    if not analysis["probes"]:
        table.add_row("ROC AUC of words", "", "no words to ask for")
    table.add_section()
    table.add_row("training log", "", ", ".join(analysis["logged"]) or "no losses")
    for name, is_drawn in analysis["figures"].items():
        if not is_drawn:
            table.add_row(name, "", "nothing to draw")
    return table


def write_results(path: Path, records: list[dict] | dict) -> None:
    """Writes the records as JSON, whole or not at all."""
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)


def _mean_and_std(value: dict) -> str:
    return f"{value['mean']:.2f} ± {value['std']:.2f}" if "std" in value else f"{value['mean']:.2f}"


def _setting(record: dict) -> tuple[str, str, float]:
    return record["protocol"], record["query"], record["clothing_weight"]
