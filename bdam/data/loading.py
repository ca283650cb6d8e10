"""Data sets on disk: one spelling for all of them."""

from pathlib import Path

from datasets import Dataset, DatasetDict, Value, concatenate_datasets

from bdam.data.benchmarks import BENCHMARKS, parse_benchmark, read_rows
from bdam.data.pictures import open_pictures, read_column
from bdam.data.schema import FEATURES, choose_split


def load_data(source: str | Path) -> DatasetDict:
    """
    Loads a data set: the folder that `DatasetDict.save_to_disk` wrote, such as generated pedestrians; a benchmark,
    `NAME:ROOT`; or several of them between `+`, split by split, whose person and outfit ids are shifted apart.

    Example:

    ```python
    >>> load_data("cuhk-pedes:/data/CUHK-PEDES+icfg-pedes:/data/ICFG-PEDES")
    ```

    Raises:
        FileNotFoundError: if there is no data set at `source`.
        ValueError: if a split is empty, lacks a column of the schema, or has a record that is not as it should be;
            and, once it is looked at, if a picture cannot be read.
    """
    source = str(source)
    parts = [_read(part) for part in ([source] if Path(source).exists() else source.split("+"))]
    return open_pictures(parts[0] if len(parts) == 1 else _join(parts), source)


def load_split(source: str | Path, split: str) -> Dataset:
    """
    Loads one split of a data set; see [`load_data`].

    Raises:
        ValueError: besides, if there is no such split.
    """
    return choose_split(load_data(source), split, str(source))


def load_training_data(source: str | Path) -> DatasetDict:
    """
    Loads a data set to train on; see [`load_data`].

    Raises:
        ValueError: besides, if the split train or validation is missing, or lacks captions.
    """
    data = load_data(source)
    for split in ("train", "validation"):
        captions = read_column(choose_split(data, split, str(source)), "captions")
        if not (all if split == "train" else any)(captions):
            raise ValueError(
                f"{source}, split {split!r}: {captions.count([])} of {len(captions)} pictures have no captions, which "
                "training searches by: write some, or train on other data."
            )
    return data


def _read(part: str) -> DatasetDict:
    return _read_saved(part) if Path(part).exists() or ":" not in part else read_rows(*parse_benchmark(part))


def _read_saved(path: str) -> DatasetDict:
    if not (Path(path) / "dataset_dict.json").is_file():
        raise FileNotFoundError(
            f"No data set at {path}: make one with `bdam data pedestrians {path}`, or give a benchmark as NAME:ROOT, "
            f"where NAME is one of {', '.join(BENCHMARKS)}."
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
            rows = dataset.select_columns(list(FEATURES))
            for column, offset in used.items():
                ids = [None if value is None else value + offset for value in read_column(rows, column)]
                rows = rows.remove_columns(column).add_column(column, ids, feature=Value("int64"))
                shift[column] = max([shift[column], *(1 + value for value in ids if value is not None)])
            splits.setdefault(split, []).append(rows.select_columns(list(FEATURES)))
    return DatasetDict({split: concatenate_datasets(datasets) for split, datasets in splits.items()})
