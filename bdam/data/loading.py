"""Data sets on disk."""

from pathlib import Path

from datasets import DatasetDict

from bdam.data.schema import FEATURES


def load_data(path: str | Path) -> DatasetDict:
    """
    Loads a data set that was written by `DatasetDict.save_to_disk`, such as generated pedestrians.

    Raises:
        FileNotFoundError: if there is no data set at `path`.
        ValueError: if a column of the schema is missing.
    """
    if not (Path(path) / "dataset_dict.json").is_file():
        raise FileNotFoundError(f"No data set at {path}: make one with `bdam data pedestrians {path}`.")
    data = DatasetDict.load_from_disk(path)
    for split, dataset in data.items():
        missing = [name for name in FEATURES if name not in dataset.features]
        if missing:
            raise ValueError(
                f"{path}, split {split!r}: columns {missing} are missing; the schema has {list(FEATURES)}."
            )
    return data
