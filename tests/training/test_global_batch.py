"""Two processes with half the batch each learn what one process with the whole learns."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from processes import environment
from two_processes import FORWARD_PASSES, LOSSES, eight_samples, measure


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    """What one process, and what each of two, measured."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("two_processes.py")
    run = subprocess.run(
        [sys.executable, script, folder],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    of_two = [folder / f"{rank}.pt" for rank in (0, 1)]
    assert all(path.exists() for path in of_two), run.stderr[-3000:]
    return [measure(Accelerator(cpu=True), eight_samples()), *map(torch.load, of_two)]


@pytest.mark.parametrize("name", [*LOSSES, *FORWARD_PASSES])
def test_two_processes_learn_what_one_does(results, name):
    whole = results[0][name]
    assert whole["loss"] > 0
    assert any(value.ne(0).any() for key, value in whole.items() if key != "loss")
    for half in results[1:]:
        assert half[name].keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                half[name][key], value, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
            )


@pytest.mark.parametrize("name", FORWARD_PASSES)
def test_both_processes_hold_the_same_task_weights_to_the_bit(results, name):
    first, second = (of_process[name] for of_process in results[1:])
    assert torch.equal(first["task_weights"], second["task_weights"])
    assert not torch.equal(first["task_weights"], torch.ones(4))
