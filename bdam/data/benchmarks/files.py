"""JSON, JSONL and CSV files → checked records, or one error that names file, record and remedy."""

import csv
import reprlib
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from .records import KEYS


Model = TypeVar("Model", bound=BaseModel)


def read_file(path: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    """
    The records of a file, each with its place in it.

    Raises:
        ValueError: naming the file, the first record that is not as it should be, and what to do.
    """
    text = _read_text(path)
    if path.suffix == ".json":
        records = _check(path, "", TypeAdapter(list[model]).validate_json, text)  # type: ignore[valid-type]
        yield from ((f"record {number}", record) for number, record in enumerate(records, 1))
    elif path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _check(path, f"line {number}", model.model_validate_json, line)
    else:
        table = csv.DictReader(StringIO(text, newline=""), strict=True)
        try:
            for row in table:
                filled = {key: value for key, value in row.items() if key and value}
                yield f"line {table.line_num}", _check(path, f"line {table.line_num}", model.model_validate, filled)
        except csv.Error as error:
            raise ValueError(f"{path}, line {table.line_num + 1}: damaged, {error}: write it again.") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8.") from None


def _check(path: Path, place: str, validate: Callable[[Any], Any], value: str | dict) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError(_explain(path, place, error)) from None


def _explain(path: Path, place: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    field = list(problem["loc"])
    if not place and field:
        place = f"record {int(field.pop(0)) + 1}"
    where = f"{path}, {place}" if place else f"{path}"
    got = reprlib.repr(problem["input"])
    if problem["type"] == "json_invalid":
        return f"{where}: {problem['msg'].replace('Invalid JSON: ', 'damaged, ')}: download or write it again."
    if not field:
        return f"{where}: must be {'an object' if place else 'a list of records'}, got {got}: correct it."
    if problem["type"] == "missing":
        keys = next((keys for keys in KEYS.values() if field[0] in keys), field)
        return f"{where}: {' or '.join(f'`{key}`' for key in keys)} is missing: add it, or remove the record."
    key = f"{field[0]}" + "".join(f"[{step}]" for step in field[1:] if isinstance(step, int))
    return (
        f"{where}: `{key}`: {problem['msg'].removeprefix('Value error, ')}, got {got}: correct or remove the record."
    )
