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
from bdam.evaluation.protocols import evaluate, mix


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


def write_itcpr(root: Path, **changes) -> None:
    """Two queries and four images, one of the person but of another instance, one of nobody who is asked for."""
    queries = [{"file_path": f"query/{i}.png", "instance_id": i, "caption": COATS[i]} for i in range(2)]
    gallery = [{"file_path": f"gallery/{i}.png", "instance_id": i} for i in (0, 1, 7, -1)]
    queries[1].update(changes)
    for index, record in enumerate([*queries, *gallery]):
        (root / record["file_path"]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 32), (index * 40, 99, 0)).save(root / record["file_path"])
        record |= {"datasets": "Celeb-reID", "person_id": 5}
    (root / "query.json").write_text(json.dumps(queries))
    (root / "gallery.json").write_text(json.dumps(gallery))


COATS = ["A red coat.", "A blue coat and black boots."]


def test_itcpr_asks_by_the_person_of_an_image_in_the_clothes_of_a_caption(encoder, processor, tmp_path):
    write_itcpr(tmp_path)
    data = load_benchmark("itcpr", tmp_path, "test")
    features = extract_features(encoder, data)
    assert list(features.queries) == ["image+caption"] and len(features.gallery_images) == 4
    model = encoder.model
    with torch.inference_mode():
        images = processor(images=data["image"][:], return_tensors="pt")
        identity = model.get_image_features(**images).pooler_output
        clothing = model.get_clothing_image_features(**images).pooler_output
        coats = model.get_clothing_text_features(**processor(text=COATS, return_tensors="pt")).pooler_output
    expected = 0.3 * identity[:2] @ identity[2:].T + 0.7 * coats @ clothing[2:].T
    queries, entries = mix(features, "image", "image+caption", 0.7)
    torch.testing.assert_close(queries @ entries.T, expected)
    scores = evaluate(features, (0.0, 0.7))
    assert [(score.query, score.clothing_weight, score.num_queries) for score in scores] == [
        ("image+caption", 0.0, 2),
        ("image+caption", 0.7, 2),
    ]
    right = expected.argsort(dim=1, descending=True)[:, 0] == torch.arange(2)
    assert scores[1].r1 == 100 * right.float().mean()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"caption": " "}, "query.json, record 2: `caption`: .* at least 1 character"),
        ({"instance_id": "1"}, "query.json, record 2: `instance_id`: .* valid integer"),
        ({"instance_id": -2}, "query.json, record 2: `instance_id`: .* greater than or equal to -1"),
    ],
)
def test_a_malformed_record_of_itcpr_is_named(tmp_path, changes, message):
    write_itcpr(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_benchmark("itcpr", tmp_path)
    (tmp_path / "gallery.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no gallery.json: give the folder of both"):
        load_benchmark("itcpr", tmp_path)
