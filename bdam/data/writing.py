"""Writes files completely or not at all."""

import json
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


# The ending of unfinished files, which remain if a process is killed.
PARTIAL = ".partial"


def check_writable(path: Path) -> None:
    """
    Checks that a file can be written, before the work that produces its content.

    Raises:
        OSError: if it cannot, naming the path and the reason.
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
    A temporary path to write to. At the end it replaces `path`, unless there was an error. The folder is created if it
    does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, completely or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def keep_lines(path: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
    """Removes the lines that are not to be kept from a file of JSON lines. It is changed as a whole or not at all."""
    with path.open(encoding="utf-8") as file:
        lines = list(file)
    kept = [line for line in lines if not line.strip() or is_kept(json.loads(line))]
    if len(kept) < len(lines):
        with written_whole(path) as aside:
            aside.write_text("".join(kept), encoding="utf-8")


def remove_incomplete_line(path: Path) -> None:
    """Cuts off a last line without an end, which a killed process leaves in a file that it appends lines to."""
    if path.is_file() and path.stat().st_size:
        with path.open("r+b") as file:
            with mmap.mmap(file.fileno(), 0) as content:
                complete = content.rfind(b"\n") + 1
            file.truncate(complete)
