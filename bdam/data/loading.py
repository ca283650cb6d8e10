"""Loads data sets from disk and from the Hub, by one notation for all kinds."""

import os
from pathlib import Path

from datasets import Dataset, DatasetDict, Value, concatenate_datasets

from bdam.data.benchmarks import BENCHMARKS, parse_benchmark, read_rows
from bdam.data.hub import HUB, read_hub
from bdam.data.images import open_images, read_column
from bdam.data.schema import AGREEMENT_FEATURES, FEATURES, choose_split


# What may stand before the colon of a source.
NAMES = {*BENCHMARKS, HUB}


def load_data(source: str | Path) -> DatasetDict:
    """
    Loads a data set.

    Args:
        source: the folder that `DatasetDict.save_to_disk` wrote, such as generated pedestrians; a benchmark,
            `NAME:ROOT`; a data set of the Hub, `hf:USER/NAME[@REVISION][/CONFIG]`, see [`read_hub`]; or several of
            them between `+`, split by split, whose person and outfit ids are shifted apart.

    Returns:
        The splits `train`, `validation` and `test`, as far as there are any, with one row per image and the columns of
        `bdam.data.schema.FEATURES`. Images are opened when they are looked at: upright, RGB, 8 bits per channel.

    Raises:
        FileNotFoundError: if there is no data set at `source`.
        ValueError: if a split is empty, lacks a column of the schema, or has a record that is not as it should be;
            and, once it is looked at, if an image cannot be read.

    Example:

    ```python
    >>> from bdam import load_data
    >>> data = load_data("outputs/demo/pedestrians+own:images")
    >>> list(data)
    ['train', 'validation', 'test']
    >>> data["test"][0]["image"].mode
    'RGB'
    ```"""
    return open_images(read_data(source), str(source))


def read_data(source: str | Path) -> DatasetDict:
    """The rows of [`load_data`], with images as `datasets` stores them."""
    parts = [_read(part) for part in split_source(str(source))]
    return parts[0] if len(parts) == 1 else _join(parts)


def load_split(source: str | Path, split: str) -> Dataset:
    """
    One split of a data set.

    Args:
        source: see [`load_data`].
        split: `train`, `validation` or `test`.

    Raises:
        FileNotFoundError: see [`load_data`].
        ValueError: see [`load_data`]; also if there is no such split.
    """
    return choose_split(load_data(source), split, str(source))


def load_training_data(source: str | Path, is_streamed: bool = False) -> DatasetDict:
    """
    A data set to train on, by split.

    Args:
        source: see [`load_data`].
        is_streamed: whether training learns from a stream, and needs the split validation alone.

    Raises:
        FileNotFoundError: see [`load_data`].
        ValueError: see [`load_data`]; also if the split train or validation is missing, an image of train has no
            caption, or no image of validation has one.
    """
    data = load_data(source)
    for split in ("validation",) if is_streamed else ("train", "validation"):
        captions = read_column(choose_split(data, split, str(source)), "captions")
        if not (all if split == "train" else any)(captions):
            raise ValueError(
                f"{source}, split {split!r}: {captions.count([])} of {len(captions)} images have no captions, which "
                "training searches by: write some, or train on other data."
            )
    return data


def resolve_source(source: str) -> str:
    """The same source (see [`load_data`]) with absolute paths; parts that do not exist are not changed."""
    return "+".join(_resolve(part) if _exists(part) else part for part in split_source(source))


def _resolve(part: str) -> str:
    name, root = _name_root(part)
    return f"{name}{':' * bool(name)}{os.path.abspath(os.path.expanduser(root))}"


def split_source(source: str) -> list[str]:
    """The parts of a source that `+` joins. The name of a folder may also contain `+`."""
    pieces, parts = source.split("+"), []
    while pieces:
        # The longest part that exists or, if none does, all up to the next name.
        existing = (n for n in range(len(pieces), 0, -1) if _exists("+".join(pieces[:n])))
        ends = (n for n in range(1, len(pieces)) if pieces[n].partition(":")[0] in NAMES)
        length = next(existing, None) or next(ends, len(pieces))
        parts.append("+".join(pieces[:length]))
        del pieces[:length]
    return parts


def _exists(part: str) -> bool:
    name, root = _name_root(part)
    return name in ("", *BENCHMARKS) and os.path.exists(os.path.expanduser(root))


def _name_root(part: str) -> tuple[str, str]:
    """`NAME:ROOT` → NAME and ROOT; `hf:ADDRESS` → `hf` and ADDRESS; any other source → `""` and the source."""
    name, separator, root = part.partition(":")
    return (name, root) if separator and not os.path.exists(part) else ("", part)


def _read(part: str) -> DatasetDict:
    name, root = _name_root(part)
    if name == HUB:
        return read_hub(root)
    return read_rows(*parse_benchmark(part)) if name else _read_saved(part)


def _read_saved(path: str) -> DatasetDict:
    if not (Path(path) / "dataset_dict.json").is_file():
        raise FileNotFoundError(
            f"No data set at {path}: make one with `bdam data pedestrians {path}`, or give a benchmark as NAME:ROOT, "
            f"where NAME is one of {', '.join(BENCHMARKS)}, or a data set of the Hub as hf:USER/NAME."
        )
    try:
        data = DatasetDict.load_from_disk(path)
    except IndexError:  # what `datasets` raises where a split has no shards
        raise ValueError(f"{path} has a split without any rows: leave the split out, or fill it.") from None
    for split, dataset in data.items():
        missing = [name for name in FEATURES if name not in dataset.features]
        if missing:
            raise ValueError(
                f"{path}, split {split!r}: columns {missing} are missing; the schema has {list(FEATURES)}."
            )
    return data


def _join(parts: list[DatasetDict]) -> DatasetDict:
    shift = {"person_id": 0, "outfit_id": 0}
    splits: dict[str, list[Dataset]] = {}
    for data in parts:
        used = dict(shift)
        for split, dataset in data.items():
            columns = [name for name in (*FEATURES, *AGREEMENT_FEATURES) if name in dataset.column_names]
            rows = dataset.select_columns(columns)
            for column, offset in used.items():
                ids = [None if value is None else value + offset for value in read_column(rows, column)]
                rows = rows.remove_columns(column).add_column(column, ids, feature=Value("int64"))
                shift[column] = max([shift[column], *(1 + value for value in ids if value is not None)])
            splits.setdefault(split, []).append(rows.select_columns(columns))
    return DatasetDict({split: concatenate_datasets(datasets) for split, datasets in splits.items()})
