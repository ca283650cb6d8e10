"""The estimate of a run's time and memory: what it says, and that it writes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY_RUN, TINY_VIT

from bdam.commands.training import run
from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import load_recipe
from bdam.training.estimating import Measurement, estimate, largest_batch


DEMO = Path(__file__).parents[2] / "recipes/demo.yaml"
MEASUREMENT = Measurement(
    batch_size=32, batches_per_epoch=10, seconds=1.0, peak_memory=2000, parameters={}, num_trained=0
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("run")
    generate_pedestrians(8, 4, 4, image_size=(32, 16)).save_to_disk(folder / "data")
    return [str(DEMO), f"data={folder / 'data'}", f"output_dir={folder / 'output'}", *TINY_RUN, "num_epochs=5"]


def test_an_estimate_has_parts_times_and_memory_and_writes_nothing(sources, capsys):
    recipe = load_recipe(*sources, "ema_decay=0.9")
    run([*sources, "ema_decay=0.9", "--estimate", "3", "--cpu"])
    lines = dict(line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert {"vision_model", "text_model", "decoupler", "fusion"} < lines.keys()
    total, trained = (int(word.replace(",", "")) for word in lines["parameters"].split() if word[0].isdigit())
    parts = [value for name, value in lines.items() if name in ("vision_model", "text_model", "decoupler", "fusion")]
    assert trained <= total and sum(int(value.replace(",", "")) for value in parts) < total
    assert lines["batch"].strip() == "8 images" and "GB" in lines["peak memory"] and "images/s" in lines["speed"]
    assert "4 batches" in lines["epoch"] and "5 epochs" in lines["run"]
    assert "batches of 4 and 8 images" in lines["largest batch"]
    assert not Path(recipe.output_dir).exists()


def test_the_largest_batch_is_extrapolated_from_two_sizes():
    half = replace(MEASUREMENT, batch_size=16, peak_memory=1200)  # 400 bytes, and 50 for each image
    assert largest_batch(half, MEASUREMENT, capacity=10_000) == (9000 - 400) // 50
    assert largest_batch(half, MEASUREMENT, capacity=100) == 0
    assert largest_batch(MEASUREMENT, MEASUREMENT, capacity=10_000) is None
    assert largest_batch(replace(half, peak_memory=2000), MEASUREMENT, capacity=10_000) is None


def test_an_estimate_of_a_run_with_adapters_has_the_share_that_is_trained(sources):
    line, *_ = estimate(load_recipe(*sources, TINY_VIT, "lora={r: 2}"), 1, cpu=True).splitlines()
    total, trained = (int(word.replace(",", "")) for word in line.split() if word[0].isdigit())
    assert trained < 0.9 * total


def test_an_estimate_does_not_resume(sources, capsys):
    with pytest.raises(SystemExit):
        run([*sources, "--estimate", "3", "--resume"])
    assert "--estimate" in capsys.readouterr().err
