"""Files that are there whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


# What a run that was killed may leave behind.
PARTIAL = ".partial"


def check_writable(path: Path) -> None:
    """
    Sees that a file can be written, before the work that is to fill it.

    Raises:
        OSError: naming the path, and what stands in its way.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file.")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: {folder} is read-only.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    A path to write to; what was written takes the place of `path` at the end, unless there was an error. Its folder is
    made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
