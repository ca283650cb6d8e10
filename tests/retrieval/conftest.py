from pathlib import Path

import pytest
from PIL import Image
from tiny import COLOURS, tiny_model

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
