"""The duration and the hardware of a training run, summed over its interruptions, in a file next to the model."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from bdam.encoding.models import EFFORT, read_effort


class Stopwatch:
    """
    Measures the wall time of a run from its creation, and adds the time up to the checkpoint that it resumes from. If
    that is not known, nothing is written.

    Args:
        accelerator: the accelerator of the run.
        checkpoint: the checkpoint that the run resumes from; None for a new run.
    """

    def __init__(self, accelerator: Accelerator, checkpoint: Path | None):
        self.start = time.monotonic()
        names = Counter(gather_object([_device_name(accelerator.device)]))
        processes = (f"{count} {'process' if count == 1 else 'processes'} on {name}" for name, count in names.items())
        self.hardware = ", ".join(processes)
        self.is_main_process = accelerator.is_main_process
        # Next to the checkpoints, not in them: their contents do not depend on the duration.
        self.before = read_effort(checkpoint.parent) if checkpoint is not None else {}

    def write(self, folder: Path) -> None:
        """Writes the seconds until now, by hardware, to `folder`."""
        if not self.is_main_process or self.before is None:
            return
        seconds = self.before.get(self.hardware, 0.0) + time.monotonic() - self.start
        folder.mkdir(exist_ok=True)
        # The next call overwrites this file if the run is killed here.
        aside = folder / f"{EFFORT}.new"
        aside.write_text(json.dumps({**self.before, self.hardware: seconds}, indent=1) + "\n", encoding="utf-8")
        aside.replace(folder / EFFORT)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores" if device.type == "cpu" else device.type
