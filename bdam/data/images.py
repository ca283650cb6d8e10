"""Finds images in folders and data sets, and opens them, in the same way everywhere."""

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Image
from PIL import Image as PILImage
from typing_extensions import Self

from processing_bdam import to_upright_rgb


logger = logging.getLogger(__name__)

# Where Pillow's own warning begins. A file of a few kilobytes can have far more pixels, which would fill the memory.
MAX_PIXELS = 89_478_485
# Formats that Pillow recognizes but cannot read without other programs.
UNREADABLE_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
# What an `imagefolder` of `datasets` calls the file that lists its images.
METADATA_FILE = "metadata.jsonl"
# Number of names that a message about many images shows.
SHOWN = 20


class ImageError(ValueError):
    """
    An image that cannot be read.

    Args:
        message: the image, the reason and the remedy, as a sentence.
        reason: the reason alone.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason

    @classmethod
    def of(cls, name: str, reason: str, remedy: str = "restore or remove it") -> Self:
        """The error whose message is `NAME cannot be read (REASON): REMEDY.`"""
        return cls(f"{name} cannot be read ({reason}): {remedy}.", reason)


class MissingImageError(ImageError, FileNotFoundError):
    """An image whose file does not exist."""


def open_images(data: Dataset | DatasetDict, source: str) -> Any:
    """
    The same rows, whose images are opened by [`open_image`] when a row is read.

    Args:
        data: rows with a column `image`.
        source: the name of the data set in errors.
    """
    return data.cast_column("image", Image(decode=False)).with_transform(partial(_decode_images, source=source))


def open_image(file: str | Path | BytesIO, name: str | None = None, max_pixels: int = MAX_PIXELS) -> PILImage.Image:
    """
    An image, upright, in RGB with 8 bits per channel, and with white behind transparent parts. Of several frames it is
    the first. Everything in this package opens images by this function.

    Args:
        file: a path, which [`find_image`] looks up, or the bytes of the file.
        name: the name of the image in errors; by default its path.
        max_pixels: the largest number of pixels that is read.

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
    except Exception as error:  # Pillow raises nearly any exception for damaged files
        raise ImageError.of(name, str(error) or type(error).__name__) from error


def decode_image(image: dict[str, Any] | None, name: str) -> PILImage.Image:
    """
    An image that `datasets` stores undecoded; see [`open_image`].

    Args:
        image: `{"bytes": …, "path": …}`; the path is read if there are no bytes.
        name: the name of the image in errors.

    Raises:
        ImageError: as [`open_image`], and if there is neither path nor bytes.
    """
    if image is None or (image["bytes"] is None and not image["path"]):
        raise ImageError.of(name, "the record has none", "add it, or remove the record")
    return open_image(image["path"] if image["bytes"] is None else BytesIO(image["bytes"]), name)


def find_image(path: Path) -> Path:
    """
    The path or, if it does not exist, the one that exists with another spelling: with composed or decomposed accents,
    or with the extension in lower or upper case.
    """
    if path.exists() or path == path.parent:
        return path
    folder = find_image(path.parent)
    forms = [unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")]
    names = (spelling for name in forms for spelling in (name, *_extension_cases(name)))
    return next((folder / name for name in names if (folder / name).exists()), path)


def file_stamp(path: Path) -> str:
    """
    A string that changes when the file of an image changes: its size, modification time and change time. A copied file
    can keep its modification time, but not its change time.

    Raises:
        MissingImageError: if there is no such file.
    """
    try:
        file = find_image(path).stat()
    except FileNotFoundError:
        raise MissingImageError.of(str(path), "there is no such file") from None
    return f"{file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}"


def list_images(folder: Path) -> list[Path]:
    """
    The sorted paths of the images in a folder and its subfolders, see [`list_files`]: the files with an extension of
    a format that Pillow reads.
    """
    return list_files(folder, is_image, "images", "such as JPEG or PNG")


def list_files(folder: Path, is_wanted: Callable[[Path], bool], kind: str, examples: str) -> list[Path]:
    """
    The sorted paths of the files of a kind in a folder and its subfolders. Links are followed. A warning counts the
    files that are left out, by reason.

    Args:
        folder: to look in.
        is_wanted: whether a file is of this kind by its name.
        kind, examples: what they are called in messages, such as `"images"` and `"such as JPEG or PNG"`.

    Raises:
        FileNotFoundError: if there are none.
    """
    skipped: dict[str, list[str]] = defaultdict(list)
    paths = sorted(_walk(folder, is_wanted, kind, skipped))
    reasons = "; ".join(f"{reason}: {len(names):,} ({name_some(names)})" for reason, names in skipped.items())
    if not paths:
        left_out = f" It holds {reasons}." if skipped else ""
        raise FileNotFoundError(f"No {kind} in {folder}: give a folder with some, {examples}.{left_out}")
    if skipped:
        logger.warning(f"{folder}: left out {reasons}.")
    return paths


def name_some(names: list[str]) -> str:
    """The first names, joined by commas, and the number of others."""
    more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def is_image(path: Path) -> bool:
    """Whether the name of a file has the extension of an image, and does not start with a dot."""
    return path.suffix.lower() in _extensions() and not path.name.startswith(".")


def read_column(dataset: Dataset, name: str) -> list[Any]:
    """The values of a column. Unlike `dataset[name]`, this does not open the images."""
    return dataset.select_columns(name).with_format(None)[:][name]


@cache
def _formats() -> tuple[str, ...]:
    PILImage.init()
    return tuple(format for format in PILImage.OPEN if format not in UNREADABLE_FORMATS)


@cache
def _extensions() -> frozenset[str]:
    readable = {*_formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(suffix for suffix, format in PILImage.registered_extensions().items() if format in readable)


def _extension_cases(name: str) -> list[str]:
    path = Path(name)
    return [f"{path.stem}{suffix}" for suffix in (path.suffix.lower(), path.suffix.upper())]


def _walk(root: Path, is_wanted: Callable[[Path], bool], kind: str, skipped: dict[str, list[str]]) -> Iterator[Path]:
    """The files of a kind below a folder. Links are followed, but not to folders that are walked anyway, or above."""
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
            if reason := _why_skipped(path, is_wanted, kind):
                skipped[reason].append(_show(path, root))
            else:
                yield path


def _why_skipped(path: Path, is_wanted: Callable[[Path], bool], kind: str) -> str | None:
    if path.name.startswith("."):
        return "hidden files"
    if not is_wanted(path):
        return f"files that are no {kind} by their extension"
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
    """Whether one of two folders contains the other."""
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
