"""Results for people and for programs."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE, SIMPLE_HEAD
from rich.table import Table

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.writing import written_whole
from bdam.evaluation.metrics import PROTOCOLS
from bdam.evaluation.published import METHODS, TABLE_I


METRICS = {"r1": "R-1", "r5": "R-5", "r10": "R-10", "map": "mAP", "minp": "mINP"}
# What a study is read by, the R-1 of these settings: `(protocol, gallery, query, clothing)`. The last three are one
# search of the three galleries, side by side.
HEADLINES = {
    "mix: picture": ("standard", "picture", "caption", "mix"),
    "clothes changed: picture": ("clothes-changed", "picture", "identity_description", "identity alone"),
    "identity: picture": ("standard", "picture", "caption", "identity alone"),
    "identity: picture + description": ("standard", "picture+description", "caption", "identity alone"),
    "identity: description": ("standard", "description", "caption", "identity alone"),
}
LEGEND = """\
R-1 in percent: mean ± standard deviation over the seeds. *Mix* and *identity* search by caption under the standard
protocol; the mix counts clothing as much as validation chose for each run, identity leaves it out. *Clothes changed*
searches by identity description among the person's pictures in other clothes. A dash: the model has no such stream or
gallery. The last column is published by the paper, on CUHK-PEDES: another data set, not comparable with the others."""


def results_table(records: list[dict]) -> Table:
    """
    One line per record, `c` being how much clothing counts; the models and the three galleries of a setting stand
    together.
    """
    data, splits, models = ({record[name]: None for record in records} for name in ("data", "split", "checkpoint"))
    title = f"Person retrieval, {', '.join(splits)} split of {', '.join(data)} (%)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # Names of models are long: they are numbered where there are several, and told below.
    numbers = {model: str(number) for number, model in enumerate(models, 1)} if len(models) > 1 else {}
    table.caption = ", ".join(f"model {number}: {model}" for model, number in numbers.items()) or None
    for name in ("protocol", "query", "c", *(["model"] if numbers else []), "gallery"):
        table.add_column(name, overflow="fold")
    for name in (*METRICS.values(), "queries", "among"):
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
            *([numbers[record["checkpoint"]]] if numbers else []),
            record["gallery"],
            *(f"{record[name]:.2f}" for name in METRICS),
            str(record["num_queries"]),
            str(record["num_gallery"]),
        )
        previous = setting
    return table


def published_table(records: list[dict], benchmark: str) -> Table:
    """
    What was measured on the test split of a benchmark, and what Table I of the paper publishes, marked as such; where
    the split is not as it was published, the table says that the two do not compare.
    """
    names = [name for name in METRICS if name != "minp"]
    table = Table(title=f"{benchmark}, standard protocol, by caption (%)", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("method", "backbone", "source"):
        table.add_column(name, overflow="fold")
    for name in names:
        table.add_column(METRICS[name], justify="right", no_wrap=True)
    for record in records:
        if (record["protocol"], record["query"], record["gallery"]) == ("standard", "caption", "picture"):
            label = f"{record['checkpoint']}, clothing {record['clothing_weight']}"
            table.add_row(label, "", "measured", *(f"{record[name]:.2f}" for name in names))
    table.add_section()
    held, expected = records[0]["num_gallery"], BENCHMARKS[benchmark].published["test"].pictures
    if held != expected:
        table.caption = f"This split has {held:,} pictures, not the {expected:,} published: the two do not compare."
    for name, scores in TABLE_I[benchmark].items():
        values = ("–" if value is None else f"{value:.2f}" for value in scores)
        table.add_row(name, METHODS[name].backbone, f"published: {METHODS[name].source}", *values, style="dim")
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
                f"ROC AUC of {len(probe['terms'])} {kind} terms", f"from {name}", f"{area:.2f}", "chance 0.50"
            )
    if not analysis["probes"]:
        table.add_row("ROC AUC of terms", "", "no terms to ask for")
    table.add_section()
    for name, groups in analysis["groups"].items():
        for value, group in groups.items():
            table.add_row(f"R-1 of {group['num_queries']} captions", f"{name} {value}", f"{group['r1']:.2f} %", "")
    table.add_section()
    table.add_row("training log", "", ", ".join(analysis["logged"]) or "no losses")
    for name, is_drawn in analysis["figures"].items():
        if not is_drawn:
            table.add_row(name, "", "nothing to draw")
    return table


def headline_rows(rows: Iterable[dict]) -> dict[str, dict[str, dict]]:
    """The rows of HEADLINES by recipe and name; a recipe is without those that its model or data does not have."""
    names = {setting: name for name, setting in HEADLINES.items()}
    found: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in rows:
        setting = (row["protocol"], row["gallery"], row["query"], row["clothing"])
        if setting in names:
            found[row["recipe"]][names[setting]] = row
    return found


def study_table(rows: list[dict]) -> Table:
    """The headlines of a study for a terminal; `rows` are those of [`bdam.evaluation.study.aggregate`]."""
    header, *lines = _headlines(rows)
    table = Table(title="R-1 (%), mean ± standard deviation over the seeds", box=SIMPLE, padding=(0, 1, 0, 0))
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place else "left", no_wrap=not place)
    for line in lines:
        table.add_row(*line)
    return table


def write_study(folder: Path, rows: list[dict], header: dict[str, str]) -> None:
    """
    Writes what a study found: `report.md` to read, which shows `report.png` beside it, and every number as
    `report.csv` and `report.json`.

    Args:
        folder: where to write.
        rows: those of [`bdam.evaluation.study.aggregate`], at least one.
        header: how the numbers came about, by the name of each circumstance.
    """
    write_results(folder / "report.json", {**header, "rows": rows})
    with (folder / "report.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    circumstances = "\n".join(f"- **{name}**: {text}" for name, text in header.items())
    parts = ["# Study", circumstances, markdown_table(_headlines(rows)), LEGEND, "![R-1 of every recipe](report.png)"]
    rows = sorted(rows, key=lambda row: (PROTOCOLS.index(row["protocol"]), row["query"], row["clothing"]))
    for title, group in groupby(rows, lambda row: f"{row['protocol']}, by {row['query']}, {row['clothing']}"):
        parts += [f"## {title.replace('_', ' ').capitalize()}", markdown_table(_full_table(group))]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_results(path: Path, records: list[dict] | dict) -> None:
    """Writes the records as JSON, whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _mean_and_std(value: dict) -> str:
    return f"{value['mean']:.2f} ± {value['std']:.2f}" if "std" in value else f"{value['mean']:.2f}"


def _setting(record: dict) -> tuple[str, str, float]:
    return record["protocol"], record["query"], record["clothing_weight"]


def _headlines(rows: list[dict]) -> list[list[str]]:
    """Header and lines of the table that leads a study: a line per recipe, and chance."""
    recipes = headline_rows(rows)
    lines = [["recipe", "runs", *HEADLINES, "paper, CUHK-PEDES"]]
    for recipe, found in recipes.items():
        cells = [_spread(found[name], "r1") if name in found else "–" for name in HEADLINES]
        always = found["identity: picture"]
        lines.append([recipe, str(always["runs"]), *cells, _published(always, ["r1"])])
    chances = {name: f"{row['chance']:.1f}" for found in recipes.values() for name, row in found.items()}
    return [*lines, ["chance", "", *(chances.get(name, "–") for name in HEADLINES), ""]]


def _full_table(rows: Iterable[dict]) -> list[list[str]]:
    """Header and lines of one setting: every recipe on every gallery, and what the paper publishes of the recipe."""
    names = [name for name in METRICS if name != "minp"]
    header = ["recipe", "gallery", "c", *(METRICS[name] for name in names), "chance R-1"]
    lines = [[*header, f"paper, CUHK-PEDES: {' / '.join(METRICS[name] for name in names)}"]]
    for row in rows:
        weight, chance = f"{row['clothing_weight']:.2f}", f"{row['chance']:.1f}"
        spreads = [_spread(row, name) for name in names]
        lines.append([row["recipe"], row["gallery"], weight, *spreads, chance, _published(row, names)])
    return lines


def _spread(row: dict, name: str) -> str:
    deviation = row[f"{name}_std"]
    return f"{row[name]:.1f}" if deviation is None else f"{row[name]:.1f} ± {deviation:.1f}"


def _published(row: dict, names: list[str]) -> str:
    values = [row[f"published_{name}"] for name in names]
    return "–" if None in values else " / ".join(f"{value:.2f}" for value in values)


def markdown_table(lines: list[list[str]]) -> str:
    header, *body = lines
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *body))
