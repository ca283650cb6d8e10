"""
Where a model looks: the share of lost score in the clothes, in skin and hair, and elsewhere, by stream.

    python benchmarks/maps.py MODEL [FIGURE.png]

Draws 200 people, asks for the image of each by its caption and by its identity description, and hides one cell of the
image after the other, see `bdam.retrieval.occlusion`. Where clothes are is exact: the pixels that change when the same
person is drawn in clothes of other colors. With 95 % intervals by a bootstrap over the people. For comparison: the
share of the area, which a map has that points nowhere, and that of a score which is the number of visible pixels of
clothes, or of skin and hair. The figure shows the first three people, with c = 0 and c = 1.
"""

import json
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import numpy as np
from PIL.Image import Image
from tqdm.auto import tqdm

from bdam.data.pedestrians import (
    Identity,
    Outfit,
    View,
    draw_identity,
    draw_outfit,
    draw_pedestrian,
    draw_view,
    write_caption,
    write_identity_description,
)
from bdam.retrieval.display import lay_over
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.occlusion import CELLS, LostScore, cell_boxes, lost_score


PEOPLE = 200
RESAMPLES = 2000
REGIONS = ("clothes", "skin and hair", "elsewhere")


@dataclass
class Drawing:
    """
    A drawn person.

    Args:
        image: in RGB.
        regions: (3, height, width), bool; where each of the REGIONS is.
        caption: about the person and the clothes.
        identity_description: about the person alone.
    """

    image: Image
    regions: np.ndarray
    caption: str
    identity_description: str


def draw(index: int) -> Drawing:
    random = Random(f"maps/{index}")
    identity, outfit, view = draw_identity(random), draw_outfit(random), draw_view(random)
    caption, description = write_caption(identity, outfit, view, random), write_identity_description(identity, random)
    return Drawing(draw_pedestrian(identity, outfit, view), find_regions(identity, outfit, view), caption, description)


def find_regions(identity: Identity, outfit: Outfit, view: View) -> np.ndarray:
    """(3, height, width), bool; what changes with the colors of the clothes, what with those of the body, the rest."""
    clean = replace(view, blur=0.0, grain=0)
    colors = [field.name for field in fields(Outfit) if field.name.endswith("_colour")]
    dyed = [replace(outfit, **dict.fromkeys(colors, color)) for color in ("black", "white")]
    dark, light = ({"skin_tone": "dark", "hair_colour": "black"}, {"skin_tone": "light", "hair_colour": "blond"})
    clothes = differ(*(draw_pedestrian(identity, other, clean) for other in dyed))
    body = differ(*(draw_pedestrian(replace(identity, **looks), outfit, clean) for looks in (dark, light))) & ~clothes
    return np.stack([clothes, body, ~clothes & ~body])


def differ(image: Image, other: Image) -> np.ndarray:
    """(height, width), bool; where two images differ."""
    return (np.asarray(image) != np.asarray(other)).any(axis=-1)


def shares(lost: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The shares (3,) of what is lost in each region; a cell of several counts for each by its part of the cell."""
    height, width = regions.shape[1] // CELLS[0], regions.shape[2] // CELLS[1]
    parts = regions.reshape(len(REGIONS), CELLS[0], height, CELLS[1], width).mean(axis=(2, 4))
    return (parts * lost.clip(0)).sum(axis=(1, 2)) / lost.clip(0).sum()


def visible(region: np.ndarray) -> np.ndarray:
    """(rows, columns); the pixels of a region (height, width) that are hidden for each cell."""
    boxes = cell_boxes(region.shape[::-1])
    return np.reshape([region[top:bottom, left:right].sum() for left, top, right, bottom in boxes], CELLS)


def interval(values: np.ndarray) -> list[float]:
    """The mean of the values (N,) in percent, and the ends of its interval."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means = values[drawn].mean(axis=1)
    return [round(100 * float(value), 1) for value in (values.mean(), *np.percentile(means, [2.5, 97.5]))]


def look(embedder: Embedder, sentence: str, image: Image) -> LostScore:
    """With the model's own weight, which scales the maps of both streams and does not change their shares."""
    return lost_score(embedder, embedder.weigh(embedder(text=sentence)[0], embedder.clothing_weight), image)


def draw_figure(drawings: list[Drawing], looks: list[LostScore], path: Path) -> None:
    """Each image, then where it is looked at by identity alone and by clothing alone."""
    figure, axes = plt.subplots(1, 3 * len(drawings), figsize=(9, 2.2), layout="constrained")
    for drawing, lost, trio in zip(drawings, looks, axes.reshape(-1, 3), strict=True):
        shown = {
            "image": drawing.image,
            "c = 0": lay_over(drawing.image, lost.identity),
            "c = 1": lay_over(drawing.image, lost.clothing),
        }
        for axis, (title, image) in zip(trio, shown.items(), strict=True):
            axis.imshow(image)
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    model, *figure = sys.argv[1:]
    embedder = Embedder(model)
    drawings = [draw(index) for index in tqdm(range(PEOPLE), desc="Drawing", leave=False)]
    looks = [look(embedder, drawing.caption, drawing.image) for drawing in tqdm(drawings, leave=False)]
    by_identity = [
        look(embedder, drawing.identity_description, drawing.image) for drawing in tqdm(drawings, leave=False)
    ]
    maps = {
        "area": [np.ones(CELLS) for _ in drawings],
        **{
            f"visible {region}": [visible(drawing.regions[place]) for drawing in drawings]
            for place, region in enumerate(REGIONS[:2])
        },
        "caption, c = 0": [lost.identity for lost in looks],
        f"caption, c = {embedder.clothing_weight:g}": [lost.score for lost in looks],
        "caption, c = 1": [lost.clothing for lost in looks],
        "identity description, c = 0": [lost.identity for lost in by_identity],
    }
    table = {}
    for name, lost in maps.items():
        values = np.stack([shares(each, drawing.regions) for each, drawing in zip(lost, drawings, strict=True)])
        table[name] = {region: interval(column) for region, column in zip(REGIONS, values.T, strict=True)}
        print(f"{name}: {table[name]}")
    if figure:
        draw_figure(drawings[:3], looks[:3], Path(figure[0]))
    print(json.dumps({"benchmark": "maps", **table}))


if __name__ == "__main__":
    main()
