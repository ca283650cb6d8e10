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
    figure = plt.figure(figsize=(1.25 * columns, 3.1 * len(queries)), layout="constrained")
    for strip, query in zip(figure.subfigures(len(queries), squeeze=False)[:, 0], queries, strict=True):
        sentence = "\n".join(textwrap.wrap(query.sentence, 14 * columns))
        strip.suptitle(sentence, x=0.01, horizontalalignment="left", fontsize=9)
        for rank, axis in enumerate(strip.subplots(1, columns, squeeze=False)[0]):
            axis.set(xticks=[], yticks=[])
            if rank >= len(query.pictures):
                axis.set_axis_off()
                continue
            axis.imshow(query.pictures[rank])
            axis.set_xlabel(f"{rank + 1}.  {query.scores[rank]:.2f}", fontsize=8)
            colour = "0.7" if query.right is None else ("tab:green" if query.right[rank] else "tab:red")
            for spine in axis.spines.values():
                spine.set(color=colour, linewidth=2.5)
    figure.savefig(path, dpi=110)
    plt.close(figure)
