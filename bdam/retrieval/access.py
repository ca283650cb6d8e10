"""Who may use the page, and the log of what they searched for."""

import asyncio
import hashlib
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from PIL.Image import Image


try:
    import bcrypt
except ImportError as error:
    raise ImportError("Users of the web page need bcrypt: pip install bdam[app]") from error


# After so many wrong passwords of a name within so many seconds, it is refused until the first of them is as old.
MAX_FAILURES, WINDOW = 5, 60.0
LOG_BYTES, LOG_FILES = 10_000_000, 10


class Users:
    """
    The names and passwords that a page knows.

    Args:
        hashes: name → the bcrypt hash of its password.
    """

    def __init__(self, hashes: Mapping[str, bytes]):
        self._hashes = dict(hashes)
        # That of an unknown name takes as long to compare with.
        self._nobody = bcrypt.hashpw(b"", bcrypt.gensalt())
        self._failures: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_FAILURES))

    @classmethod
    def read(cls, path: Path) -> "Users":
        """
        The users of a file with a line `NAME:HASH` for each, as `htpasswd -B` writes it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it has no line, or one of another form.
        """
        if not path.is_file():
            raise FileNotFoundError(f"No users at {path}: write them by `htpasswd -B -c {path} NAME`.")
        hashes: dict[str, bytes] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            name, _, hashed = line.strip().partition(":")
            try:
                bcrypt.checkpw(b"", hashed.encode())
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: it is no NAME:HASH with a hash by bcrypt: write it by `htpasswd -B`."
                ) from None
            hashes[name] = hashed.encode()
        if not hashes:
            raise ValueError(f"{path} names nobody: add a user by `htpasswd -B {path} NAME`.")
        return cls(hashes)

    async def check(self, name: str, password: str) -> bool:
        """Whether the password is that of the name; no password is, after too many wrong ones."""
        failures = self._failures[name if name in self._hashes else ""]
        if len(failures) == MAX_FAILURES and time.monotonic() - failures[0] < WINDOW:
            return False
        failures.append(time.monotonic())  # until it is known to be right, so that attempts at once count as well
        hashed = self._hashes.get(name, self._nobody)
        # bcrypt takes 72 bytes, and refuses more.
        is_right = await asyncio.to_thread(bcrypt.checkpw, password.encode()[:72], hashed)
        if is_right and name in self._hashes:
            failures.clear()
            return True
        return False


class QueryLog:
    """
    A file with a JSON line for each search, and for each image that is opened: when, who, what they looked for, and
    the images that they were shown. At 10 MB it is renamed to `PATH.1`, and so on up to `PATH.10`.

    Args:
        path: the file, which is continued.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._logger = logging.Logger(str(path))
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(message)s"))
        self._logger.addHandler(handler)

    def write(
        self, user: str | None, query: Mapping[str, Any], shown: list[str] | None, opened: str | None = None
    ) -> None:
        """
        Writes a line: of an image that was opened, if `opened` is given, otherwise of a search.

        Args:
            user: who searched; None if the page asks nobody for a name.
            query: the arguments of the search. Of an image that was uploaded, its digest is written.
            shown: the ids of the images that were shown; None if the search was refused.
            opened: the id of the image that was opened among those that the query found.
        """
        words = {name: _digest(value) if isinstance(value, Image) else value for name, value in query.items()}
        given = {name: value for name, value in words.items() if value not in (None, {})}
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        what = {"found": shown} if opened is None else {"opened": opened, "shown": shown}
        self._logger.info(json.dumps({"time": when, "user": user, "query": given, **what}, default=str))

    def close(self) -> None:
        for handler in self._logger.handlers:
            handler.close()


def _digest(image: Image) -> str:
    return f"upload {hashlib.sha256(image.tobytes()).hexdigest()[:16]}"
