"""The figure that compares the standard protocol with changed clothes."""

from pathlib import Path

import pytest
from PIL import Image

from bdam.evaluation.figures import _distinct_parts, trade_off_figure
from bdam.evaluation.results import Result, Results


def result(checkpoint: str, protocol: str, weight: float, r1: float = 50.0) -> Result:
    record = {**dict.fromkeys(("r1", "r5", "r10", "map", "minp", "chance"), r1), "num_queries": 8, "num_gallery": 8}
    setting = {"protocol": protocol, "gallery": "image", "query": "caption", "clothing_weight": weight}
    origin = {"weights": None, "data": "people", "seed": None, "commit": "abc1234", "mixed_precision": "no"}
    return Result(**record, **setting, **origin, split="test", checkpoint=checkpoint)


def test_each_model_has_a_curve(tmp_path):
    weights = [("a/model", 0.0), ("a/model", 0.5), ("a/model", 1.0), ("b/model", 0.0)]  # b has no clothing
    protocols = ("standard", "clothes-changed")
    figure = tmp_path / "figure.png"
    trade_off_figure(
        Results(result(name, protocol, weight) for protocol in protocols for name, weight in weights), figure
    )
    with Image.open(figure) as image:
        assert len(image.convert("RGB").getcolors(1 << 16)) > 100  # lines and letters


def test_without_changed_clothes_there_is_no_trade_off(tmp_path):
    with pytest.raises(ValueError, match="people has no person in several outfits"):
        trade_off_figure(Results([result("a", "standard", 0.0)]), tmp_path / "figure.png")
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    "names, shown",
    [
        (["outputs/demo/model"], ["outputs/demo/model"]),
        (["study/full/seed-0/model", "study/plain/seed-0/model"], ["full", "plain"]),
        (["a/model", "b/c/model"], ["a", "b/c"]),
        (["openai/clip", "google/siglip"], ["openai/clip", "google/siglip"]),
        (["runs/a", "runs/a/b"], ["a", "a/b"]),
    ],
)
def test_names_are_told_apart_by_what_differs(names, shown):
    assert _distinct_parts(names) == shown
