"""What of a data set becomes gallery and queries."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import tiny_model

from bdam.data.benchmarks import load_benchmark
from bdam.data.images import open_images
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.encoders import BDAMEncoder
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import evaluate


@pytest.fixture
def encoder(processor) -> BDAMEncoder:
    return BDAMEncoder(tiny_model(), processor)


def write_prcc(root: Path) -> None:
    """Three persons of the test split, two images of each by each of the cameras A, B and C, all described."""
    images = [f"test/{camera}/{person}/{shot}.png" for camera in "ABC" for person in range(3) for shot in range(2)]
    for index, image in enumerate([*images, "train/9/A_0.png"]):
        path = root / "rgb" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), (index * 9, 99, 0)).save(path)
    lines = [json.dumps({"image_id": image, "identity_description": f"A tall man {image}."}) for image in images]
    (root / "descriptions.jsonl").write_text("\n".join(lines))


def test_prcc_asks_by_description_in_the_roles_of_its_official_protocol(encoder, tmp_path):
    write_prcc(tmp_path)
    features = extract_features(encoder, load_benchmark("prcc", tmp_path, "test"))
    assert features.gallery_images.tolist() == list(range(6))
    assert features.query_images["identity_description"].tolist() == list(range(6, 18))
    assert features.galleries["description"].shape == (6, 12)
    scores = evaluate(features)
    assert {score.protocol: score.num_queries for score in scores} == {
        "standard": 12,
        "same-clothes": 6,  # camera B
        "clothes-changed": 6,  # camera C
    }
    assert {score.num_gallery for score in scores} == {3}


def test_a_split_that_is_described_in_part_uses_what_it_has(encoder):
    test = generate_pedestrians(1, 1, 2, image_size=(32, 16))["test"]
    texts = [text if row % 4 else None for row, text in enumerate(test["identity_description"])]
    partly = test.remove_columns("identity_description").add_column("identity_description", texts)
    features = extract_features(encoder, open_images(partly, "partly"), batch_size=2)
    assert set(features.galleries) == {"image", "image+description"}
    assert features.query_images["identity_description"].tolist() == [1, 2, 3, 5, 6, 7]
    same = (features.galleries["image"] == features.galleries["image+description"]).all(dim=1)
    assert same.nonzero()[:, 0].tolist() == [0, 4]


def test_reduced_precision_changes_little(encoder):
    test = open_images(generate_pedestrians(1, 1, 2, image_size=(32, 16))["test"], "test")
    exact, reduced = (extract_features(encoder, test, mixed_precision=precision) for precision in ("no", "bf16"))
    assert reduced.galleries["image"].dtype == torch.float32
    assert not torch.equal(exact.galleries["image"], reduced.galleries["image"])
    torch.testing.assert_close(exact.galleries["image"], reduced.galleries["image"], atol=0.05, rtol=0)
