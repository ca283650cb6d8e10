"""The origin of results: code, machine and data."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import torch
from datasets import Dataset

import bdam
from bdam.data.benchmarks import BENCHMARKS
from bdam.data.loading import split_source


def commit() -> str:
    """The git commit of this code, or its version if it is installed without a repository."""
    root = Path(bdam.__file__).parents[1]
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
        described = subprocess.run(command, capture_output=True, text=True)
        if described.returncode == 0:
            return described.stdout.strip()
    return f"bdam {bdam.__version__}"


def machine() -> str:
    """The number of CPU cores, the GPUs, and the version of PyTorch, as text."""
    gpus = Counter(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    devices = [f"{count} × {name}" for name, count in gpus.items()]
    return ", ".join([f"{os.cpu_count()} CPU cores", *devices, f"torch {torch.__version__}"])


def data_source(dataset: Dataset, source: str) -> str:
    """
    What a split was read from: for a benchmark its description, which includes the number of held-out persons; for
    other and for joined data sets `source`.
    """
    return dataset.info.description if dataset.info.dataset_name in BENCHMARKS else source


def benchmark_of(source: str) -> str | None:
    """The name of the benchmark in a [`data_source`]; None for other data, and for several data sets."""
    parts = split_source(source)
    name, separator, _ = parts[0].partition(":")
    return name if separator and len(parts) == 1 and name in BENCHMARKS else None
