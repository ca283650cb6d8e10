"""One image, saved in many ways, is embedded alike by everything that opens images."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import ExifTags, Image
from tiny import SENTENCES
from torch.nn.functional import cosine_similarity

from bdam.data.loading import load_split
from bdam.encoding.encoders import BDAMEncoder
from bdam.evaluation.features import extract_features
from bdam.mllm.images import image_url
from bdam.retrieval.bounded_search import open_example
from bdam.retrieval.gallery import Gallery


TURNS = [None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 2, 6, 4))]  # what EXIF orientations 1 to 8 undo


def photograph() -> Image.Image:
    """A gray image, since the 16-bit form of PNG that is to be the same knows no colors."""
    ramp = 3 * np.arange(48) + np.arange(96)[:, None]
    return Image.fromarray(np.where(ramp > 230, 255, ramp).astype(np.uint8))


def save_in_twelve_ways(folder) -> list[str]:
    gray = photograph()
    for orientation, turn in enumerate(TURNS, 1):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        lying = gray.convert("RGB") if turn is None else gray.convert("RGB").transpose(turn)
        lying.save(folder / f"turned {orientation}.jpg", exif=exif, quality=98)
    values = np.asarray(gray)
    alpha = np.where(values == 255, 0, 255).astype(np.uint8)
    color = np.where(alpha == 0, 90, values).astype(np.uint8)
    Image.fromarray(np.dstack([color, color, color, alpha])).save(folder / "cut out.png")
    gray.convert("P").save(folder / "palette.png", transparency=255)
    Image.fromarray(values.astype(np.uint16) * 257).save(folder / "deep.png")
    gray.convert("RGB").convert("CMYK").save(folder / "printed.jpg", quality=98)
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("ways")
    return {"folder": folder, "names": save_in_twelve_ways(folder)}


def vectors_of(gallery: Gallery) -> torch.Tensor:
    return torch.stack([stored.vector for stored in gallery.store.find(list(gallery.store.states()))])


def assert_same(vectors: torch.Tensor, expected: torch.Tensor) -> None:
    assert cosine_similarity(vectors, expected.expand_as(vectors)).min() > 0.999


def test_everything_sees_the_same_image(names, embedder, processor, tmp_path):
    folder, names = names["folder"], names["names"]
    assert len(names) == 12
    expected = embedder(images=photograph())
    negative = embedder(images=Image.fromarray(255 - np.asarray(photograph())))
    assert cosine_similarity(expected, negative) < 0.999, "the model must see the difference"

    gallery = Gallery.from_images(embedder, folder)
    assert_same(vectors_of(gallery), expected)
    paths = [str(folder / name) for name in names]
    in_memory = Gallery.from_images(embedder, Dataset.from_dict({"image": [{"path": path} for path in paths]}))
    assert_same(
        torch.stack([stored.vector for stored in in_memory.store.find(list(in_memory.store.states()))]),
        expected,
    )

    like = torch.cat([embedder(images=Image.open(folder / name)) for name in names])
    uploaded = torch.cat([embedder(images=open_example((folder / name).read_bytes())) for name in names])
    sent = (base64.b64decode(image_url(folder / name).partition(",")[2]) for name in names)
    described = torch.cat([embedder(images=Image.open(io.BytesIO(content)).convert("RGB")) for content in sent])
    for vectors in (like, uploaded, described):
        assert_same(vectors, expected)

    # The README's five lines.
    opened = [Image.open(folder / name) for name in names]
    with torch.inference_mode():
        identity = embedder.model.get_image_features(**processor(images=opened, return_tensors="pt")).pooler_output
    assert_same(identity, expected[:, : embedder.space.identity_size])

    records = [{"image": name, "person_id": 1, "caption": SENTENCES[0], "split": "test"} for name in names]
    for name in names:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "annotations.jsonl").write_text("\n".join(map(json.dumps, records)))
    encoder = BDAMEncoder(embedder.model, processor)
    features = extract_features(encoder, load_split(f"own:{tmp_path}", "test"))
    assert_same(features.galleries["image"], expected[:, : embedder.space.identity_size])
    assert features.clothing is not None
    assert_same(features.clothing, expected[:, embedder.space.identity_size :])
