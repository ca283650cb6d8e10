"""`descriptions.jsonl`: one line per image, written once, and never lost."""

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from bdam.captions.checks import find_problems
from bdam.captions.prompts import KINDS, Kind
from bdam.data.writing import written_whole


class DescribedImage(BaseModel):
    """
    What an MLLM wrote about an image.

    Args:
        image_id: path of the image within the image folder, as annotations have it.
        identity_description, clothing_description: None if no answer could be used.
        failures: by kind of description, why there is none.
        model, prompt_version, style: who was asked what, and in which style.
        attempts: how many answers were asked for, by kind.
        checks: what was wrong with answers that were asked for again, by kind.
        agreement: by kind and attribute, the share of samples that agree; where several were asked for.
    """

    image_id: str
    identity_description: str | None = None
    clothing_description: str | None = None
    failures: dict[Kind, str] = {}
    model: str
    prompt_version: str
    style: int | None = None
    attempts: dict[Kind, int] = {}
    checks: dict[Kind, list[str]] = {}
    agreement: dict[Kind, dict[str, float]] = {}

    def text(self, kind: Kind) -> str | None:
        return getattr(self, f"{kind}_description")


class DescriptionFile:
    """
    A `descriptions.jsonl` that records are added to, by one run at a time.

    Args:
        path: the file; it need not be there.

    Raises:
        ValueError: if another run is writing it.
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
        _drop_torn_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def add(self, record: DescribedImage) -> None:
        """Once this returns, the record outlives the process."""
        assert self._file is not None, "open it in a with statement"
        self._file.write(record.model_dump_json() + "\n")
        self._file.flush()

    def replace(self, records: Iterable[DescribedImage]) -> None:
        """Writes other records in place of those that are there, all of them or none."""
        assert self._file is not None, "open it in a with statement"
        self._file.close()
        write_records(self.path, records)
        self._file = self.path.open("a", encoding="utf-8")


def read_records(path: Path) -> Iterator[DescribedImage]:
    """
    Raises:
        ValueError: naming the line that is no record.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield DescribedImage.model_validate_json(line)
            except ValidationError as error:
                if not line.endswith("\n"):
                    return  # being written, or torn by a kill
                reason = error.errors()[0]
                where = ".".join(map(str, reason["loc"])) or "the line"
                raise ValueError(
                    f"{path}, line {number}: {where}: {reason['msg']}: remove the line, and its image is asked for "
                    "again."
                ) from None


def write_records(path: Path, records: Iterable[DescribedImage]) -> None:
    """Writes records whole or not at all."""
    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)


def merge_records(paths: Iterable[Path]) -> list[DescribedImage]:
    """The records of several files, one per image: the one with more descriptions, or else the first."""
    merged: dict[str, DescribedImage] = {}
    for record in (record for path in paths for record in read_records(path)):
        known = merged.setdefault(record.image_id, record)
        if len(record.failures) < len(known.failures):
            merged[record.image_id] = record
    return list(merged.values())


def check_again(record: DescribedImage) -> DescribedImage:
    """The record by today's checks: a description that does not pass is a failure, with the reason."""
    failures, kept = dict(record.failures), {}
    for kind in KINDS:
        text = record.text(kind)
        problems = find_problems(kind, text) if text else {}
        if problems:
            failures[kind] = "; ".join(problems.values())
        kept[f"{kind}_description"] = None if problems else text
    return record.model_copy(update={**kept, "failures": failures})


def count_records(records: Iterable[DescribedImage]) -> tuple[Counter, Counter]:
    """Images by state (`described`, `failed` in one or both kinds) and failures by reason."""
    states: Counter = Counter()
    reasons: Counter = Counter()
    for record in records:
        states["failed" if record.failures else "described"] += 1
        reasons.update(f"{kind}: {reason.split(':')[0]}" for kind, reason in record.failures.items())
    return states, reasons


def _drop_torn_line(path: Path) -> None:
    """A killed run may leave half a line at the end; its image is asked for again."""
    if path.is_file() and path.stat().st_size:
        with path.open("r+b") as file:
            with mmap.mmap(file.fileno(), 0) as content:
                whole = content.rfind(b"\n") + 1
            file.truncate(whole)
