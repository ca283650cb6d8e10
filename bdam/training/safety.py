"""What keeps long runs from ending badly."""

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
    Makes the folder and sees that `num_bytes` can be written to it, before an hour of work proves otherwise.

    Raises:
        OSError: naming the folder and what is wrong with it.
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
    Raises:
        FloatingPointError: if a loss is NaN or infinite, naming the step, the losses and the images of the batch.
    """
    if not torch.stack([loss.detach() for loss in losses.values()]).isfinite().all():
        values = ", ".join(f"{name} {loss.item():.4g}" for name, loss in losses.items())
        raise FloatingPointError(
            f"A loss is not finite at step {step}: {values}. Images of the batch: {', '.join(image_ids)}. "
            "Look at these, or lower learning_rate; --resume goes on from the last checkpoint."
        )


class CollapseWarning:
    """
    Warns, once, when identity features hardly differ between images any more (trap of hard triplets and decoupling
    from a random start): such a model has stopped telling people apart.
    """

    threshold = 1e-3

    def __init__(self) -> None:
        self.given = False

    def check(self, spread: float, step: int) -> None:
        """`spread` is the standard deviation of the identity features over a batch, relative to their size."""
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
    A context in which SIGTERM and SIGINT ask the run to stop at a good moment; a second one stops it at once.

    Attributes:
        received: the signal that came, 0 if none.
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
        """The signal that any process received, so that all stop after the same step."""
        received = torch.tensor(self.received, device=accelerator.device)
        return int(accelerator.gather(received).max())
