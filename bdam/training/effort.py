"""How long a run took, and on what: beside the model, and summed over the parts that it was trained in."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object


EFFORT = "training.json"


class Stopwatch:
    """
    Measures the wall time of a run from when it is made, and adds that of the parts before the checkpoint which it
    goes on from. Nothing is written where the time of these is not known.

    Args:
        accelerator: what the run uses.
        checkpoint: the checkpoint that the run goes on from, if any.
    """

    def __init__(self, accelerator: Accelerator, checkpoint: Path | None):
        self.start = time.monotonic()
        names = Counter(gather_object([_device_name(accelerator.device)]))
        processes = (f"{count} {'process' if count == 1 else 'processes'} on {name}" for name, count in names.items())
        self.hardware = ", ".join(processes)
        self.is_main_process = accelerator.is_main_process
        # Beside the checkpoints, not in one: what they hold is the same to the bit, however long it took.
        self.before = read_effort(checkpoint.parent) if checkpoint is not None else {}

    def write(self, folder: Path) -> None:
        """Writes the seconds so far by hardware to `folder`."""
        if not self.is_main_process or self.before is None:
            return
        seconds = self.before.get(self.hardware, 0.0) + time.monotonic() - self.start
        folder.mkdir(exist_ok=True)
        # Under one name, so that a run that is killed leaves none behind for good.
        aside = folder / f"{EFFORT}.new"
        aside.write_text(json.dumps({**self.before, self.hardware: seconds}, indent=1) + "\n", encoding="utf-8")
        aside.replace(folder / EFFORT)


def read_effort(folder: Path) -> dict[str, float] | None:
    """Seconds of training by hardware; None where they were not recorded."""
    path = folder / EFFORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores" if device.type == "cpu" else device.type
