"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


# What a run that was killed may leave behind.
PARTIAL = ".partial"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; what was written takes the place of `path` at the end, unless there was an error."""
    aside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
