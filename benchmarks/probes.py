"""
What linear probes read of each attribute that can be seen: from the stream it belongs to, and from the other one.

    python benchmarks/probes.py MODEL DATA

DATA is what `bdam data pedestrians DATA --size medium` writes: 12,000 persons in `train`, and 1,000 others in `test`,
of whom one image in each of three outfits is looked at. Half an hour on one core.

An attribute can be seen on an image if no other value would look alike: the image is redrawn (same pose, view, light,
noise and background) with each other value that the person could have, of colors with the most alike, and more than
PIXELS pixels have to change by more than LEVELS gray levels each time. Probes are fitted on half of the persons, and
scored on the others by the area under the ROC curve, only on images on which the attribute can be seen.

For comparison, a reader is trained on the attributes of the persons in `train`: it starts as the image encoder of the
model, and ends in one linear layer. What it says of one kind of attributes is probed like the stream of that kind. The
true attributes of the other kind are probed as well: if the stream of that kind tells them, it tells no less.
"""

import copy
import json
import sys
from collections import defaultdict
from dataclasses import fields
from functools import partial
from itertools import chain
from random import Random

import numpy as np
import torch
from accelerate.utils import set_seed
from datasets import Dataset
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm.auto import tqdm, trange

from bdam.data.loading import load_split
from bdam.data.pedestrians import PILLOW, SIZES, Identity, Outfit, View, draw_pedestrian, draw_view
from bdam.data.pedestrians.attributes import LIGHT_COLORS, NONE
from bdam.data.pedestrians.paint import CLOTH, HAIR
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.extraction import embed_in_batches
from bdam.encoding.models import load_model
from bdam.evaluation.analysis import image_parts, probe_areas
from encoders_bdam import encode_images


# Noise moves a channel by 7 levels at most, up or down. Eight pixels are 0.1 % of an image.
LEVELS, PIXELS = 16, 8
ENOUGH = 20  # A value is probed if so many images of each half show it, and so many another one.
CYCLES, STEPS, BATCH_SIZE, LEARNING_RATE = 2, 1000, 128, 2e-3
COLUMNS = ("its stream", "reader", "other stream", "reader of the other kind", "attributes of the other kind")
NAMES = {kind: [field.name for field in fields(look)] for kind, look in (("identity", Identity), ("clothing", Outfit))}
# The attribute that the values of another one depend on.
CONDITIONS = {"hair_style": "gender", "beard": "gender", "pattern": "upper", "lower": "upper", "lower_colour": "lower"}
DRAWN = SIZES["medium"].arguments
Looks = dict[str, str]


def read_looks(dataset: Dataset) -> list[Looks]:
    """All attributes of each image."""
    kinds = (dataset[f"{kind}_attributes"][:] for kind in NAMES)
    return [{**person, **clothes} for person, clothes in zip(*kinds, strict=True)]


def draw(looks: Looks, view: View) -> np.ndarray:
    """The image, (height, width, 3), int."""
    person, clothes = ({name: looks[name] for name in names} for names in NAMES.values())
    return np.asarray(draw_pedestrian(Identity(**person), Outfit(**clothes), view, DRAWN["image_size"])).astype(int)


class Painter:
    """Redraws images with other values of an attribute, of those that the given persons have."""

    def __init__(self, everyone: list[Looks]):
        self.values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for looks in everyone:
            for name, value in looks.items():
                self.values[name, looks.get(CONDITIONS.get(name, ""), "")].add(value)

    def others(self, name: str, looks: Looks) -> set[str]:
        """The values that could stand in for that of an attribute; of colors, the one most alike."""
        others = self.values[name, looks.get(CONDITIONS.get(name, ""), "")] - {looks[name]}
        if not name.endswith("_colour"):
            return others
        if looks[name] == NONE:
            return set()
        palette = {color: np.array(levels) for color, levels in (HAIR if name == "hair_colour" else CLOTH).items()}
        return {min(sorted(others - {NONE}), key=lambda other: abs(palette[other] - palette[looks[name]]).max())}

    def changed_pixels(self, row: dict) -> list[int]:
        """The number of pixels that change with each attribute, whatever its other value; 0 if it has none."""
        person, outfit, number = map(int, row["image_id"].removesuffix(".png").split("/")[1:])
        view = draw_view(Random(f"{DRAWN['seed']}/image/{person}/{outfit}/{number}"))
        looks = {**row["identity_attributes"], **row["clothing_attributes"]}
        image = draw(looks, view)
        if (image != np.asarray(row["image"])).any():
            raise ValueError(f"{row['image_id']} cannot be redrawn: DATA must be of size medium, Pillow {PILLOW}.")
        color = "black" if looks["upper_colour"] in LIGHT_COLORS else "white"  # Of what the person lacks.
        counts = []
        for name in looks:
            dyed = {f"{name}_colour": color} if looks.get(f"{name}_colour") == NONE else {}
            redrawn = (draw({**looks, **dyed, name: value}, view) for value in self.others(name, looks))
            counts.append(min(((abs(image - other).max(axis=-1) > LEVELS).sum() for other in redrawn), default=0))
        return counts


def one_hot(looks: list[Looks], names: list[str]) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The T values of the attributes, and which of the N images have which, (N, T), float32."""
    values = sorted({(name, each[name]) for each in looks for name in names})
    return values, np.array([[each[name] == value for name, value in values] for each in looks], np.float32)


class Reader(nn.Module):
    """Predicts T values of attributes: the image encoder of a model, and a linear layer on all its tokens."""

    def __init__(self, encoder: BDAMEncoder, values: list[tuple[str, str]]):
        super().__init__()
        self.values = values
        self.encoder = copy.deepcopy(encoder.model.vision_model)
        self.head = nn.LazyLinear(len(values))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(encode_images(self.encoder, pixel_values)[0].flatten(1))


def train_reader(encoder: BDAMEncoder, dataset: Dataset) -> Reader:
    set_seed(0)
    values, targets = one_hot(read_looks(dataset), list(chain(*NAMES.values())))
    reader = Reader(encoder, values).train()
    reader(encoder.prepare_images([dataset[0]], use_descriptions=False)["pixel_values"])  # Sizes the linear layer.
    for step in trange(CYCLES * STEPS, desc="Training the reader", leave=False):
        if step % STEPS == 0:
            optimizer = torch.optim.AdamW(reader.parameters())
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
        rows = torch.randint(len(dataset), (BATCH_SIZE,)).tolist()
        pixels = encoder.prepare_images([dataset[row] for row in rows], use_descriptions=False)["pixel_values"]
        pixels = torch.where(torch.rand(BATCH_SIZE, 1, 1, 1) < 0.5, pixels.flip(-1), pixels)
        loss = binary_cross_entropy_with_logits(reader(pixels), torch.from_numpy(targets[rows]), reduction="sum")
        optimizer.zero_grad()
        (loss / BATCH_SIZE).backward()
        optimizer.step()
        schedule.step()
    return reader.eval()


def embed(encoder: BDAMEncoder, reader: Reader, dataset: Dataset) -> dict[str, dict[str, np.ndarray]]:
    """What is probed, (N, D) of the N images: by the kind of the attributes that are looked for, and by COLUMNS."""
    prepare = partial(encoder.prepare_images, use_descriptions=False)
    outputs = embed_in_batches(encoder.model, prepare, lambda batch: {"logits": reader(**batch)}, dataset, "images")
    logits, parts, looks = outputs["logits"].numpy(), image_parts(encoder, dataset), read_looks(dataset)
    streams = {"identity": parts["f_id"].numpy(), "clothing": parts["f_clo"].numpy()}
    said = {kind: logits[:, [name in names for name, _ in reader.values]] for kind, names in NAMES.items()}
    true = {kind: one_hot(looks, names)[1] for kind, names in NAMES.items()}
    return {
        kind: dict(zip(COLUMNS, (streams[kind], said[kind], streams[other], said[other], true[other]), strict=True))
        for kind, other in zip(NAMES, reversed(NAMES), strict=True)
    }


def probe(features: dict[str, np.ndarray], values: np.ndarray, is_fitted: np.ndarray) -> dict[str, list[float]]:
    """The areas by COLUMNS, one for each value that enough of the N images have; of two opposite values, only one."""
    terms = np.unique(values)
    presence = values[:, None] == terms[len(terms) == 2 :]
    sizes = [which[half].sum(axis=0) for which in (presence, ~presence) for half in (is_fitted, ~is_fitted)]
    presence = presence[:, np.min(sizes, axis=0) >= ENOUGH]
    return {name: probe_areas(columns, presence, is_fitted) for name, columns in features.items()}


def report(features: dict[str, dict[str, np.ndarray]], dataset: Dataset, is_visible: np.ndarray) -> None:
    """Prints what is read of each attribute, on the images on which it is visible, (N, 23) of bool."""
    looks, persons, figures = read_looks(dataset), np.array(dataset["person_id"][:]), {}
    is_fitted = np.isin(persons, np.random.default_rng(0).permutation(np.unique(persons))[::2])
    for kind, names in NAMES.items():
        areas: dict[str, list[float]] = {}
        for name in names:
            rows = is_visible[:, list(looks[0]).index(name)]
            values = np.array([each[name] for each in looks])[rows]
            found = probe({key: part[rows] for key, part in features[kind].items()}, values, is_fitted[rows])
            spans = [f"{key} {np.mean(area):.2f} ({min(area):.2f} to {max(area):.2f})" for key, area in found.items()]
            print(f"{name}, visible on {rows.mean():.0%}, {len(found[COLUMNS[0]])} values: {', '.join(spans)}")
            areas = {key: areas.get(key, []) + area for key, area in found.items()}
        figures[kind] = {
            key: {"values": len(area), "read": sum(a >= 0.90 for a in area), "hidden": sum(a <= 0.65 for a in area)}
            for key, area in areas.items()
        }
    print(json.dumps({"benchmark": "probes", **figures}))


def main() -> None:
    model, data = sys.argv[1:]
    encoder, dataset, others = BDAMEncoder(*load_model(model)), load_split(data, "test"), load_split(data, "train")
    dataset = dataset.select(range(0, len(dataset), DRAWN["images_per_outfit"]))
    rows, painter = tqdm(dataset, desc="Redrawing", leave=False), Painter(read_looks(others))
    is_visible = np.array([painter.changed_pixels(row) for row in rows]) > PIXELS
    report(embed(encoder, train_reader(encoder, others), dataset), dataset, is_visible)


if __name__ == "__main__":
    main()
