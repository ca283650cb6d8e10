"""What the score of an image loses when parts of it are hidden."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import SENTENCES, tiny_model

from bdam.data.pedestrians import generate_pedestrians
from bdam.retrieval.display import hits_row, lay_over
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.occlusion import cell_boxes, hide, lost_score


class Brightness(Embedder):
    """In place of a model, what is known to look at one corner: the brightness of the upper left quarter."""

    def __call__(self, text=None, images=None, descriptions=None):
        quarters = [image.convert("L").crop((0, 0, image.width // 2, image.height // 2)) for image in images]
        vectors = torch.zeros(len(images), self.space.size)
        vectors[:, 0] = torch.tensor([np.asarray(quarter).mean() for quarter in quarters])
        return vectors


@pytest.fixture(scope="module")
def person() -> Image.Image:
    return generate_pedestrians(0, 0, 1, image_size=(64, 32))["test"][0]["image"]


@pytest.fixture
def gallery(embedder, person, tmp_path) -> Gallery:
    person.save(tmp_path / "person.png")
    Image.new("RGB", (16, 32), "red").save(tmp_path / "red.png")
    return Gallery.from_images(embedder, tmp_path)


def score_in_double_precision(model, processor, image: Image.Image, sentence: str, weight: float) -> list[float]:
    """Identity and clothing parts of a score, from the model itself."""
    inputs = processor(images=image, text=sentence, return_tensors="pt")
    inputs["pixel_values"] = inputs["pixel_values"].double()
    with torch.inference_mode():
        outputs = model(**inputs)
    identity = (outputs.text_embeds @ outputs.image_embeds.T).item()
    clothing = (outputs.clothing_query_embeds @ outputs.clothing_image_embeds.T).item()
    return [(1 - weight) * identity, weight * clothing]


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_each_cell_loses_what_hiding_it_by_hand_loses(gallery, person, processor, weight):
    model = tiny_model().double().eval()
    lost = gallery.explain("person.png", SENTENCES[0], clothing_weight=weight, cells=(4, 2))
    pixels = np.asarray(person)
    mean = pixels.reshape(-1, 3).mean(axis=0).round()
    whole = score_in_double_precision(model, processor, person, SENTENCES[0], weight)
    for row in range(4):
        for column in range(2):
            hidden = pixels.copy()
            top, left = max(row * 16 - 8, 0), max(column * 16 - 8, 0)  # half a cell around it
            hidden[top : row * 16 + 24, left : column * 16 + 24] = mean
            part = score_in_double_precision(model, processor, Image.fromarray(hidden), SENTENCES[0], weight)
            by_hand = np.subtract(whole, part)
            found = (lost.identity[row, column], lost.clothing[row, column])
            assert found == pytest.approx(by_hand, abs=1e-5)
            assert lost.score[row, column] == pytest.approx(sum(by_hand), abs=1e-5)
    assert (np.abs(lost.identity).max() > 1e-4) == (weight < 1)
    assert (np.abs(lost.clothing).max() > 1e-4) == (weight > 0)


def test_the_map_shows_the_corner_that_is_looked_at(checkpoint):
    image = Image.new("RGB", (64, 128), "black")
    image.paste("white", (0, 0, 32, 64))  # three quarters are black: the mean is 64
    query = torch.zeros(Embedder(checkpoint).space.size)
    query[0] = 1
    lost = lost_score(Brightness(checkpoint), query, image, cells=(4, 4)).identity
    assert lost[:2, :2].min() > 40 and not lost[3].any() and not lost[:, 3].any()
    # The box of a cell in the corner covers three quarters of the quarter's height, and of its width.
    assert lost[0, 0] == pytest.approx((255 - 64) * (3 / 4) ** 2)


def test_where_there_is_nothing_to_hide_nothing_is_lost(gallery):
    lost = gallery.explain("red.png", SENTENCES[0])
    assert lost.score.shape == (8, 4) and np.abs(lost.score).max() < 1e-6
    image = gallery.image("red.png")
    assert lay_over(image, np.zeros((8, 4), np.float32)).getcolors() == [(16 * 32, (76, 76, 76))]


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (300, 7), (128, 256)])
def test_every_pixel_of_any_image_is_hidden(embedder, size):
    boxes = cell_boxes(size)
    hidden = np.zeros(size[::-1])
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        hidden[top:bottom, left:right] += 1
    assert len(boxes) == 32 and hidden.min() >= 1
    image = Image.effect_noise(size, 90).convert("RGB")
    lost = lost_score(embedder, embedder(text=SENTENCES[0])[0], image)
    assert np.isfinite(lost.score).all() and lay_over(image, lost.score).size == size


def test_an_image_is_explained_with_the_description_that_it_is_fused_with(embedder, person):
    rows = Dataset.from_dict({"image_id": ["person"], "image": [person]})
    described = Gallery.from_images(embedder, rows, {"person": SENTENCES[1]})
    lost = described.explain("person", SENTENCES[0], clothing_weight=0)
    (hit,) = described.search(SENTENCES[0], clothing_weight=0)
    query = embedder.weigh(embedder(text=SENTENCES[0])[0], 0)
    box = cell_boxes(person.size)[9]
    hidden = embedder(images=hide(person, box), descriptions=[SENTENCES[1]])[0] @ query
    assert lost.identity[2, 1] == pytest.approx(hit.score - hidden.item(), abs=1e-5)
    alone = Gallery.from_images(embedder, rows).explain("person", SENTENCES[0], clothing_weight=0)
    assert np.abs(lost.identity - alone.identity).max() > 1e-5


@pytest.mark.parametrize(
    "image_id, query, message",
    [
        ("nobody.png", {"text": "A man."}, "No image of the gallery is named 'nobody.png'"),
        ("person.png", {}, "Say whom you look for"),
        ("person.png", {"text": "A man.", "cells": (0, 4)}, r"at least one row and one column, got \(0, 4\)"),
    ],
)
def test_what_cannot_be_explained_is_said(gallery, image_id, query, message):
    with pytest.raises(ValueError, match=message):
        gallery.explain(image_id, **query)


def test_red_lies_where_most_is_lost():
    lost = np.zeros((8, 4), np.float32)
    lost[0, 0], lost[7, 3] = 0.2, -0.5
    shown = lay_over(Image.new("RGB", (64, 128), "white"), lost)
    red, _, blue = shown.getpixel((4, 4))
    assert red - blue > 100 and shown.getpixel((60, 124)) == (255, 255, 255)


def test_the_grid_shows_the_maps_and_what_is_gone(gallery, tmp_path):
    (tmp_path / "red.png").unlink()
    query = {"text": SENTENCES[0], "clothing_weight": 0.5}
    hits = gallery.search(**query)
    shown = dict(zip([hit.image_id for hit in hits], hits_row(gallery, "", hits, explained=query).images, strict=True))
    lost = gallery.explain("person.png", **query).score
    assert shown["person.png"] == lay_over(gallery.image("person.png"), lost)
    assert shown["red.png"].size == (160, 320)  # a placeholder


def test_a_grid_embeds_its_sentence_once(gallery, monkeypatch):
    embedded, embed = [], Embedder.__call__

    def note(self, text=None, **images):
        embedded.append(text)
        return embed(self, text=text, **images)

    monkeypatch.setattr(Embedder, "__call__", note)
    hits = gallery.search(like=Image.new("RGB", (16, 32)))
    embedded.clear()
    hits_row(gallery, "", hits, explained={"text": SENTENCES[0]})
    assert embedded == [SENTENCES[0], None, None]  # and the copies of the two images


def test_the_command_draws_maps(bdam, gallery, tmp_path):
    gallery.save(tmp_path / "gallery")
    plain, explained = tmp_path / "plain.png", tmp_path / "explained.png"
    search = ("search", tmp_path / "gallery", SENTENCES[0], "--grid")
    assert bdam(*search, plain)[0] == bdam(*search, explained, "--explain")[0] == 0
    with Image.open(plain) as first, Image.open(explained) as second:
        assert first.size == second.size and first.tobytes() != second.tobytes()
    code, output = bdam(*search[:-1], "--explain")
    assert code == 1 and "error: --explain draws on the grid: give --grid, too." in output
