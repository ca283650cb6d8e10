import logging
import math
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import load_recipe
from bdam.training.loop import train
from bdam.training.safety import CollapseWarning, check_finite, check_output_dir


def test_a_loss_that_is_not_finite_names_the_step_the_losses_and_the_images():
    losses = {"info_nce_loss": torch.tensor(1.5), "triplet_loss": torch.tensor(0.0)}
    check_finite(losses, 7, ["a.png", "b.png"])
    for value in (math.nan, math.inf):
        losses["triplet_loss"] = torch.tensor(value)
        with pytest.raises(
            FloatingPointError, match=rf"step 7: info_nce_loss 1.5, triplet_loss {value}.*a.png, b.png"
        ):
            check_finite(losses, 7, ["a.png", "b.png"])


def test_a_run_that_diverges_stops_and_says_where(tmp_path):
    generate_pedestrians(6, 3, 3, image_size=(32, 16)).save_to_disk(tmp_path / "data")
    small = ["image_size=[32, 16]", "persons_per_batch=4", "learning_rate=1e18"]
    places = [f"data={tmp_path / 'data'}", f"output_dir={tmp_path / 'run'}"]
    recipe = load_recipe("recipes/demo.yaml", *places, *small, "warmup_epochs=0", "max_grad_norm=1e30")
    with pytest.raises(FloatingPointError, match="A loss is not finite at step [1-9]"):
        train(recipe, cpu=True)


def test_collapse_is_warned_of_once(caplog):
    warning = CollapseWarning()
    with caplog.at_level(logging.WARNING):
        warning.check(0.1, step=1)
        assert not caplog.records
        warning.check(1e-5, step=2)
        warning.check(1e-5, step=3)
    assert [record.getMessage()[:18] for record in caplog.records] == ["Collapse at step 2"]


def test_an_output_dir_that_cannot_take_the_run_is_refused_at_the_start(tmp_path, monkeypatch):
    check_output_dir(tmp_path / "deep/er", 1000)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Cannot write to output_dir .*file"):
        check_output_dir(tmp_path / "file", 0)
    with pytest.raises(OSError, match="Cannot write to output_dir /proc"):
        check_output_dir(Path("/proc/run"), 0)
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"0.00 GB free, but .* take 2.00 GB: .*--keep-checkpoints"):
        check_output_dir(tmp_path, 2 * 10**9)
