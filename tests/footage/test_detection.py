"""Detectors of people: models of transformers, and OpenCV's."""

import logging
from pathlib import Path
from random import Random

import pytest
import torch
from people import overlap
from PIL import Image, ImageChops
from transformers import (
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from bdam.data.pedestrians import View, draw_identity, draw_outfit
from bdam.data.pedestrians.figure import draw_figure
from bdam.footage.detection import find_people, open_detector


def save(name: str, folder: Path, labels: tuple[str, ...]) -> str:
    """A tiny detection model with random weights."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    if name == "rt_detr_v2":
        hidden = {"encoder_hidden_dim": 16, "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_layers": 2, "num_queries": 20}
        channels = {"encoder_in_channels": [16] * 3, "decoder_in_channels": [16] * 3}
        stages = {"out_features": ["stage2", "stage3", "stage4"], "layer_type": "basic", "depths": [1] * 4}
        backbone = RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 16], **stages)
        model = RTDetrV2ForObjectDetection(
            RTDetrV2Config(backbone_config=backbone, **hidden, **heads, **channels, **names)
        )
        processor = RTDetrImageProcessorPil(size={"height": 64, "width": 64})
    else:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        shape = {"image_size": [64, 64], "num_detection_tokens": 10}
        model = YolosForObjectDetection(YolosConfig(**sizes, **shape, **names))
        processor = YolosImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 96})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", ["rt_detr_v2", "yolos"])
def test_models_find_people_in_images_of_any_shape(tmp_path, name):
    detector = open_detector(save(name, tmp_path, ("Person",)), threshold=0.001)
    images = [Image.effect_noise(size, 90).convert("RGB") for size in ((100, 60), (60, 120))]
    together = find_people(detector, images)
    for image, people in zip(images, together, strict=True):
        assert people
        for left, top, right, bottom, score in people:
            assert 0 <= left < right <= image.width and 0 <= top < bottom <= image.height and 0.001 <= score <= 1


def test_only_people_are_found(tmp_path):
    images = [Image.effect_noise((100, 60), 90).convert("RGB")]
    counts = []
    for labels in (("person", "car"), ("car", "person")):
        folder = tmp_path / labels[0]
        counts.append(len(open_detector(save("yolos", folder, labels), 0.01)(images)[0]))
    assert sum(counts) == 10  # the model's detections, each of which is one or the other


def test_a_model_without_people_is_refused(tmp_path):
    name = save("yolos", tmp_path, ("cat", "car"))
    with pytest.raises(ValueError, match=r"finds no people: its labels are cat, car, not `person`"):
        open_detector(name, 0.5)


def test_what_is_no_detection_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No detector at {tmp_path}.*hog"):
        open_detector(str(tmp_path), 0.5)
    name = save("yolos", tmp_path / "broken", ("person", "car"))
    Path(name, "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="broken is no object detection model that can be loaded"):
        open_detector(name, 0.5)


def draw_people(count: int, random: Random) -> tuple[Image.Image, list[tuple[int, ...]]]:
    """People side by side before a wall, and the box of each."""
    wall = Image.new("RGB", (120 * count + 200, 400), "#b4b4b4")
    image, boxes = wall.copy(), []
    for left in range(70, 70 + 120 * count, 120):
        canvas = wall.crop((left, 50, left + 150, 350))
        draw_figure(canvas, draw_identity(random), draw_outfit(random), View("front"))
        x, y, right, bottom = ImageChops.difference(canvas, wall.crop((0, 0, *canvas.size))).getbbox()
        boxes.append((left + x, 50 + y, left + right, 50 + bottom))
        image.paste(canvas, (left, 50))
    return image, boxes


def test_hog_finds_drawn_people_and_says_what_it_is(caplog):
    with caplog.at_level(logging.WARNING):
        detector = open_detector("hog", 0.5)
    assert "it misses many people" in caplog.text
    random, shares = Random(0), []
    for _ in range(8):
        image, (person,) = draw_people(1, random)
        shares.append(max((overlap(person, found) for found in find_people(detector, [image])[0]), default=0.0))
    assert sum(share > 0.4 for share in shares) >= 6 and sum(share > 0.75 for share in shares) >= 5
    assert find_people(detector, [Image.new("RGB", (20, 20))]) == [[]]


def test_hog_finds_nobody_twice_and_no_groups():
    detector = open_detector("hog", 0.5)
    for seed in (0, 3):
        image, people = draw_people(3, Random(seed))
        found = sorted(find_people(detector, [image])[0])
        assert all(overlap(*pair) > 0.6 for pair in zip(people, found, strict=True))
