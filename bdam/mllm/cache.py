"""Keeps answers on disk, so that nothing is asked twice."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bdam.data.writing import check_writable


class AnswerCache:
    """
    Numbers that were answered, by request, as a context manager. An answer is on disk as soon as it is added, and
    several processes can share the file.

    Args:
        path: the file; it need not be there.

    Raises:
        OSError: on entering, if the file cannot be written.
        ValueError: on entering, if it is another file.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> "AnswerCache":
        check_writable(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            self._database.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, answer REAL)")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ValueError(f"{self.path} holds no answers ({error}): remove it.") from error
        return self

    def __exit__(self, *_) -> None:
        self._database.close()

    def find(self, request: str) -> float | None:
        """The answer to a request; None if it was never answered."""
        with closing(self._database.execute("SELECT answer FROM answers WHERE request = ?", [request])) as rows:
            row = rows.fetchone()
        return row and row[0]

    def add(self, request: str, answer: float) -> None:
        self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", [request, answer])
