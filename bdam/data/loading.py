"""Data sets on disk."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import DatasetDict, Image
from PIL import Image as PILImage

from bdam.data.schema import FEATURES


def load_data(path: str | Path) -> DatasetDict:
    """
    Loads a data set that was written by `DatasetDict.save_to_disk`, such as generated pedestrians.

    Raises:
        FileNotFoundError: if there is no data set at `path`.
        ValueError: if a split is empty or lacks a column of the schema; and, once it is looked at, if a picture cannot
            be read.
    """
    if not (Path(path) / "dataset_dict.json").is_file():
        raise FileNotFoundError(f"No data set at {path}: make one with `bdam data pedestrians {path}`.")
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
    return data.cast_column("image", Image(decode=False)).with_transform(partial(_decode_pictures, source=str(path)))


def _decode_pictures(batch: dict[str, list[Any]], source: str) -> dict[str, list[Any]]:
    """Opens the pictures of a batch of rows, naming the record if one cannot be read."""
    if "image" not in batch:
        return batch
    rows = zip(batch["image"], batch.get("image_id", ["?"] * len(batch["image"])), strict=True)
    return {**batch, "image": [_decode(picture, f"{source}, picture {image_id}") for picture, image_id in rows]}


def _decode(picture: dict[str, Any], record: str) -> PILImage.Image:
    try:
        file = picture["path"] if picture["bytes"] is None else BytesIO(picture["bytes"])
        return PILImage.open(file).convert("RGB")
    except (OSError, SyntaxError) as error:  # what Pillow raises for missing, foreign and broken files
        raise ValueError(f"{record} cannot be read ({error}): restore or remove it.") from error
