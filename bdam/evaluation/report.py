"""Tables and reports of results, for terminals, Markdown, CSV and JSON."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel
from rich.box import SIMPLE, SIMPLE_HEAD
from rich.table import Table

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.writing import write_json
from bdam.evaluation.metrics import PROTOCOLS
from bdam.evaluation.open_set import OpenSetResult
from bdam.evaluation.published import LATER, LATER_METHODS, METHODS, TABLE_I
from bdam.evaluation.results import METRICS, Analysis, MeanStd, Result, Results, StudyRow


# The main settings of a study, whose R-1 its tables show: `(protocol, gallery, query, clothing)`. The last three
# compare the three galleries.
HEADLINES = {
    "mix: image": ("standard", "image", "caption", "mix"),
    "clothes changed: image": ("clothes-changed", "image", "identity_description", "identity alone"),
    "identity: image": ("standard", "image", "caption", "identity alone"),
    "identity: image + description": ("standard", "image+description", "caption", "identity alone"),
    "identity: description": ("standard", "description", "caption", "identity alone"),
}
LEGEND = """\
R-1 in percent: mean ± standard deviation over the seeds. *Mix* and *identity* search by caption under the standard
protocol; the mix counts clothing as much as validation chose for each run, identity leaves it out. *Clothes changed*
searches by identity description among the person's images in other clothes. A dash: the model has no such stream or
gallery. The last column is published by the paper, on CUHK-PEDES: another data set, not comparable with the others."""
# Fields in which the results of one table may differ, besides the setting.
SOURCES = ("data", "split", "checkpoint")


def results_table(results: Results) -> Table:
    """
    A terminal table with a line per result, where `c` is the clothing weight. The models and galleries of a setting
    are next to each other.
    """
    data, splits, models = (dict.fromkeys(getattr(result, name) for result in results) for name in SOURCES)
    title = f"Person retrieval, {', '.join(splits)} split of {', '.join(data)} (%)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # Names of models are long: several models are numbered, and the caption has their names.
    numbers = {model: str(number) for number, model in enumerate(models, 1)} if len(models) > 1 else {}
    table.caption = ", ".join(f"model {number}: {model}" for model, number in numbers.items()) or None
    for name in ("protocol", "query", "c", *(["model"] if numbers else []), "gallery"):
        table.add_column(name, overflow="fold")
    for name in (*METRICS.values(), "queries", "among"):
        table.add_column(name, justify="right", no_wrap=True)
    for setting, group in groupby(sorted(results, key=_setting), _setting):
        if table.row_count:
            table.add_section()
        protocol, query, clothing_weight = setting
        cells = [protocol, _words(query), f"{clothing_weight}"]
        for result in group:
            model = [numbers[result.checkpoint]] if numbers else []
            values = (f"{getattr(result, name):.2f}" for name in METRICS)
            table.add_row(*cells, *model, result.gallery, *values, str(result.num_queries), str(result.num_gallery))
            cells = ["", "", ""]
    return table


def open_set_table(results: list[OpenSetResult]) -> Table:
    """A terminal table of open-set results with a line per result; see [`bdam.evaluation.open_set.OpenSetScore`]."""
    names = {
        "r1": "R-1",
        "dir_1": "DIR at FAR 1 %",
        "dir_10": "DIR at FAR 10 %",
        "auroc": "AUROC",
        "num_gallery": "among",
    }
    sources = (", ".join(dict.fromkeys(getattr(result, name) for result in results)) for name in ("split", "data"))
    title = "Half of the persons in the gallery, {} split of {} (%)".format(*sources)
    return _by_query(title, names, [(result, result) for result in results])


def calibration_table(results: list[OpenSetResult]) -> Table:
    """A terminal table of what calibrations state, and what is; see [`bdam.evaluation.open_set.CalibrationScore`]."""
    names = {
        **{"probability": "first right", "coverage_80": "in set 80", "size_80": "images", "coverage_90": "in set 90"},
        **{"size_90": "images", "absence_error": "absence: stated error", "called_absent": "of enrolled"},
        "not_called_absent": "of absent",
    }
    rows = [(result, result.calibration) for result in results if result.calibration]
    return _by_query("What the calibration states there (%)", names, rows)


def _by_query(title: str, names: dict[str, str], rows: Iterable[tuple[OpenSetResult, BaseModel]]) -> Table:
    """A terminal table with a line per result: its model, query and clothing weight, and these fields of a record."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("model", "query", "c"):
        table.add_column(name, overflow="fold")
    for name in names.values():
        table.add_column(name, justify="right")
    for result, record in rows:
        values = (f"{getattr(record, name):.1f}" for name in names)
        table.add_row(result.checkpoint, _words(result.query), f"{result.clothing_weight}", *values)
    return table


def domains_table(results: Results) -> Table:
    """
    A terminal table with a line per model and a column per data set: R-1 and mAP by caption on images by the standard
    protocol, with the largest clothing weight that was measured. On a data set that a model was not trained on, this
    is its zero-shot transfer.
    """
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for result in sorted(results, key=lambda result: result.clothing_weight):
        if (result.protocol, result.query, result.gallery) == ("standard", "caption", "image"):
            cells[result.checkpoint][result.data] = f"{result.r1:.2f} / {result.map:.2f}"
    table = Table(title="R-1 / mAP (%), standard protocol, by caption", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    names = dict.fromkeys(result.data for result in results)
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for model, found in cells.items():
        table.add_row(model, *(found.get(name, "–") for name in names))
    return table


def published_table(results: Results, benchmark: str) -> Table:
    """
    A terminal table of measured results on the test split of a benchmark, and of the published ones (Table I, then
    later ones), which are marked: as published, with the pretraining that they had and with what they do at test time
    besides comparing embeddings. Its caption warns if the split is not as published.

    Args:
        results: the measured results.
        benchmark: a key of `TABLE_I`.
    """
    names = [name for name in METRICS if name != "minp"]
    table = Table(title=f"{benchmark}, standard protocol, by caption (%)", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("method", "backbone", "source", "pretraining", "at test time"):
        table.add_column(name, overflow="fold")
    for name in names:
        table.add_column(METRICS[name], justify="right", no_wrap=True)
    for result in results:
        if (result.protocol, result.query, result.gallery) == ("standard", "caption", "image"):
            label = f"{result.checkpoint}, clothing {result.clothing_weight}"
            table.add_row(label, "", "measured", "", "", *(f"{getattr(result, name):.2f}" for name in names))
    held, expected = results[0].num_gallery, BENCHMARKS[benchmark].published["test"].images
    if held != expected:
        table.caption = f"This split has {held:,} images, not the {expected:,} published: the two do not compare."
    for methods, scores_by_name in ((METHODS, TABLE_I[benchmark]), (LATER_METHODS, LATER[benchmark])):
        table.add_section()
        for name, scores in scores_by_name.items():
            backbone, source, *marks = methods[name]
            values = ("–" if value is None else f"{value:.2f}" for value in scores)
            table.add_row(name, backbone, f"published: {source}", *marks, *values, style="dim")
    return table


def analysis_table(analysis: Analysis) -> Table:
    """A terminal table of an analysis: gates, fusion weights and probes, next to the values of the paper."""
    title = f"Inside {analysis.run}: {analysis.split} split, {analysis.num_images} images"
    table = Table("", "", title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("this run", "paper"):
        table.add_column(name, justify="right")
    for label, weights in (("gate", analysis.gates), ("fusion weight", analysis.fusion_weights)):
        for name, weight in weights.items():
            table.add_row(label, name, _mean_and_std(weight), _mean_and_std(weight.paper))
        if not weights:
            table.add_row(label, "", "none")
        table.add_section()
    for kind, probes in analysis.probes.items():
        for name, area in probes.areas.items():
            table.add_row(f"ROC AUC of {len(probes.terms)} {kind} terms", f"from {name}", f"{area:.2f}", "chance 0.50")
    if not analysis.probes:
        table.add_row("ROC AUC of terms", "", "no terms to predict")
    table.add_section()
    for name, groups in analysis.groups.items():
        for value, group in groups.items():
            table.add_row(f"R-1 of {group.num_queries} captions", f"{name} {value}", f"{group.r1:.2f} %", "")
    table.add_section()
    table.add_row("training log", "", ", ".join(analysis.logged) or "no losses")
    for name, is_drawn in analysis.figures.items():
        if not is_drawn:
            table.add_row(name, "", "nothing to draw")
    return table


def headline_rows(rows: Iterable[StudyRow]) -> dict[str, dict[str, StudyRow]]:
    """The rows of `HEADLINES`, by recipe and name; without those that a recipe's model or data does not have."""
    names = {setting: name for name, setting in HEADLINES.items()}
    found: dict[str, dict[str, StudyRow]] = defaultdict(dict)
    for row in rows:
        setting = (row.protocol, row.gallery, row.query, row.clothing)
        if setting in names:
            found[row.recipe][names[setting]] = row
    return found


def study_table(rows: list[StudyRow]) -> Table:
    """A terminal table of `HEADLINES`, from the rows of [`bdam.evaluation.study.aggregate`]."""
    header, *lines = _headlines(rows)
    table = Table(title="R-1 (%), mean ± standard deviation over the seeds", box=SIMPLE, padding=(0, 1, 0, 0))
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=not index)
    for line in lines:
        table.add_row(*line)
    return table


def write_study(folder: Path, rows: list[StudyRow], header: dict[str, str]) -> None:
    """
    Writes the report of a study: `report.md`, which shows `report.png`, and all numbers as `report.csv` and
    `report.json`.

    Args:
        folder: the folder to write to.
        rows: the rows of [`bdam.evaluation.study.aggregate`], at least one.
        header: the circumstances of the study, by name; see [`bdam.evaluation.study.describe`].
    """
    records = [asdict(row) for row in rows]
    write_json(folder / "report.json", {**header, "rows": records})
    with (folder / "report.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)
    circumstances = "\n".join(f"- **{name}**: {text}" for name, text in header.items())
    parts = ["# Study", circumstances, markdown_headlines(rows), LEGEND, "![R-1 of every recipe](report.png)"]
    rows = sorted(rows, key=lambda row: (PROTOCOLS.index(row.protocol), row.query, row.clothing))
    for title, group in groupby(rows, lambda row: f"{row.protocol}, by {row.query}, {row.clothing}"):
        parts += [f"## {title.replace('_', ' ').capitalize()}", markdown_table(_full_table(group))]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _mean_and_std(value: MeanStd) -> str:
    return f"{value.mean:.2f}" if value.std is None else f"{value.mean:.2f} ± {value.std:.2f}"


def _setting(result: Result) -> tuple[str, str, float]:
    return result.protocol, result.query, result.clothing_weight


def markdown_headlines(rows: list[StudyRow]) -> str:
    """The Markdown table of `HEADLINES`, from the rows of [`bdam.evaluation.study.aggregate`]."""
    return markdown_table(_headlines(rows))


def _headlines(rows: list[StudyRow]) -> list[list[str]]:
    """
    Header and lines of the first table of a report: a line per recipe, and chance. The last column is left out if the
    paper has none of the recipes.
    """
    recipes = headline_rows(rows)
    lines = [["recipe", "seeds", "minutes", *HEADLINES, "paper, CUHK-PEDES"]]
    for recipe, found in recipes.items():
        cells = [_spread(found[name], "r1") if name in found else "–" for name in HEADLINES]
        row = found["identity: image"]  # which every recipe has
        minutes = "–" if row.minutes is None else f"{row.minutes:.1f}"
        lines.append([recipe, ", ".join(map(str, row.seeds)), minutes, *cells, _published(row, ["r1"])])
    chances = {name: f"{row.chance:.1f}" for found in recipes.values() for name, row in found.items()}
    lines.append(["chance", "", "", *(chances.get(name, "–") for name in HEADLINES), ""])
    is_published = any(line[-1] not in ("–", "") for line in lines[1:])
    return lines if is_published else [line[:-1] for line in lines]


def _full_table(rows: Iterable[StudyRow]) -> list[list[str]]:
    """Header and lines of one setting: every recipe on every gallery, with the published results of the recipe."""
    names = [name for name in METRICS if name != "minp"]
    header = ["recipe", "gallery", "c", *(METRICS[name] for name in names), "chance R-1"]
    lines = [[*header, f"paper, CUHK-PEDES: {' / '.join(METRICS[name] for name in names)}"]]
    for row in rows:
        weight, chance = f"{row.clothing_weight:.2f}", f"{row.chance:.1f}"
        spreads = [_spread(row, name) for name in names]
        lines.append([row.recipe, row.gallery, weight, *spreads, chance, _published(row, names)])
    return lines


def _spread(row: StudyRow, name: str) -> str:
    mean, deviation = getattr(row, name), getattr(row, f"{name}_std")
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def _published(row: StudyRow, names: list[str]) -> str:
    values = [getattr(row, f"published_{name}") for name in names]
    return "–" if None in values else " / ".join(f"{value:.2f}" for value in values)


def markdown_results(results: Results, also: Iterable[str] = ()) -> str:
    """
    The Markdown table of a model card, with a line per result.

    Args:
        results: the results.
        also: fields of the results to show in columns after the metrics.
    """
    lines = [["protocol", "query", "c", "gallery", *METRICS.values(), "queries", "among", *map(_words, also)]]
    for (protocol, query, weight), group in _by_search(results).items():
        for result in group:
            values = (f"{getattr(result, name):.2f}" for name in METRICS)
            others = (getattr(result, name) for name in ("num_queries", "num_gallery", *also))
            cells = ("–" if other is None else str(other) for other in others)
            lines.append([protocol, _words(query), f"{weight}", result.gallery, *values, *cells])
    return markdown_table(lines)


def markdown_summary(results: Results) -> str:
    """The Markdown table of the README: a line per search, with R-1 on each gallery, and mAP on images."""
    galleries = ("image", "image+description", "description")
    first, *others = (gallery.replace("+", " + ") for gallery in galleries)
    lines = [["protocol", "query", "clothing weight", f"R-1: {first}", *others, f"mAP: {first}"]]
    for (protocol, query, weight), group in _by_search(results).items():
        by_gallery = {result.gallery: result for result in group}
        r1 = (f"{by_gallery[name].r1:.1f}" if name in by_gallery else "–" for name in galleries)
        lines.append([protocol, _words(query), f"{weight:g}", *r1, f"{by_gallery['image'].map:.1f}"])
    return markdown_table(lines)


def _by_search(results: Iterable[Result]) -> dict[tuple[str, str, float], list[Result]]:
    """Results by protocol, query and clothing weight, in this order."""
    groups: dict[tuple[str, str, float], list[Result]] = defaultdict(list)
    for result in sorted(
        results, key=lambda result: (PROTOCOLS.index(result.protocol), result.query, result.clothing_weight)
    ):
        groups[result.protocol, result.query, result.clothing_weight].append(result)
    return groups


def _words(name: str) -> str:
    return name.replace("_", " ")


def markdown_table(lines: list[list[str]]) -> str:
    """A Markdown table, whose first line is the header; all columns but the first are aligned to the right."""
    header, *body = lines
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *body))
