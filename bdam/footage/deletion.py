"""Deletes crops from their folder. Unlike making them, this needs no optional requirements."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from bdam.data.image_folders import delete_images


# The hidden folder in a folder of crops, and its file with a line for each photograph or video that is finished.
WORK, SOURCES = ".footage", "sources.jsonl"


def group_crops(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Folder of crops → those of the images in it that `bdam detect` has written."""
    images: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if folder := next((folder for folder in path.parents if (folder / WORK).is_dir()), None):
            images[folder].append(path)
    return {folder: _choose_crops(folder, inside) for folder, inside in images.items()}


def delete_crops(crops: Mapping[Path, Collection[Path]]) -> None:
    """
    Deletes crops, with their rows. Since their footage is finished, no run cuts them out again.

    Args:
        crops: as [`group_crops`] returns them.

    Raises:
        ValueError: if a run is writing to a folder; then nothing is deleted.
    """
    with ExitStack() as locks:
        for folder in crops:
            locks.enter_context(acquire(lock_of(folder), folder))
        for paths in crops.values():
            delete_images(paths)
            for parent in {path.parent for path in paths}:
                if not any(parent.iterdir()):
                    parent.rmdir()


def lock_of(folder: Path) -> FileLock:
    """The lock that a run holds while it writes to a folder of crops."""
    return FileLock(folder / WORK / "lock")


def acquire(lock: FileLock, folder: Path) -> AcquireReturnProxy:
    """
    Acquires the lock of a folder of crops; returns what releases it, as a context manager.

    Raises:
        ValueError: if another run holds it.
    """
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"Another run is writing to {folder}: wait for it, or stop it.") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _choose_crops(folder: Path, images: list[Path]) -> list[Path]:
    sources = {folder / line["source"] for line in read_lines(folder / WORK / SOURCES)}
    return [image for image in images if image.parent in sources]
