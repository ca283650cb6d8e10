"""A job on a rented machine: what it asks for, and what its script does."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
from loopback_hub import serve
from packaging.version import Version
from tiny import TINY_RUN

from bdam.data.pedestrians import generate_pedestrians


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "jobs/train.py"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def run(endpoint: str, home: Path, *command: str | Path) -> subprocess.CompletedProcess:
    """A process that knows the Hub at `endpoint` alone."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600)


def test_the_script_says_which_machine_it_needs(tmp_path):
    if Version(huggingface_hub.__version__) < Version("2"):
        return  # that of `make oldest` does not read it
    hf = ("-m", "huggingface_hub.cli.hf", "jobs", "uv", "run", "--dry-run", "--namespace", "jane")
    words = ("jane/people", ROOT / "recipes/demo.yaml", "data=hf:jane/walkers")
    shown = run("http://127.0.0.1:9", tmp_path, *hf, SCRIPT, *words)
    assert not shown.returncode, shown.stderr
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert {"flavor a100-large (from script)", "timeout 1d (from script)", "secrets HF_TOKEN=*** (from script)"} <= {
        *lines
    }
    assert "(dry run) Job not submitted." in lines


def test_the_script_trains_evaluates_analyzes_and_publishes(tmp_path):
    generate_pedestrians(4, 4, 4, image_size=(32, 16)).save_to_disk(tmp_path / "walkers")
    with serve() as hub:
        push = ("-m", "bdam.cli", "data", "push", tmp_path / "walkers", "jane/walkers", "--license", "cc0-1.0")
        pushed = run(hub.url, tmp_path / "home", *push)
        assert not pushed.returncode, pushed.stderr
        words = ["jane/people", ROOT / "recipes/demo.yaml", "data=hf:jane/walkers", f"output_dir={tmp_path / 'run'}"]
        words += [*TINY_RUN, "num_epochs=1"]
        done = run(hub.url, tmp_path / "home", SCRIPT, *words)
        assert not done.returncode, done.stderr
        files = hub.repositories["jane/people"].branches["main"]
        assert {"model.safetensors", "results.json", "recipe.yaml", "gates.png", "README.md"} <= files.keys()
