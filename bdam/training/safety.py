"""Checks of a run's folder and losses, a warning of collapse, and signals that stop a run."""

import logging
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator


logger = logging.getLogger(__name__)


def check_output_dir(directory: Path, num_bytes: int) -> None:
    """
    Creates the folder, and checks before training that `num_bytes` can be written to it.

    Raises:
        OSError: if they cannot, naming the folder and the reason.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(f"Cannot write to output_dir {directory}: {error.strerror}.") from None
    free = shutil.disk_usage(directory).free
    if free < num_bytes:
        raise OSError(
            f"output_dir {directory} has {free / 1e9:.2f} GB free, but the model and its checkpoints take "
            f"{num_bytes / 1e9:.2f} GB: free some space, or keep fewer with --keep-checkpoints."
        )


def check_finite(losses: Mapping[str, torch.Tensor], step: int, image_ids: list[str]) -> None:
    """
    Checks that all losses are finite.

    Args:
        losses: scalars, by name.
        step: the optimization step, for the message.
        image_ids: the images of the batch, for the message.

    Raises:
        FloatingPointError: if a loss is NaN or infinite, naming the step, the losses and the images of the batch.
    """
    if not torch.stack([loss.detach() for loss in losses.values()]).isfinite().all():
        values = ", ".join(f"{name} {loss.item():.4g}" for name, loss in losses.items())
        raise FloatingPointError(
            f"A loss is not finite at step {step}: {values}. Images of the batch: {', '.join(image_ids)}. "
            "Check these, or lower learning_rate; --resume continues from the last checkpoint."
        )


class CollapseWarning:
    """
    Warns once when identity features of different images become equal. Such a model cannot distinguish persons. Hard
    triplets, and decoupling from the first epoch, can cause this in models that are trained from scratch.
    """

    threshold = 1e-3

    def __init__(self) -> None:
        self.given = False

    def check(self, spread: float, step: int) -> None:
        """
        Warns if the features have collapsed.

        Args:
            spread: standard deviation of the identity features over a batch, relative to their size.
            step: the optimization step, for the message.
        """
        if spread < self.threshold and not self.given:
            self.given = True
            logger.warning(
                "Collapse at step %d: the identity features of all images are the same to %.0e of their size. Try "
                "model.triplet_mining=all, a smaller loss_weights.decoupling_loss or a smaller learning_rate.",
                step,
                spread,
            )


class StopSignals:
    """
    A context that records SIGTERM and SIGINT, so that the run can stop after a step; a second signal stops it at once.

    Attributes:
        received: the signal that was received, 0 if none.
    """

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> "StopSignals":
        self.previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        self.received = number
        self.__exit__()

    def agreed(self, accelerator: Accelerator) -> int:
        """The signal that one of the processes received, or 0. All get the same, and stop after the same step."""
        received = torch.tensor(self.received, device=accelerator.device)
        return int(accelerator.gather(received).max())
