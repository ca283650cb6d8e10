"""The table of `make encoders`, for some of its rows."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> tuple[dict[str, list[str]], dict]:
    """The cells of each encoder, and the figures of the last line."""
    names = ["vit", "convnextv2", "siglip2_vision_model", "aimv2_vision_model", "timm_wrapper", "bert", "t5", "gpt2"]
    command = [sys.executable, ROOT / "benchmarks" / "encoders.py", "--no-onnx", *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    *lines, last = output.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {name: cells for name, *cells in rows}, json.loads(last)


def test_each_encoder_is_tried(table):
    rows, figures = table
    for name in ("vit", "convnextv2", "siglip2_vision_model"):
        assert rows[name] == ["yes", "yes", "yes", "yes", "not tried"], name
    for name in ("bert", "t5"):
        assert rows[name] == ["yes", "yes", "yes"], name
    assert (figures["image_encoders"], figures["text_encoders"]) == (7, 3)
    assert figures["text_encoders_that_work"] == 3


def test_what_is_refused_has_its_reason(table):
    rows, _ = table
    assert rows["aimv2_vision_model"][3].startswith("The size of tensor")
    assert "causal" in rows["gpt2"][1]
    if importlib.util.find_spec("timm") is None:
        assert rows["timm_wrapper (vit)"] == ["timm is not installed"]
