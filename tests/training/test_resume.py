"""A run that was killed, or asked to stop, ends where the unbroken one does."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import environment
from safetensors.torch import load_file
from tiny import TINY_RUN, TINY_VIT

from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import load_recipe
from bdam.training.checkpoints import TrainingState, choose_checkpoint, find_checkpoints


ROOT = Path(__file__).parents[2]
SMALL = [
    *TINY_RUN,
    "model.dropout=0.1",
    "augment=[flip, shift, erase]",
    "balancer=gradnorm",
    "gradient_accumulation_steps=2",
    "num_epochs=4",
    "eval_every=1",
    "log_every=1",
    "checkpoint_every=1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_pedestrians(12, 4, 4, image_size=(32, 16)).save_to_disk(folder)
    return folder


def sources(data: Path, output_dir: Path, *changes: str) -> list[str]:
    return [str(ROOT / "recipes/demo.yaml"), f"data={data}", f"output_dir={output_dir}", *SMALL, *changes]


def run(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_run(num_processes: int, num_kills: int, *arguments: str) -> None:
    process = run(Path(__file__).with_name("killed_run.py"), num_processes, num_kills, 0, *arguments)
    output, errors = process.communicate(timeout=900)
    assert output.splitlines()[-1:] == [f"{num_kills} kills"], errors[-3000:]


def assert_same_end(first: Path, second: Path) -> None:
    """Model, log, and everything that a checkpoint holds, to the bit."""
    assert (first / "log.jsonl").read_text() == (second / "log.jsonl").read_text()
    last, other = find_checkpoints(first)[-1], find_checkpoints(second)[-1]
    assert last.name == other.name
    names = {path.name for path in last.iterdir()}
    assert names == {path.name for path in other.iterdir()} and len(names) >= 6
    for weights in ("model/model.safetensors", last.relative_to(first) / "model.safetensors"):
        left, right = load_file(first / weights), load_file(second / weights)
        assert all(torch.equal(value, right[name]) for name, value in left.items())
    for name in names - {"model.safetensors", "recipe.yaml"}:
        left, right = (torch.load(path / name, weights_only=False) for path in (last, other))
        torch.testing.assert_close(_tensors(left), _tensors(right), rtol=0, atol=0)


def _tensors(value):
    """Nested states with all leaves comparable."""
    if isinstance(value, dict):
        return {str(key): _tensors(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(entry) for entry in value]
    return (
        value
        if isinstance(value, torch.Tensor)
        else torch.frombuffer(bytearray(repr(value).encode()), dtype=torch.uint8)
    )


@pytest.mark.parametrize("num_processes, changes", [(1, []), (2, []), (1, [TINY_VIT, "gradient_cache=3"])])
def test_a_killed_run_ends_where_the_unbroken_one_does(data, tmp_path, num_processes, changes):
    killed_run(num_processes, 0, *sources(data, tmp_path / "unbroken", *changes))
    killed_run(num_processes, 5, *sources(data, tmp_path / "killed", *changes))
    assert_same_end(tmp_path / "unbroken", tmp_path / "killed")
    assert not list((tmp_path / "killed").rglob("*.partial"))
    assert len(find_checkpoints(tmp_path / "killed")) == 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    """The images of 12 people as a stream, in four parquet files."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = generate_pedestrians(12, 0, 0, image_size=(32, 16))["train"]
    for shard in range(4):
        rows.shard(4, shard).remove_columns(["person_id", "outfit_id"]).to_parquet(folder / f"{shard}.parquet")
    return str(folder)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_killed_run_goes_on_at_the_exact_image_of_a_stream(data, corpus, tmp_path, num_processes):
    changes = [f"stream={corpus}", "steps_per_epoch=4", "num_workers=1", "loss_weights.triplet_loss=0.0"]
    killed_run(num_processes, 0, *sources(data, tmp_path / "unbroken", *changes))
    killed_run(num_processes, 3, *sources(data, tmp_path / "killed", *changes))
    assert_same_end(tmp_path / "unbroken", tmp_path / "killed")
    log = (tmp_path / "killed/log.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in log) == 4 * 4  # more than one pass of 48 images


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    killed_run(1, 0, *sources(data, folder, "checkpoint_every=5"))
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_writes_a_checkpoint_and_goes_on(data, unbroken, tmp_path, number):
    arguments = [ROOT / "train_accelerate.py", *sources(data, tmp_path, "checkpoint_every=5"), "--resume", "--cpu"]
    process = run(*arguments)
    log = tmp_path / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.01)
    process.send_signal(number)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + number, errors[-3000:]
    assert "--resume continues" in output and "Traceback" not in errors
    assert len(find_checkpoints(tmp_path)) == 1
    killed_run(1, 0, *sources(data, tmp_path, "checkpoint_every=5"))
    assert_same_end(unbroken, tmp_path)


def test_only_whole_checkpoints_of_the_same_recipe_are_picked_up(data, unbroken, tmp_path):
    shutil.copytree(unbroken / "checkpoints", tmp_path / "checkpoints")
    newest = find_checkpoints(tmp_path)[-1]
    newest.with_name("step_00000099.partial").mkdir()
    same = sources(data, tmp_path, "checkpoint_every=5")
    assert choose_checkpoint(tmp_path, "latest", load_recipe(*same)) == newest
    assert choose_checkpoint(tmp_path, "latest", load_recipe(*same, "num_workers=3")) == newest
    assert choose_checkpoint(tmp_path / "elsewhere", "latest", load_recipe(*same)) is None
    with pytest.raises(FileExistsError, match="checkpoints of an earlier run: continue it with --resume"):
        choose_checkpoint(tmp_path, None, load_recipe(*same))
    with pytest.raises(ValueError, match="written by another recipe: `learning_rate` was 0.002, is 0.1"):
        choose_checkpoint(tmp_path, "latest", load_recipe(*same, "learning_rate=0.1"))
    with pytest.raises(FileNotFoundError, match="nowhere is no checkpoint"):
        choose_checkpoint(tmp_path, str(tmp_path / "nowhere"), load_recipe(*same))


def test_as_many_processes_resume_as_were_stopped():
    with pytest.raises(ValueError, match="written by 2 processes, this run has 1"):
        TrainingState().load_state_dict(TrainingState(num_processes=2).state_dict())
