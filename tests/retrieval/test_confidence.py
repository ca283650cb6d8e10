"""A search says what its scores mean, by the calibration of its model, or why that is not known."""

import json
import shutil
from dataclasses import asdict

import pytest
from tiny import SENTENCES

from bdam.evaluation.calibration import Calibration
from bdam.retrieval.confidence import Confidence
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hits


CAPTION = SENTENCES[3]


def calibration(right: list[float], wrong: list[float]) -> Calibration:
    """That of validation queries with these best scores, whatever the clothing weight."""
    scores = [{"clothing_weight": weight, "right": right, "wrong": wrong} for weight in (0.0, 1.0)]
    queries = {
        "caption": {"shortest": len(CAPTION), "scores": scores},
        "identity_description": {"shortest": 1, "scores": scores[:1]},
    }
    return Calibration.model_validate({"num_images": 2, "num_persons": 20, "queries": queries})


@pytest.fixture
def gallery(checkpoint, images) -> Gallery:
    return Gallery.from_images(Embedder(checkpoint), images)


def search(gallery: Gallery, right: list[float], wrong: list[float], **query) -> Hits:
    """The hits of a search with a calibration by these scores."""
    gallery.embedder.calibration = calibration(right, wrong)
    return gallery.search(CAPTION, **query)


def test_the_likely_hits_are_those_within_the_margin(gallery):
    scores = [hit.score for hit in search(gallery, right=[0.5] * 40, wrong=[0.4] * 40)]
    assert gallery.search(CAPTION).confidence.num_likely == 1
    for num_likely in (2, 4):
        margin = scores[0] - (scores[num_likely - 1] + scores[num_likely]) / 2
        validation = {"right": [0.5 - margin] * 40, "wrong": [0.5] * 40}
        hits = search(gallery, **validation, k=5)
        assert hits.confidence.num_likely == num_likely and not hits.confidence.has_more
        assert f"in 9 of 10 searches they are among the first {num_likely} hits." in hits.meaning
        hits = search(gallery, **validation, k=num_likely)
        assert hits.confidence.has_more and "among these hits and perhaps more" in hits.meaning
    everything = search(gallery, right=[-1.0] * 40, wrong=[1.0] * 40, k=6).confidence
    assert everything.num_likely == 6 and not everything.has_more


def test_a_person_is_probably_absent_if_the_best_score_is_low(gallery):
    best = gallery.search(CAPTION)[0].score
    low = search(gallery, right=[best + 0.3] * 99 + [best - 0.1], wrong=[best + 0.1] * 100)
    assert low.confidence.is_probably_absent and low.confidence.absence_error == pytest.approx(0.01)
    assert low.meaning.startswith("Probably not in this gallery: that is wrong in 1% of searches.")
    high = search(gallery, right=[best - 0.1] * 100, wrong=[best - 0.3] * 100)
    assert not high.confidence.is_probably_absent and high.meaning.startswith("If the person is in this gallery, ")


def test_it_is_not_said_where_it_would_often_be_wrong(gallery):
    best = gallery.search(CAPTION)[0].score
    alike = [best + share / 100 for share in range(1, 100)]
    confidence = search(gallery, right=alike, wrong=alike).confidence
    assert confidence.absence_error > 0.25 and not confidence.is_probably_absent


def test_the_size_of_the_gallery_is_what_the_filter_leaves(gallery):
    scores = [0.3] * 50, [share / 100 for share in range(50)]
    whole, part = search(gallery, *scores), search(gallery, *scores, filter={"folder": "camera0"})
    assert len(part) == 3 and gallery.store.count({"folder": "camera0"}) == 3 and gallery.store.count({}) == 6
    expect = gallery.embedder.calibration.expect
    assert [hits.confidence.absence_error for hits in (whole, part)] == [
        expect("caption", 0.4, size).absence()[1] for size in (6, 3)
    ]


def test_why_it_is_not_known_is_said(gallery, images):
    assert "bdam calibrate" in gallery.search(CAPTION).meaning
    assert search(gallery, [0.9] * 50, [0.1] * 50).confidence is not None
    for query, why in (
        ({"like": "camera0/red.png"}, "known for one sentence about a person, and nothing else"),
        ({"text": CAPTION, "identity": "A man."}, "known for one sentence about a person, and nothing else"),
        ({"clothing": CAPTION}, "known for one sentence about a person, and nothing else"),
        (
            {"text": CAPTION[:-1]},
            f"for a sentence of {len(CAPTION) - 1} characters: those of validation have {len(CAPTION)}",
        ),
        ({"text": CAPTION, "filter": {"folder": "nowhere"}}, "There are no images to search"),
    ):
        hits = gallery.search(**query)
        assert hits.confidence is None and why in hits.meaning
    assert gallery.search(identity="A man.").confidence is not None
    described = Gallery.from_images(gallery.embedder, images, {"camera0/red.png": "A tall man."})
    assert "fused with descriptions" in described.search(CAPTION).meaning


def test_the_shell_shows_it(checkpoint, images, bdam, tmp_path):
    model = shutil.copytree(checkpoint, tmp_path / "model")
    calibration([0.9] * 50, [0.1] * 50).save(model)
    hits = Gallery.from_images(model, images, uri=tmp_path / "gallery").search(CAPTION, k=3)
    code, told = bdam("search", tmp_path / "gallery", CAPTION, "--k", 3)
    assert code == 0 and hits.meaning in told
    code, told = bdam("search", tmp_path / "gallery", CAPTION, "--k", 3, "--json")
    (answer,), _ = json.JSONDecoder().raw_decode(told)
    assert Confidence(**answer["confidence"]) == hits.confidence and answer["meaning"] == hits.meaning
    assert answer["hits"] == [asdict(hit) for hit in hits]
