"""The file of descriptions while a run writes it: locked, and written line by line."""

from collections.abc import Iterable
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from bdam.data.descriptions import Description, write_descriptions
from bdam.data.writing import remove_incomplete_line


class DescriptionFile:
    """
    A `descriptions.jsonl` that one run at a time adds descriptions to, as a context manager.

    Args:
        path: the file; it need not be there.

    Raises:
        ValueError: on entering, if another run is writing the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))
        self._file: IO[str] | None = None

    def __enter__(self) -> "DescriptionFile":
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"Another run is writing {self.path}: wait for it, or stop it.") from None
        remove_incomplete_line(self.path)  # its image is asked for again
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def add(self, description: Description) -> None:
        """Appends a description. Once this returns, the line stays in the file even if the process is killed."""
        assert self._file is not None, "open it in a with statement"
        self._file.write(description.model_dump_json() + "\n")
        self._file.flush()

    def replace(self, descriptions: Iterable[Description]) -> None:
        """Replaces all descriptions of the file by others, all of them or none."""
        assert self._file is not None, "open it in a with statement"
        self._file.close()
        write_descriptions(self.path, descriptions)
        self._file = self.path.open("a", encoding="utf-8")
