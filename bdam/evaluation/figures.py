"""Figures of results."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image


@dataclass
class RankedQuery:
    """A query with the pictures found for it, best first; `right` says which show the person meant, None if
    unknown."""

    sentence: str
    pictures: list[Image.Image]
    scores: list[float]
    right: list[bool] | None = None


def ranked_grid(queries: list[RankedQuery], path: Path) -> None:
    """Draws each query above its ranked pictures, framed green where right and red where wrong, into a PNG."""
    columns = max(len(query.pictures) for query in queries)
    figure, axes = plt.subplots(
        len(queries), columns, figsize=(1.25 * columns, 3.1 * len(queries)), squeeze=False, layout="constrained"
    )
    for row, query in zip(axes, queries, strict=True):
        row[0].set_title("\n".join(textwrap.wrap(query.sentence, 105)), loc="left", fontsize=9, pad=8)
        for rank, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            if rank >= len(query.pictures):
                axis.set_axis_off()
                continue
            axis.imshow(query.pictures[rank])
            axis.set_xlabel(f"{rank + 1}.  {query.scores[rank]:.2f}", fontsize=8)
            colour = "0.7" if query.right is None else ("tab:green" if query.right[rank] else "tab:red")
            for spine in axis.spines.values():
                spine.set(color=colour, linewidth=2.5)
    figure.savefig(path, dpi=150)
    plt.close(figure)
