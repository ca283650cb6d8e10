"""Evaluates checkpoints: loads them, embeds a split, and scores it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from accelerate import PartialState

from bdam.data.loading import load_split
from bdam.encoding.encoders import Encoder, load_encoder
from bdam.encoding.extraction import feature_store
from bdam.encoding.models import fingerprint, training_seconds, training_seed
from bdam.evaluation.calibration import Calibration
from bdam.evaluation.features import Features, extract_features
from bdam.evaluation.open_set import OpenSetResult, evaluate_open_set
from bdam.evaluation.origin import commit, data_source
from bdam.evaluation.protocols import evaluate
from bdam.evaluation.results import Origin, Result, Results


def evaluate_checkpoint(
    checkpoint: str | Path | Iterable[str],
    data: str | Iterable[str],
    split: str = "test",
    *,
    clothing_weights: tuple[float, ...] | None = None,
    image_to_text: bool = False,
    batch_size: int = 64,
    mixed_precision: str = "no",
    use_cache: bool = True,
) -> Results:
    """
    Results of one or several checkpoints on one or several data sets, by all protocols that the data allows, on all
    galleries, with all kinds of queries; see [`bdam.evaluation.protocols.evaluate`]. It runs on the accelerator, if
    there is one. Processes that `accelerate launch` started share the work and return the same results.

    Args:
        checkpoint: folder, or name on the Hub, of a BDAM, of its ONNX export or of another dual encoder; or several.
        data: a data set, see [`load_data`], or several, one by one.
        split: `train`, `validation` or `test` (default).
        clothing_weights: the values of c, how much clothing counts; by default 0 and the model's own.
        image_to_text: whether to search captions by image as well; by default not.
        batch_size: images per forward pass.
        mixed_precision: `no` (default), `fp16` or `bf16`.
        use_cache: whether to read and write embeddings in the assets cache of the Hub's libraries.

    Returns:
        A list with one [`Result`] for each checkpoint, data set, protocol, query, gallery and clothing weight: `r1`,
        `r5`, `r10`, `map` and `minp` in percent, and where they come from. Its `to_json(path)` writes it.

    Raises:
        FileNotFoundError: if a model or the data is not there.
        ValueError: if a model is no dual encoder, or the split does not exist or has nothing to search by.

    Example:

    ```python
    >>> from bdam import evaluate_checkpoint
    >>> results = evaluate_checkpoint("outputs/demo/model", "outputs/demo/pedestrians")
    >>> results[0].protocol, results[0].query, results[0].gallery
    ('standard', 'caption', 'image')
    ```"""
    results = Results()
    for encoder, features, origin in _embed_splits(checkpoint, data, split, batch_size, mixed_precision, use_cache):
        scores = evaluate(features, clothing_weights or _own_weights(encoder), image_to_text)
        results += [Result(**score.model_dump(), **origin.model_dump(exclude_unset=True)) for score in scores]
    return results


def evaluate_checkpoint_open_set(
    checkpoint: str | Path | Iterable[str],
    data: str | Iterable[str],
    split: str = "test",
    *,
    clothing_weights: tuple[float, ...] | None = None,
    batch_size: int = 64,
    mixed_precision: str = "no",
    use_cache: bool = True,
) -> list[OpenSetResult]:
    """
    Open-set results of one or several checkpoints on one or several data sets, see [`evaluate_open_set`], and how far
    the calibration of each checkpoint holds there. Arguments and errors are those of [`evaluate_checkpoint`].
    """
    results = []
    for encoder, features, origin in _embed_splits(checkpoint, data, split, batch_size, mixed_precision, use_cache):
        calibration = Calibration.load(origin.checkpoint)
        scores = evaluate_open_set(features, calibration, clothing_weights or _own_weights(encoder))
        results += [OpenSetResult(**dict(score), **origin.model_dump(exclude_unset=True)) for score in scores]
    return results


def calibrate_checkpoint(
    checkpoint: Path, data: str, split: str = "validation", batch_size: int = 64, mixed_precision: str = "no"
) -> Calibration:
    """
    Fits the [`Calibration`] of a checkpoint on a split, keeps it in the folder of the checkpoint, and returns it.

    Args:
        checkpoint: the folder of the model.
        data: a data set, see [`load_data`].
        split: whose persons the model was not trained on. Default: `validation`.
        batch_size: images per forward pass.
        mixed_precision: `no` (default), `fp16` or `bf16`.

    Raises:
        FileNotFoundError: if there is no such folder, or the data is not there.
        ValueError: if the split does not exist, or has too few persons or no sentences.
    """
    if not checkpoint.is_dir():
        raise FileNotFoundError(
            f"{checkpoint} is no folder: a calibration is kept with its model, so download it first."
        )
    ((_, features, _),) = _embed_splits(checkpoint, data, split, batch_size, mixed_precision, use_cache=True)
    calibration = Calibration.fit(features)
    if PartialState().is_main_process:
        calibration.save(checkpoint)
    return calibration


def _embed_splits(
    checkpoint: str | Path | Iterable[str],
    data: str | Iterable[str],
    split: str,
    batch_size: int,
    mixed_precision: str,
    use_cache: bool,
) -> Iterator[tuple[Encoder, Features, Origin]]:
    """Each checkpoint with the split of each data set, embedded by it, and the origin of their scores."""
    checkpoints = [str(checkpoint)] if isinstance(checkpoint, str | Path) else list(checkpoint)
    sources = [data] if isinstance(data, str) else list(data)
    settings: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
    splits = [load_split(source, split) for source in sources]
    for name in checkpoints:
        encoder = load_encoder(name)
        encoder.model.to(PartialState().device)
        for source, dataset in zip(sources, splits, strict=True):
            store = feature_store(name, dataset, **settings) if use_cache else None
            features = extract_features(encoder, dataset, **settings, store=store)
            yield encoder, features, _origin(name, split, data_source(dataset, source), mixed_precision)


def _own_weights(encoder: Encoder) -> tuple[float, ...]:
    """0 and the clothing weight of the model itself."""
    return tuple(dict.fromkeys((0.0, getattr(encoder.model.config, "clothing_weight", 0.0))))


def _origin(checkpoint: str, split: str, data: str, mixed_precision: str) -> Origin:
    return Origin(
        split=split,
        checkpoint=checkpoint,
        weights=fingerprint(checkpoint),
        data=data,
        seed=training_seed(checkpoint),
        seconds=training_seconds(checkpoint),
        commit=commit(),
        mixed_precision=mixed_precision,
    )
