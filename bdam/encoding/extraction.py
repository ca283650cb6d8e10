"""Embeds many items in batches, in several processes, and keeps the embeddings on disk."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from huggingface_hub import cached_assets_path
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

import bdam
from bdam.data.images import file_stamp
from bdam.data.writing import written_whole
from bdam.encoding.encoders import Encoder, commit_on_hub
from bdam.encoding.models import CALIBRATION, fingerprint


AUTOCAST = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BATCHES_PER_CHUNK = 16

Embeddings = dict[str, torch.Tensor]
# From a list of items to the inputs of a model, on the CPU; and from inputs on the model's device to embeddings.
Prepare = Callable[[list], Mapping[str, torch.Tensor]]
Embed = Callable[[dict[str, torch.Tensor]], Embeddings]
Value = TypeVar("Value")


class FeatureStore:
    """
    A folder of embeddings with a file per chunk, written completely or not at all.

    Args:
        folder: the folder for one checkpoint, data set and setting; see [`feature_store`].
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def holds(self, label: str, chunk: int) -> bool:
        return self._path(label, chunk).is_file()

    def load(self, label: str, chunk: int) -> Embeddings:
        return load_file(self._path(label, chunk))

    def save(self, label: str, chunk: int, embeddings: Embeddings) -> None:
        with written_whole(self._path(label, chunk)) as path:
            save_file(embeddings, path)

    def _path(self, label: str, chunk: int) -> Path:
        return self.folder / f"{label}-{chunk:05d}.safetensors"


def feature_store(checkpoint: str, dataset: Dataset, **settings) -> FeatureStore:
    """
    The store of embeddings in the assets cache of the Hub's libraries. Its folder depends on everything that the
    embeddings depend on: the files of the checkpoint, the rows of the data set, the settings and the versions.

    Args:
        checkpoint: folder of a model, or its name on the Hub.
        dataset: the rows to embed.
        **settings: the batch size and precision of the embeddings.
    """
    key = hashlib.sha256()

    def add(**state) -> None:
        key.update(json.dumps(state, sort_keys=True).encode())

    add(bdam=bdam.__version__, torch=torch.__version__, **settings)
    if Path(checkpoint).is_dir():
        add(weights=fingerprint(checkpoint))
        for path in sorted(path for path in Path(checkpoint).iterdir() if path.suffix in (".json", ".py", ".txt")):
            if path.name != CALIBRATION:
                add(file=path.name, content=path.read_text(encoding="utf-8"))
    else:
        add(checkpoint=checkpoint, commit=commit_on_hub(checkpoint))
    for row in dataset.with_format(None):
        image = row.pop("image")
        add(**row)
        stamp = f"{image['path']} {file_stamp(Path(image['path']))}" if image["bytes"] is None else ""
        key.update(image["bytes"] or stamp.encode())
    return FeatureStore(cached_assets_path("bdam", "features", key.hexdigest()[:32]))


def embed_in_batches(
    model,
    prepare: Prepare,
    embed: Embed,
    items,
    label: str,
    batch_size: int = 64,
    mixed_precision: str = "no",
    store: FeatureStore | None = None,
) -> Embeddings:
    """
    The embeddings of N items: tensors (N, …) by name, without names that a batch lacks.

    Processes embed different chunks, and each returns all embeddings. Chunks in the store are read, and the others are
    written to it when they are finished, so that an interrupted call can be repeated without embedding them again.

    Args:
        store: where embeddings are kept; None (default) keeps none. The others are those of [`embed_chunks`].
    """
    rank, num_processes = place_among_processes()
    chunk_size = batch_size * BATCHES_PER_CHUNK
    mine = range(-(-len(items) // chunk_size))[rank::num_processes]
    chunks = {} if store is None else {chunk: store.load(label, chunk) for chunk in mine if store.holds(label, chunk)}
    missing = [chunk for chunk in mine if chunk not in chunks]
    rows = [row for chunk in missing for row in range(len(items))[chunk * chunk_size : (chunk + 1) * chunk_size]]
    embeddings = embed_chunks(model, prepare, embed, Subset(items, rows), label, batch_size, mixed_precision)
    for chunk, embeds in zip(missing, embeddings, strict=True):
        chunks[chunk] = embeds
        if store is not None:
            store.save(label, chunk, embeds)
    chunks = {chunk: embeds for gathered in gather(chunks) for chunk, embeds in gathered.items()}
    return _join([chunks[chunk] for chunk in sorted(chunks)])


@torch.inference_mode()
def embed_chunks(
    model, prepare: Prepare, embed: Embed, items, label: str, batch_size: int = 64, mixed_precision: str = "no"
) -> Iterator[Embeddings]:
    """
    Yields the embeddings of `batch_size * BATCHES_PER_CHUNK` items at a time: tensors by name, on the CPU, floats in
    float32. The model runs in evaluation mode, on its device.

    Args:
        model: the model that `embed` calls.
        prepare: converts a list of items to inputs on the CPU; runs in worker processes if the model is on a GPU.
        embed: converts inputs on the model's device to embeddings of the batch, by name.
        items: a sequence, such as a list or a `Dataset`.
        label: the name of the items in the progress bar and the store.
        batch_size: items per forward pass.
        mixed_precision: `"no"` (default), `"fp16"` or `"bf16"`.
    """
    was_training = model.training
    model.eval()
    rank, _ = place_among_processes()
    precision = torch.autocast(model.device.type, AUTOCAST[mixed_precision], enabled=mixed_precision != "no")
    is_quiet = rank > 0 or len(items) <= batch_size
    with tqdm(total=len(items), desc=f"Embedding {label}", leave=False, disable=is_quiet) as progress:
        batches = _load(items, prepare, batch_size, model.device)
        for _ in range(0, len(items), batch_size * BATCHES_PER_CHUNK):
            parts = []
            for inputs in islice(batches, BATCHES_PER_CHUNK):
                with precision:
                    parts.append({name: _to_cpu(part) for name, part in embed(inputs).items()})
                progress.update(len(next(iter(parts[-1].values()))))
            yield _join(parts)
    model.train(was_training)


def embed_images(
    encoder: Encoder, dataset: Dataset, use_descriptions: bool = False, label: str = "images", **options
) -> Embeddings:
    """Embeddings (N, D) of N images by name: those of the galleries (see [`Encoder`]), and `clothing`."""
    prepare = partial(encoder.prepare_images, use_descriptions=use_descriptions)
    return embed_in_batches(encoder.model, prepare, encoder.embed_images, dataset, label, **options)


def embed_sentences(encoder: Encoder, sentences: list[str], label: str = "sentences", **options) -> Embeddings:
    """Embeddings (N, D) of N sentences: `identity` and, if the model has a clothing stream, `clothing`."""
    return embed_in_batches(
        encoder.model, encoder.prepare_sentences, encoder.embed_sentences, sentences, label, **options
    )


def _load(items, prepare: Callable, batch_size: int, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """Yields batches on the device. On a CPU without worker processes, which would compete with the model."""
    on_gpu = device.type != "cpu"
    loader = DataLoader(
        items,
        batch_size=batch_size,
        collate_fn=lambda batch: dict(prepare(batch)),
        num_workers=min(8, os.cpu_count() or 1) if on_gpu else 0,
        pin_memory=on_gpu,
    )
    for inputs in loader:
        yield {name: values.to(device, non_blocking=True) for name, values in inputs.items()}


def _to_cpu(part: torch.Tensor) -> torch.Tensor:
    return (part.float() if part.is_floating_point() else part).cpu()


def _join(parts: list[Embeddings]) -> Embeddings:
    return {
        name: torch.cat([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)
    }


def place_among_processes() -> tuple[int, int]:
    """The rank of this process, and the number of processes."""
    is_shared = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if is_shared else (0, 1)


def wait_for_all_processes() -> None:
    """Waits until all processes have called this function."""
    _, num_processes = place_among_processes()
    if num_processes > 1:
        distributed.barrier()


def gather(value: Value) -> list[Value]:
    """The values of all processes, by rank."""
    _, num_processes = place_among_processes()
    if num_processes == 1:
        return [value]
    gathered: list[Any] = [None] * num_processes
    distributed.all_gather_object(gathered, value)
    return gathered
