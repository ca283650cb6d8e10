from pathlib import Path
from random import Random

import pytest
from PIL import Image
from tiny import COLOURS, tiny_model

from bdam.data.pedestrians import View, draw_identity, draw_outfit
from bdam.data.pedestrians.figure import draw_figure
from bdam.retrieval.embedder import Embedder


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model(clothing_weight=0.4).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def embedder(checkpoint) -> Embedder:
    return Embedder(checkpoint)


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of images by two cameras."""
    for place, colour in enumerate(COLOURS):
        path = tmp_path / "images" / f"camera{place % 2}" / f"{colour}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), colour).save(path)
    return tmp_path / "images"


@pytest.fixture
def photographs(tmp_path):
    """A folder with two photographs, of a drawn person each, and a file that is none."""
    random = Random(0)
    for name in ("north/a.png", "south/b.png"):
        photograph = Image.new("RGB", (320, 400), "#b4b4b4")
        canvas = photograph.crop((70, 50, 220, 350))
        draw_figure(canvas, draw_identity(random), draw_outfit(random), View("front"))
        photograph.paste(canvas, (70, 50))
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True)
        photograph.save(path)
    return tmp_path / "photographs"
