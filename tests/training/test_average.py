"""The exponential moving average of the weights: its values, where it is used, and how a run goes on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY_RUN, TINY_VIT

from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import Recipe, load_recipe
from bdam.training.checkpoints import find_checkpoints
from bdam.training.loop import train


DECAY = 0.6
SMALL = [*TINY_RUN, TINY_VIT, "num_epochs=2", "eval_every=2", "checkpoint_every=1", f"ema_decay={DECAY}"]


def recipe(data: Path, output_dir: Path, *changes: str) -> Recipe:
    demo = Path(__file__).parents[2] / "recipes/demo.yaml"
    return load_recipe(demo, f"data={data}", f"output_dir={output_dir}", *SMALL, *changes)


@pytest.fixture(scope="module", params=["", "lora={r: 2}"])
def run(request, tmp_path_factory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("run")
    generate_pedestrians(8, 4, 4, image_size=(32, 16)).save_to_disk(folder / "data")
    averaged = recipe(folder / "data", folder, *filter(None, [request.param]))
    assert train(averaged, keep_checkpoints=9) == 0
    return folder, averaged


def read_average(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint / "custom_checkpoint_4.pkl", weights_only=True)


def test_the_average_is_that_of_the_steps(run):
    checkpoints = find_checkpoints(run[0])
    steps = [load_file(checkpoint / "model.safetensors") for checkpoint in checkpoints]
    expected = steps[0]
    for step in steps[1:]:
        expected = {name: DECAY * expected[name] + (1 - DECAY) * step[name] for name in step}
    found = read_average(checkpoints[-1])
    assert found["n_averaged"] == len(checkpoints) > 2
    for name, value in expected.items():
        torch.testing.assert_close(found[f"module.{name}"], value)
    assert any((value - steps[-1][name]).abs().max() > 1e-4 for name, value in expected.items())


def test_the_average_is_saved(run):
    folder, _ = run
    average = read_average(find_checkpoints(folder)[-1])
    saved = load_file(folder / "model/model.safetensors")
    heads = [name for name in saved if name.startswith(("decoupler.", "fusion."))]
    assert heads and all(torch.equal(saved[name], average[f"module.{name}"]) for name in heads)
    assert not any("lora" in name for name in saved)


def test_a_resumed_run_has_the_same_average(run, tmp_path):
    folder, averaged = run
    first, *_, last = find_checkpoints(folder)
    again = averaged.model_copy(update={"output_dir": str(tmp_path)})
    assert train(again, resume=str(first)) == 0
    expected, found = read_average(last), read_average(find_checkpoints(tmp_path)[-1])
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    expected, found = (load_file(path / "model/model.safetensors") for path in (folder, tmp_path))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
