"""Finds the images of a gallery that are too old to be kept."""

import time
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from bdam.data.images import find_image
from bdam.retrieval.stores.base import Store


DAY = 24 * 60 * 60  # seconds


@dataclass(frozen=True)
class OldImages:
    """
    The images of a gallery that are too old to be kept, and the numbers of those whose age is not known.

    Args:
        files: image id → its file, of the old ones.
        gone: number of images whose file does not exist.
        stored: number of images that are no files, but stored in the gallery.
    """

    files: dict[str, Path]
    gone: int
    stored: int


def find_old(store: Store, days: float, force: bool = False) -> OldImages:
    """
    The images whose file was written or modified more than so many days ago, as the file system says now.

    Args:
        store: of the gallery.
        days: of 24 hours.
        force: whether to return them even if they are more than half of the images whose age is known.

    Raises:
        ValueError: if they are, without `force`.
    """
    start = time.time() - days * DAY
    paths = {image_id: state.path for image_id, state in store.states().items()}
    files = {image_id: Path(path) for image_id, path in paths.items() if path is not None}
    shown = tqdm(files.items(), desc="Reading dates", unit="image", leave=False)
    dates = {image_id: date for image_id, path in shown if (date := _date(path)) is not None}
    old = {image_id: files[image_id] for image_id, date in dates.items() if date < start}
    if 2 * len(old) > len(dates) and not force:
        raise ValueError(
            f"{len(old):,} of the {len(dates):,} images are older than {days:g} days: check the dates of their files; "
            "if they are to be forgotten, confirm it by --force."
        )
    return OldImages(old, len(files) - len(dates), len(paths) - len(files))


def _date(path: Path) -> float | None:
    """When a file was modified, in seconds since 1970; None if it does not exist."""
    try:
        return find_image(path).stat().st_mtime
    except FileNotFoundError:
        return None
