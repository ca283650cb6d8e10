"""
Whether a model knows which color belongs to which garment.

    python benchmarks/colors.py MODEL [MODEL …]

Draws 1,000 people, and writes their captions twice: once true, once in the same words with the colors of upper garment
and shoes exchanged. Counts how often the image scores higher by the true one: with the model's own clothing weight,
and by clothes alone, with 95 % intervals. Chance, and a bag of words, are right in 50 %.
"""

import argparse
import json
from dataclasses import replace
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from tqdm.auto import tqdm

from bdam.data.pedestrians import draw_identity, draw_outfit, draw_pedestrian, draw_view, write_caption
from bdam.evaluation.intervals import interval
from bdam.retrieval.embedder import Embedder


PEOPLE = 1000


class Drawing(NamedTuple):
    """A drawn person, the caption, and the caption with two colors exchanged."""

    image: Image
    caption: str
    exchanged: str


def draw(index: int) -> Drawing | None:
    """Draws the person of this number; None if both colors are equal, or the caption does not mention the shoes."""
    random = Random(f"colors/{index}")
    identity, outfit, view = draw_identity(random), draw_outfit(random), draw_view(random)
    other = replace(outfit, upper_colour=outfit.shoes_colour, shoes_colour=outfit.upper_colour)
    wording = random.random()
    caption, exchanged = (write_caption(identity, clothes, view, Random(wording)) for clothes in (outfit, other))
    if caption == exchanged or words(caption) != words(exchanged):
        return None
    return Drawing(draw_pedestrian(identity, outfit, view), caption, exchanged)


def words(text: str) -> list[str]:
    """The words of a text in alphabetical order, without "a" and "an", which change with the color after them."""
    return sorted(word for word in text.lower().strip(".").split() if word not in ("a", "an"))


def leads(embedder: Embedder, drawings: list[Drawing]) -> torch.Tensor:
    """(N, D); the sum of a row is the score of the caption minus the score of the other one."""
    images, captions, exchanged = zip(*drawings, strict=True)
    return (embedder(text=[*captions]) - embedder(text=[*exchanged])) * embedder(images=[*images])


def share(leads: torch.Tensor) -> str:
    """The percentage of captions that score higher than the other one, with its interval."""
    is_right = (leads.sum(dim=1) > 0).double().numpy()
    return str(interval(is_right, np.arange(len(is_right))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    drawn = [draw(index) for index in tqdm(range(PEOPLE), desc="Drawing", leave=False)]
    drawings = [drawing for drawing in drawn if drawing is not None]
    shares = {}
    for model in parser.parse_args().models:
        embedder = Embedder(model)
        parts = leads(embedder, drawings)
        weights = {"mix": embedder.clothing_weight, "clothes alone": 1.0}
        shares[model] = {name: share(embedder.weigh(parts, weight)) for name, weight in weights.items()}
        print(f"{model}: {shares[model]}")
    print(json.dumps({"benchmark": "colors", "people": len(drawings), **shares}))


if __name__ == "__main__":
    main()
