"""The time that a run took is that of all its parts, or not told."""

import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from bdam.encoding.models import read_effort
from bdam.training import effort
from bdam.training.effort import Stopwatch


HERE = f"1 process on {os.cpu_count()} CPU cores"


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_the_time_of_a_run_grows_from_part_to_part(accelerator, tmp_path, monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr(effort, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    checkpoints, model = tmp_path / "checkpoints", tmp_path / "model"
    Stopwatch(accelerator, None).write(checkpoints)
    assert read_effort(checkpoints) == {HERE: 1}
    stopwatch = Stopwatch(accelerator, checkpoints / "step_00000005")
    stopwatch.write(checkpoints)
    stopwatch.write(model)
    assert read_effort(checkpoints) == {HERE: 2} and read_effort(model) == {HERE: 3}
    assert [path.name for path in model.iterdir()] == ["training.json"]
    Stopwatch(accelerator, None).write(checkpoints)  # a new run starts anew
    assert read_effort(checkpoints) == {HERE: 1}


def test_parts_on_other_hardware_are_told_apart(accelerator, tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"2 processes on NVIDIA H100": 60.0}))
    Stopwatch(accelerator, tmp_path / "step_00000005").write(tmp_path)
    recorded = read_effort(tmp_path)
    assert list(recorded) == ["2 processes on NVIDIA H100", HERE] and recorded["2 processes on NVIDIA H100"] == 60


def test_the_time_of_half_a_run_is_not_told_as_that_of_the_whole(accelerator, tmp_path):
    stopwatch = Stopwatch(accelerator, tmp_path / "step_00000005")
    stopwatch.write(tmp_path)
    assert read_effort(tmp_path) is None and not list(Path(tmp_path).iterdir())
