"""Estimates the time and the memory of a training run from a few of its batches."""

import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, count, islice
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import DatasetDict

from bdam.data.loading import load_training_data
from bdam.recipes.recipe import Recipe
from bdam.training.effort import Stopwatch
from bdam.training.loop import build_accelerator, build_run
from bdam.training.tracking import JSONLTracker


# Of the memory of a device; fragments of it cannot be used.
USABLE_SHARE = 0.9


@dataclass(frozen=True)
class Measurement:
    """
    What a run takes with batches of one size.

    Args:
        batch_size: images in a batch.
        batches_per_epoch: batches in an epoch.
        seconds: time of a batch, in seconds, with the loading of its images.
        peak_memory: the most memory that was used, in bytes: of the accelerator, or of the process on a CPU.
        parameters: the number of parameters, by part of the model.
        num_trained: the number of parameters that are trained.
    """

    batch_size: int
    batches_per_epoch: int
    seconds: float
    peak_memory: int
    parameters: dict[str, int]
    num_trained: int


def estimate(recipe: Recipe, num_batches: int, cpu: bool = False) -> str:
    """
    Trains some batches of a recipe on this machine, and describes what the whole run takes. Nothing is written.

    Args:
        recipe: the settings.
        num_batches: the number of batches to measure, after one that is not measured.
        cpu: whether to use the CPU even if there is an accelerator; by default not.

    Returns:
        Lines of text: parameters by part, peak memory, images per second, the time of an epoch and of the run, and the
        largest batch that fits, which is extrapolated from the memory of batches of half and of full size.

    Raises:
        ValueError: if the recipe does not fit the data, its batches do not fit into the memory of the accelerator, or
            there are several processes.
    """
    accelerator = build_accelerator(recipe, JSONLTracker(Path(recipe.output_dir)), cpu)
    if accelerator.num_processes > 1:
        raise ValueError("An estimate is of one process: run `bdam train … --estimate N`, without a launcher.")
    data = load_training_data(recipe.data, recipe.stream is not None)
    capacity = _memory_capacity(accelerator.device)
    persons = recipe.persons_per_batch
    half = recipe.model_copy(update={"persons_per_batch": max(persons // 2, min(persons, 2))})
    measurements = []
    try:
        for each in (half, recipe):  # in this order, since the peak of a process on a CPU never falls
            measurements.append(_measure(each, accelerator, data, num_batches))
            accelerator.free_memory()
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"Batches of {persons * recipe.images_per_person} images do not fit into the memory of the accelerator: "
            "lower persons_per_batch."
        ) from error
    smaller, full = measurements
    return _describe(recipe, smaller, full, capacity)


def largest_batch(smaller: Measurement, larger: Measurement, capacity: int) -> int | None:
    """The most images of a batch that fit into `capacity` bytes, if memory grows linearly; None if it did not grow."""
    growth = larger.peak_memory - smaller.peak_memory
    if growth <= 0 or larger.batch_size == smaller.batch_size:
        return None
    per_image = growth / (larger.batch_size - smaller.batch_size)
    return max(int(larger.batch_size + (USABLE_SHARE * capacity - larger.peak_memory) / per_image), 0)


def _measure(recipe: Recipe, accelerator: Accelerator, data: DatasetDict, num_batches: int) -> Measurement:
    set_seed(recipe.seed)
    run = build_run(recipe, accelerator, Stopwatch(accelerator, None), data, keep_checkpoints=0)
    run.model.train()
    device = accelerator.device
    if device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)
    start = 0.0
    for index, batch in enumerate(islice(chain.from_iterable(map(run.batches.epoch, count())), num_batches + 1)):
        run.train_batch(recipe.num_epochs - 1, batch)  # in the last epoch no loss is delayed
        if index == 0:
            start = _now(device)
    seconds = (_now(device) - start) / num_batches
    model = accelerator.unwrap_model(run.model)
    parameters: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameters[name.partition(".")[0]] += parameter.numel()
    return Measurement(
        batch_size=run.batches.batch_size,
        batches_per_epoch=len(run.batches),
        seconds=seconds,
        peak_memory=_peak_memory(device),
        parameters=dict(parameters),
        num_trained=model.num_parameters(only_trainable=True),
    )


def _now(device: torch.device) -> float:
    """Seconds, after all work of the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _peak_memory(device: torch.device) -> int:
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _memory_capacity(device: torch.device) -> int:
    """The bytes of memory that this process could use."""
    if device.type != "cpu":
        return torch.accelerator.get_memory_info(device)[1]
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def _describe(recipe: Recipe, smaller: Measurement, full: Measurement, capacity: int) -> str:
    largest = largest_batch(smaller, full, capacity)
    basis = f"the peaks of batches of {smaller.batch_size} and {full.batch_size} images"
    epoch = full.batches_per_epoch * full.seconds
    lines = {
        "parameters": f"{sum(full.parameters.values()):,}, of which {full.num_trained:,} are trained",
        **{f"  {part}": f"{number:,}" for part, number in full.parameters.items()},
        "batch": f"{full.batch_size} images",
        "peak memory": f"{full.peak_memory / 1e9:.2f} GB of {capacity / 1e9:.2f} GB",
        "speed": f"{full.batch_size / full.seconds:.1f} images/s",
        "epoch": f"{_duration(epoch)}, {full.batches_per_epoch} batches",
        "run": f"{_duration(recipe.num_epochs * epoch)}, {recipe.num_epochs} epochs, without validation",
        "largest batch": f"unknown: {basis} do not differ"
        if largest is None
        else f"about {largest} images, an estimate from {basis}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines.items())


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds; below a minute, seconds with a decimal."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{timedelta(seconds=round(seconds))} h"
