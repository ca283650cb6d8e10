"""Pictures of data sets, opened where they are looked at."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Image
from PIL import Image as PILImage


EXTENSIONS = (".jpg", ".jpeg", ".png")


def open_pictures(data: Dataset | DatasetDict, source: str) -> Any:
    """The same rows, whose pictures become PIL images in RGB only when a row is read."""
    return data.cast_column("image", Image(decode=False)).with_transform(partial(_decode_pictures, source=source))


def list_pictures(folder: Path) -> list[Path]:
    """
    The pictures in a folder and the folders in it, in order.

    Raises:
        FileNotFoundError: if there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if is_picture(path))
    if not paths:
        raise FileNotFoundError(f"No pictures in {folder}: give a folder with some ({', '.join(EXTENSIONS)}).")
    return paths


def is_picture(path: Path) -> bool:
    """Whether a file looks like a picture; those that the system hides do not count."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_column(dataset: Dataset, name: str) -> list[Any]:
    """A column without the pictures, which `dataset[name]` would open one by one as well."""
    return dataset.select_columns(name).with_format(None)[:][name]


def open_picture(file: str | Path | BytesIO) -> PILImage.Image:
    """
    Reads a whole picture, in RGB. A file is found by [`find_picture`].

    Raises:
        OSError, SyntaxError: what Pillow raises for missing, foreign and broken files.
    """
    with PILImage.open(file if isinstance(file, BytesIO) else find_picture(Path(file))) as picture:
        return picture.convert("RGB")


def find_picture(path: Path) -> Path:
    """The same path, or its twin with the extension in lower or upper case where only that is there."""
    twins = (path.with_suffix(path.suffix.lower()), path.with_suffix(path.suffix.upper()))
    return path if path.is_file() else next((twin for twin in twins if twin.is_file()), path)


def _decode_pictures(batch: dict[str, list[Any]], source: str) -> dict[str, list[Any]]:
    """Opens the pictures of a batch of rows, naming the record if one cannot be read."""
    if "image" not in batch:
        return batch
    names = next((batch[name] for name in ("image_id", "picture") if name in batch), ["?"] * len(batch["image"]))
    rows = zip(batch["image"], names, strict=True)
    return {**batch, "image": [_decode(picture, f"{source}, picture {name}") for picture, name in rows]}


def _decode(picture: dict[str, Any], record: str) -> PILImage.Image:
    try:
        return open_picture(picture["path"] if picture["bytes"] is None else BytesIO(picture["bytes"]))
    except (OSError, SyntaxError) as error:
        hint = (
            "; `bdam data check NAME:ROOT` finds all such pictures of a benchmark" if picture["bytes"] is None else ""
        )
        raise ValueError(f"{record} cannot be read ({error}): restore or remove it{hint}.") from error
