"""Figures of evaluations, analyses and studies, as PNG files."""

import textwrap
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from PIL import Image

from bdam.data.writing import written_whole
from bdam.evaluation.report import headline_rows
from bdam.evaluation.results import Results, StudyRow


# The panels of a study's figure: in each, some of the HEADLINES with their labels and colors.
PANELS = {
    "Caption → image\nstandard": {
        "identity: image": ("identity alone", "tab:blue"),
        "mix: image": ("mix with clothing", "tab:orange"),
    },
    "Identity description → image\nclothes changed": {"clothes changed: image": ("identity alone", "tab:blue")},
    "Caption → description\nstandard, identity alone": {
        "identity: description": ("without image", "tab:green"),
        "identity: image + description": ("with image", "tab:purple"),
    },
}


@dataclass
class RankedQuery:
    """
    A query with its ranked images.

    Args:
        sentence: the query.
        images: the images found, best first.
        scores: their scores.
        right: whether each shows the person of the query; None (default) if unknown.
        ranks: their ranks; by default 1, 2, 3, …
        example: the image that was searched by; None (default) if there was none.
        frames: for each image, where it was cut out and what that is called; None where that is not known. Default:
            nothing is shown below the images.
    """

    sentence: str
    images: list[Image.Image]
    scores: list[float]
    right: list[bool] | None = None
    ranks: list[int] | None = None
    example: Image.Image | None = None
    frames: list[tuple[Image.Image, str] | None] | None = None


@dataclass
class ImageMaps:
    """Images as points (N, 2), by embedding, with their (N,) person ids and, if known, outfit ids."""

    points: dict[str, np.ndarray]
    person_ids: torch.Tensor
    outfit_ids: torch.Tensor | None


def ranked_grid(queries: list[RankedQuery], path: Path, weights: str | None = None) -> None:
    """
    Draws each query above its ranked images, with a green border if right and a red one if wrong. Below each image
    stands the frame that it was cut from, if that is given.

    Args:
        queries: the queries to draw.
        path: the PNG to write.
        weights: fingerprint of the model, which is noted in the metadata of the PNG.
    """
    rows = [[*_example(query), *_found(query)] for query in queries]
    columns = max(map(len, rows))
    width, heights = (2.1, (2.7, 1.6)) if any(tile.frame for row in rows for tile in row) else (1.25, (3.1,))
    figure = plt.figure(figsize=(width * columns, sum(heights) * len(queries)), layout="constrained")
    strips = figure.subfigures(len(queries), squeeze=False)[:, 0]
    for query, row, strip in zip(queries, rows, strips, strict=True):
        sentence = "\n".join(textwrap.wrap(query.sentence, int(11.2 * width * columns)))
        strip.suptitle(sentence, x=0.01, horizontalalignment="left", fontsize=9)
        axes = strip.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
        for column, tile in zip_longest(axes.T, row):
            _draw_tile(column, tile)
    _save(figure, path, metadata={"weights": weights} if weights and path.suffix == ".png" else None)


class _Tile(NamedTuple):
    """An image of a grid, what is written below it, the color of its border, and the frame that it was cut from."""

    image: Image.Image
    label: str
    color: str
    frame: tuple[Image.Image, str] | None = None


def _example(query: RankedQuery) -> list[_Tile]:
    """The tile of the example image; none if the query has no example."""
    return [] if query.example is None else [_Tile(query.example, "like this", "black")]


def _found(query: RankedQuery) -> list[_Tile]:
    """The tiles of the images that were found."""
    ranks = query.ranks or range(1, 1 + len(query.images))
    labels = [f"{rank}.  {score:.2f}" for rank, score in zip(ranks, query.scores, strict=True)]
    borders = {None: "0.7", True: "tab:green", False: "tab:red"}
    colors = [borders[None]] * len(labels) if query.right is None else [borders[is_right] for is_right in query.right]
    frames = query.frames or [None] * len(labels)
    return [_Tile(*parts) for parts in zip(query.images, labels, colors, frames, strict=True)]


def _draw_tile(axes: np.ndarray, tile: _Tile | None) -> None:
    """An image and, on a second axis if there is one, its frame."""
    for axis in axes:
        axis.set_axis_off()
    if tile is None:
        return
    _draw_image(axes[0], tile.image, tile.label, tile.color, 2.5)
    if tile.frame is not None:
        image, label = tile.frame
        axes[1].set_anchor("N")
        _draw_image(axes[1], image, "\n".join(textwrap.wrap(label, 32)), "0.7", 0.5)


def _draw_image(axis: Axes, image: Image.Image, label: str, color: str, linewidth: float) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.imshow(image)
    axis.set_xlabel(label, fontsize=8)
    for spine in axis.spines.values():
        spine.set(color=color, linewidth=linewidth)


def gate_histograms(values: dict[str, dict[str, torch.Tensor]], path: Path) -> None:
    """
    Draws histograms of gates and fusion weights, a panel per kind.

    Args:
        values: (N,) numbers in [0, 1], by kind and name; see [`bdam.evaluation.analysis.gate_values`].
        path: the PNG to write.
    """
    values = {kind: by_name for kind, by_name in values.items() if by_name}
    figure, axes = plt.subplots(1, len(values), figsize=(4.5 * len(values), 3), squeeze=False, layout="constrained")
    for axis, (kind, by_name) in zip(axes[0], values.items(), strict=True):
        for (name, value), color in zip(by_name.items(), ("tab:blue", "tab:orange"), strict=True):
            mean = value.mean().item()
            shares = torch.full_like(value, 1 / len(value))
            axis.hist(value, bins=50, range=(0, 1), weights=shares, color=color, alpha=0.5)
            axis.axvline(mean, color=color, linestyle="--", label=f"{name}, mean {mean:.2f}")
        axis.set_xlim(0, 1)
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, fontsize=8)
        _finish(axis, kind.replace("_", " "))
    _save(figure, path)


def embedding_maps(maps: ImageMaps, path: Path, num_persons: int = 10) -> None:
    """
    Draws each map once by person and, if outfits are known, once by outfit. Each of the first persons has a color, and
    each of their outfits a shade of it. Lines join the points of a person or outfit to their mean. All others are
    gray.

    Args:
        maps: the points.
        path: the PNG to write.
        num_persons: the number of persons in color.
    """
    labels = {"person": maps.person_ids} | ({} if maps.outfit_ids is None else {"outfit": maps.outfit_ids})
    persons = list(dict.fromkeys(maps.person_ids.tolist()))[:num_persons]
    size = (4.5 * len(labels), 4.7 * len(maps.points))
    figure, axes = plt.subplots(len(maps.points), len(labels), figsize=size, squeeze=False, layout="constrained")
    for row, (embedding, points) in zip(axes, maps.points.items(), strict=True):
        for axis, (kind, label) in zip(row, labels.items(), strict=True):
            axis.scatter(points[:, 0], points[:, 1], s=6, color="0.85", linewidths=0)
            for index, person in enumerate(persons):
                stars = label[maps.person_ids == person].unique()
                for star, tint in zip(stars, np.linspace(0, 0.6, len(stars)), strict=True):
                    color = (1 - tint) * np.array(to_rgb(f"C{index % 10}")) + tint
                    _star(axis, points[(label == star).numpy()], color)
            axis.set(xticks=[], yticks=[], box_aspect=1)
            axis.set_title(f"{embedding} embedding: a star per {kind}", fontsize=9, loc="left")
    _save(figure, path)


def training_curves(panels: dict[str, dict[str, tuple[list[int], list[float]]]], path: Path) -> None:
    """Draws the curves `(steps, values)` of the tasks, a panel per quantity, into the PNG `path`."""
    size = (7.5, 2.2 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
    lines: dict[str, Line2D] = {}
    for axis, (quantity, curves) in zip(axes[:, 0], panels.items(), strict=True):
        for task, (steps, values) in curves.items():
            color = lines[task].get_color() if task in lines else f"C{len(lines)}"
            (line,) = axis.plot(steps, values, color=color, marker="o", markersize=2.5, linewidth=1.2)
            lines.setdefault(task, line)
        logged = [value for _, values in curves.values() for value in values]
        if 0 < 10 * min(logged) < max(logged):
            axis.set_yscale("log")
        _finish(axis, quantity)
    axes[-1, 0].set_xlabel("step", fontsize=8)
    names = [task.removesuffix("_loss").replace("_", " ") for task in lines]
    figure.legend(list(lines.values()), names, loc="outside right upper", frameon=False, fontsize=8)
    _save(figure, path)


def study_figure(rows: list[StudyRow], path: Path) -> None:
    """
    Draws R-1 of every recipe, mean ± standard deviation over the seeds, with chance as a dashed line.

    Args:
        rows: the rows of [`bdam.evaluation.study.aggregate`].
        path: the PNG to write.
    """
    recipes = headline_rows(rows)
    # Recipes of one family, such as table2_…, are next to each other.
    families = [recipe.split("_")[0] for recipe in recipes]
    steps = (1.5 if family != above else 1.0 for above, family in pairwise(families))
    heights = list(accumulate(steps, initial=0.0))
    size = (12, 1.8 + 0.24 * heights[-1])
    figure, axes = plt.subplots(1, len(PANELS), figsize=size, sharey=True, layout="constrained")
    for axis, (title, names) in zip(axes, PANELS.items(), strict=True):
        for chance in {row[name].chance for row in recipes.values() for name in names if name in row}:
            axis.axvline(chance, color="0.5", linewidth=1, linestyle="--", zorder=1, label="chance")
        for name, (label, color) in names.items():
            dots = [(height, row[name]) for height, row in zip(heights, recipes.values(), strict=True) if name in row]
            means, deviations = [row.r1 for _, row in dots], [row.r1_std or 0 for _, row in dots]
            centers = [height for height, _ in dots]
            axis.errorbar(means, centers, xerr=deviations, fmt="o", color=color, label=label, markersize=5)
        axis.set_title(title, fontsize=10, loc="left", pad=20)
        axis.set_xlabel("R-1 (%)", fontsize=9)
        axis.set_xlim(left=0)
        axis.grid(color="0.92")
        axis.tick_params(length=0, labelsize=9)
        axis.spines[:].set_visible(False)
        compact = {"borderpad": 0.2, "borderaxespad": 0, "columnspacing": 1, "handlelength": 1.5, "handletextpad": 0.4}
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8, **compact)
    axes[0].set_yticks(heights, [recipe.replace("_", " ") for recipe in recipes])
    axes[0].set_ylim(heights[-1] + 0.6, -0.6)
    _save(figure, path, dpi=130)


def trade_off_figure(results: Results, path: Path) -> None:
    """
    Draws R-1 of captions on images by the standard protocol against that under changed clothes: a curve over the
    clothing weights for each model, a point for a model without clothing.

    Args:
        results: those of one split, with several clothing weights.
        path: the PNG to write.

    Raises:
        ValueError: if the split has no person in several outfits.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if (result.query, result.gallery) == ("caption", "image"):
            curves[result.checkpoint][result.protocol].append((result.clothing_weight, result.r1))
    if not all("clothes-changed" in curve for curve in curves.values()):
        raise ValueError(f"{results[0].data} has no person in several outfits: there is no trade-off to draw.")
    figure, axis = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for label, curve in zip(_distinct_parts(list(curves)), curves.values(), strict=True):
        weights, standard = zip(*sorted(curve["standard"]), strict=True)
        _, changed = zip(*sorted(curve["clothes-changed"]), strict=True)
        (line,) = axis.plot(standard, changed, marker="o", markersize=3, label=label)
        for weight, x, y in zip(weights, standard, changed, strict=True):
            if weight in (0, 0.5, 1):
                axis.annotate(f"c = {weight:g}", (x, y), (4, 4), textcoords="offset points", fontsize=7)
                axis.plot(x, y, "o", color=line.get_color(), markersize=6)
    axis.set_xlabel("R-1 (%), standard", fontsize=8)
    axis.set_ylabel("R-1 (%), clothes changed", fontsize=8)
    axis.set(xlim=(0, 100), ylim=0)
    axis.legend(frameon=False, fontsize=8)
    _finish(axis, "Caption → image, for clothing weights c from 0 to 1")
    _save(figure, path, dpi=130)


def _distinct_parts(names: list[str]) -> list[str]:
    """Several paths or names on the Hub without the first and last parts that all of them share."""
    if len(names) == 1:
        return names
    parts = [name.split("/") for name in names]
    for _ in range(2):  # from the start, and reversed from the end; each name keeps one part
        length = min(map(len, parts)) - 1
        shared = [len(set(column)) == 1 for column in zip(*parts, strict=False)][:length]
        start = [*shared, False].index(False)
        parts = [name[start:][::-1] for name in parts]
    return ["/".join(name) for name in parts]


def style_maps(points: np.ndarray, sizes: np.ndarray, labels: dict[str, np.ndarray], path: Path) -> None:
    """
    Draws the styles of captions on a map, a panel per method.

    Args:
        points: (P, 2) positions.
        sizes: (P,) the number of captions that each point stands for.
        labels: (P,) the style of each point, an integer from 0, by method.
        path: the PNG to write.
    """
    figure, axes = plt.subplots(1, len(labels), figsize=(4.5 * len(labels), 4.7), squeeze=False, layout="constrained")
    areas = 4 + 300 * sizes / sizes.sum()
    for axis, (method, styles) in zip(axes[0], labels.items(), strict=True):
        colors = plt.get_cmap("tab20")(styles % 20)
        axis.scatter(points[:, 0], points[:, 1], s=areas, color=colors, alpha=0.8, linewidths=0)
        axis.set(xticks=[], yticks=[], box_aspect=1)
        axis.set_title(f"{method}: {len(np.unique(styles))} styles", fontsize=9, loc="left")
    _save(figure, path)


def _star(axis: Axes, points: np.ndarray, color: np.ndarray) -> None:
    """The points (N, 2), each joined to their center."""
    center = points.mean(axis=0)
    for point in points:
        axis.plot(*zip(point, center, strict=True), color=color, linewidth=0.8)
    axis.scatter(points[:, 0], points[:, 1], s=22, color=color[None], edgecolors="white", linewidths=0.5, zorder=3)


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(which="both", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path, dpi: int = 110, metadata: dict[str, str] | None = None) -> None:
    with written_whole(path) as aside:
        figure.savefig(aside, dpi=dpi, format="png", metadata=metadata)
    plt.close(figure)
