"""The batches of a training run. They come from a data set, balanced by person, or from a stream."""

from collections.abc import Iterable
from itertools import islice
from random import Random
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader

from bdam.data.batches import PersonBatchSampler, StreamCollator, TrainingRows
from bdam.data.corpora import Corpus, open_corpus
from bdam.data.images import read_column
from bdam.data.streaming import Position, StreamedBatches, StreamedRows, shuffled_rows
from bdam.recipes.recipe import Recipe
from bdam.training.building import build_collator, check_agreement
from processing_bdam import BDAMProcessor


# The rows of a corpus whose words a tokenizer from scratch learns.
TOKENIZED = 20_000


class Batches(Protocol):
    """
    Batches of training, epoch by epoch; `len` is the number of those of an epoch.

    Attributes:
        batch_size: images in a batch, of all processes together.
    """

    @property
    def batch_size(self) -> int: ...

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterable[dict[str, Any]]:
        """The batches of an epoch from `start` on."""
        ...


class SampledBatches(Batches):
    """Batches of a data set: a sampler chooses their rows, and a `DataLoader` reads them."""

    def __init__(self, accelerator: Accelerator, sampler: PersonBatchSampler, loader: DataLoader):
        self.accelerator = accelerator
        self.sampler = sampler
        self.loader = accelerator.prepare(loader)

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, start: int = 0) -> Iterable[dict[str, Any]]:
        self.sampler.set_epoch(number)
        return self.accelerator.skip_first_batches(self.loader, start)


def training_rows(recipe: Recipe, data: DatasetDict) -> Dataset | Corpus:
    """
    What a recipe learns from: the corpus that it streams, or the split train.

    Raises:
        FileNotFoundError: if there is no such corpus.
        ValueError: if the recipe does not fit what it learns from.
    """
    if recipe.stream is None:
        check_agreement(recipe, data["train"])
        return data["train"]
    if recipe.steps_per_epoch is None:
        raise ValueError("A stream has no end: say by `steps_per_epoch` how many steps count as an epoch.")
    if recipe.loss_weights["triplet_loss"]:
        raise ValueError("A stream rarely has two images of a person in a batch: set loss_weights.triplet_loss=0.")
    if recipe.weigh_by_agreement:
        raise ValueError("No corpus says how far its descriptions agree: set weigh_by_agreement=false.")
    return open_corpus(recipe.stream)


def rows_with_texts(rows: Dataset | Corpus, seed: int) -> Iterable[dict[str, Any]]:
    """Rows whose words a tokenizer from scratch learns: all, or the first `TOKENIZED` of a shuffled corpus."""
    return rows if isinstance(rows, Dataset) else islice(shuffled_rows(rows, Random(seed)), TOKENIZED)


def build_batches(
    recipe: Recipe, accelerator: Accelerator, rows: Dataset | Corpus, processor: BDAMProcessor
) -> Batches:
    """
    The batches of a recipe, for this process.

    Raises:
        ValueError: if the processes cannot share a batch equally.
    """
    size = recipe.persons_per_batch * recipe.images_per_person
    if size % accelerator.num_processes:
        raise ValueError(
            f"{accelerator.num_processes} processes cannot share batches of {size} images equally: "
            "change persons_per_batch."
        )
    loading: dict[str, Any] = {
        "num_workers": recipe.num_workers,
        "pin_memory": accelerator.device.type == "cuda",
        "generator": torch.Generator(),  # otherwise each epoch advances the generator of dropout
    }
    collate = build_collator(recipe, processor)
    if not isinstance(rows, Dataset):
        part = accelerator.process_index, accelerator.num_processes
        steps = (recipe.steps_per_epoch or 0) * recipe.gradient_accumulation_steps
        streamed = StreamedRows(rows, size, recipe.seed, Position())
        return StreamedBatches(streamed, StreamCollator(processor, collate), part, steps, **loading)
    sampler = PersonBatchSampler(
        read_column(rows, "person_id"),
        recipe.persons_per_batch,
        recipe.images_per_person,
        read_column(rows, "outfit_id"),
        seed=recipe.seed,
    )
    kept = TrainingRows(rows, processor, keep=recipe.keep_in_memory)
    return SampledBatches(accelerator, sampler, DataLoader(kept, batch_sampler=sampler, collate_fn=collate, **loading))
