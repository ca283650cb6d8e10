"""Images on disk and in data sets: which files are images, and the one way to open them."""

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Image
from PIL import Image as PILImage

from processing_bdam import to_upright_rgb


logger = logging.getLogger(__name__)

# What Pillow itself warns of. A file of a few kilobytes can hold far more, which would fill the memory.
MAX_PIXELS = 89_478_485
# Formats that Pillow recognizes, but leaves to other programs to read.
UNREADABLE_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
# Names that a message about many images shows.
SHOWN = 20


class ImageError(ValueError):
    """
    An image that cannot be read.

    Args:
        message: which image, why, and what to do.
        reason: why alone.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason

    @classmethod
    def of(cls, name: str, reason: str, remedy: str = "restore or remove it") -> "ImageError":
        return cls(f"{name} cannot be read ({reason}): {remedy}.", reason)


class MissingImageError(ImageError, FileNotFoundError):
    """An image whose file is not there."""


def open_images(data: Dataset | DatasetDict, source: str) -> Any:
    """
    The same rows, whose images become PIL images as [`open_image`] makes them only when a row is read.

    Args:
        source: what errors call the data set.
    """
    return data.cast_column("image", Image(decode=False)).with_transform(partial(_decode_images, source=source))


def open_image(file: str | Path | BytesIO, name: str | None = None, max_pixels: int = MAX_PIXELS) -> PILImage.Image:
    """
    Reads a whole image: upright, in RGB, 8 bits per channel, transparent parts on white, of several frames the
    first. Whatever in this package looks at an image opens it here. A file is found by [`find_image`].

    Args:
        name: what errors call the image; by default its path.

    Raises:
        MissingImageError: if there is no such file.
        ImageError: if it has more than `max_pixels` pixels, or cannot be read.
    """
    name = name or ("The image" if isinstance(file, BytesIO) else str(file))
    try:
        file = file if isinstance(file, BytesIO) else find_image(Path(file))
        with PILImage.open(file, formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise PILImage.DecompressionBombError
            return to_upright_rgb(image)
    except FileNotFoundError:
        raise MissingImageError.of(name, "there is no such file") from None
    except (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning):
        raise ImageError.of(name, f"it has over {max_pixels:,} pixels", "make it smaller") from None
    except PILImage.UnidentifiedImageError:
        raise ImageError.of(name, "it is no image") from None
    except Exception as error:  # Pillow raises nearly anything for what is damaged
        raise ImageError.of(name, str(error) or type(error).__name__) from error


def decode_image(image: dict[str, Any] | None, name: str) -> PILImage.Image:
    """
    An image as `datasets` stores it: its `bytes` or, without these, the file at its `path`.

    Raises:
        ImageError: as [`open_image`]; also if there is no image at all.
    """
    if image is None or (image["bytes"] is None and not image["path"]):
        raise ImageError.of(name, "the record has none", "add it, or remove the record")
    return open_image(image["path"] if image["bytes"] is None else BytesIO(image["bytes"]), name)


def find_image(path: Path) -> Path:
    """
    The same path or, where that is not there, one that is spelled otherwise: with composed or decomposed accents, or
    with the extension in lower or upper case.
    """
    if path.exists() or path == path.parent:
        return path
    folder = find_image(path.parent)
    forms = [unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")]
    names = (spelling for name in forms for spelling in (name, *_twins(name)))
    return next((folder / name for name in names if (folder / name).exists()), path)


def file_stamp(path: Path) -> str:
    """
    Changes when the file of an image does, without reading it: by its size, and by the times when it was written and
    when it got here, which whoever copies a file cannot set.

    Raises:
        MissingImageError: if it is not there.
    """
    try:
        file = find_image(path).stat()
    except FileNotFoundError:
        raise MissingImageError.of(str(path), "there is no such file") from None
    return f"{file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}"


def list_images(folder: Path) -> list[Path]:
    """
    The images in a folder and the folders in it, in order, by their extensions: those of every format that Pillow
    reads. Links are followed. A warning counts what is left out, by reason.

    Raises:
        FileNotFoundError: if there are none.
    """
    skipped: dict[str, list[str]] = defaultdict(list)
    paths = sorted(_walk(folder, skipped))
    reasons = "; ".join(f"{reason}: {len(names):,} ({name_some(names)})" for reason, names in skipped.items())
    if not paths:
        left_out = f" It holds {reasons}." if skipped else ""
        raise FileNotFoundError(f"No images in {folder}: give a folder with some, such as JPEG or PNG.{left_out}")
    if skipped:
        logger.warning(f"{folder}: left out {reasons}.")
    return paths


def name_some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def is_image(path: Path) -> bool:
    """Whether a file is called as an image is; those that the system hides do not count."""
    return path.suffix.lower() in _extensions() and not path.name.startswith(".")


def read_column(dataset: Dataset, name: str) -> list[Any]:
    """A column without the images, which `dataset[name]` would open one by one as well."""
    return dataset.select_columns(name).with_format(None)[:][name]


@cache
def _formats() -> tuple[str, ...]:
    PILImage.init()
    return tuple(format for format in PILImage.OPEN if format not in UNREADABLE_FORMATS)


@cache
def _extensions() -> frozenset[str]:
    readable = {*_formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(suffix for suffix, format in PILImage.registered_extensions().items() if format in readable)


def _twins(name: str) -> list[str]:
    path = Path(name)
    return [f"{path.stem}{suffix}" for suffix in (path.suffix.lower(), path.suffix.upper())]


def _walk(root: Path, skipped: dict[str, list[str]]) -> Iterator[Path]:
    """The images below a folder. A linked folder is followed unless it is, or holds, one that is walked anyway."""
    seen = {os.path.realpath(root)}
    unreadable = partial(_note_unreadable, root, skipped)
    for folder, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        followed = []
        for name in sorted(folders):
            path = Path(folder, name)
            target = os.path.realpath(path)
            is_known = target in seen or (path.is_symlink() and _contains(os.path.realpath(root), target))
            if reason := "hidden folders" if name.startswith(".") else "links to folders in it" if is_known else None:
                skipped[reason].append(_show(path, root))
            else:
                followed.append(name)
                seen.add(target)
        folders[:] = followed
        for path in (Path(folder, name) for name in sorted(files)):
            if reason := _why_skipped(path):
                skipped[reason].append(_show(path, root))
            else:
                yield path


def _why_skipped(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden files"
    if not is_image(path):
        return "files that are no images by their extension"
    if not path.is_file():
        return "links to nothing" if path.is_symlink() else "special files"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "files whose name is not UTF-8"
    return None


def _note_unreadable(root: Path, skipped: dict[str, list[str]], error: OSError) -> None:
    skipped[f"folders that cannot be read: {error.strerror}"].append(_show(Path(error.filename), root))


def _contains(folder: str, target: str) -> bool:
    """Whether a folder holds another, or the other way round."""
    return os.path.commonpath([folder, target]) in (folder, target)


def _show(path: Path, root: Path) -> str:
    return str(path.relative_to(root)).encode(errors="replace").decode()


def _decode_images(batch: dict[str, list[Any]], source: str) -> dict[str, list[Any]]:
    """Opens the images of a batch of rows."""
    if "image" not in batch:
        return batch
    names = batch.get("image_id", ["?"] * len(batch["image"]))
    rows = zip(batch["image"], names, strict=True)
    return {**batch, "image": [_decode(image, f"{source}, image {name}") for image, name in rows]}


def _decode(image: dict[str, Any] | None, record: str) -> PILImage.Image:
    try:
        return decode_image(image, record)
    except ImageError as error:
        if image is None or image["bytes"] is not None:
            raise
        remedy = "restore or remove it; `bdam data check NAME:ROOT` finds all such images of a benchmark"
        raise ImageError.of(record, error.reason, remedy) from error
