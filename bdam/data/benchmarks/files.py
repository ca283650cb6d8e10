"""Reads and validates the records of JSON, JSON lines and CSV files."""

import csv
import re
import reprlib
from collections.abc import Iterator
from io import StringIO
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from .records import KEYS


Model = TypeVar("Model", bound=BaseModel)
# The location of each record in its file, and the record or what is wrong with it. The location is empty where that is
# the whole file.
Found = Iterator[tuple[str, Model | str]]

DELIMITERS = ",;\t"
LOAD_AGAIN = "download or write it again."
WRITE_AGAIN = "write it again."


def read_file(path: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    """
    The records of a file, each with its location, such as `line 3`.

    Args:
        path: a file whose name ends in `.json`, `.jsonl` or `.csv`.
        model: the class of the records.

    Raises:
        ValueError: if a record is not valid, naming the file, the first such record, the remedy, and the number of
            others.
    """
    problems: list[str] = []
    records = list(scan_file(path, model, problems))
    refuse(problems)
    return iter(records)


def scan_file(path: Path, model: type[Model], problems: list[str]) -> Iterator[tuple[str, Model]]:
    """
    The valid records of a file, each with its location.

    Args:
        path: a file whose name ends in `.json`, `.jsonl` or `.csv`.
        model: the class of the records.
        problems: gets a sentence for each record that is not valid, naming the file, the record and the remedy.
    """
    for location, found in _scan(path, model):
        if isinstance(found, str):
            problems.append(f"{path}, {location}: {found}" if location else f"{path}: {found}")
        else:
            yield location, found


def refuse(problems: list[str], source: str = "NAME:ROOT") -> None:
    """
    Raises an error if there are problems.

    Args:
        problems: a sentence for each.
        source: the benchmark, as `NAME:ROOT`.

    Raises:
        ValueError: with the first problem and, if there are more, the command that lists them.
    """
    if problems:
        more = f" There are {len(problems) - 1} more such problems: `bdam data check {source}` lists all of them."
        raise ValueError(problems[0] + (more if len(problems) > 1 else ""))


def _scan(path: Path, model: type[Model]) -> Found[Model]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield "", f"is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
    except OSError as error:
        yield "", f"cannot be read ({error.strerror}): make it readable."
    else:
        scan = {".json": _scan_json, ".jsonl": _scan_lines, ".csv": _scan_csv}[path.suffix]
        yield from scan(text, model)


def _scan_json(text: str, model: type[Model]) -> Found[Model]:
    """Records of a list; validated together if all are valid, otherwise one by one."""
    try:
        records = TypeAdapter(list[model]).validate_json(text)  # type: ignore[valid-type]
    except ValidationError as error:
        if text.lstrip().startswith("["):
            yield from _scan_list(text, model)
        else:
            yield "", _explain(error, "a list of records", LOAD_AGAIN)
    else:
        yield from ((f"record {number}", record) for number, record in enumerate(records, 1))


def _scan_list(text: str, model: type[Model]) -> Found[Model]:
    """Records of a list, up to the first position where the JSON is damaged."""
    decoder = JSONDecoder(parse_int=str, parse_float=str)
    location, position = "record 1", _skip_space(text, text.index("[") + 1)
    if text[position : position + 1] == "]":
        position += 1
    else:
        for number in range(1, len(text)):
            location, start = f"record {number}", position
            try:
                _, position = decoder.raw_decode(text, start)
            except JSONDecodeError as error:
                reason = f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
                yield location, f"damaged, {reason}: {LOAD_AGAIN}"
                return
            except RecursionError:
                yield location, f"damaged, nested too deeply: {LOAD_AGAIN}"
                return
            yield location, _parse(text[start:position], model, LOAD_AGAIN)
            position = _skip_space(text, position)
            if text[position : position + 1] != ",":
                break
            position = _skip_space(text, position + 1)
        if text[position : position + 1] != "]":
            yield f"after {location}", f"damaged, neither another record nor the end of the list: {LOAD_AGAIN}"
            return
        position += 1
    if text[position:].strip():
        yield f"after {location}", f"damaged, something follows the list of records: {LOAD_AGAIN}"


def _scan_lines(text: str, model: type[Model]) -> Found[Model]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _parse(line, model, WRITE_AGAIN)


def _scan_csv(text: str, model: type[Model]) -> Found[Model]:
    """Records of a table with a header; the delimiter is the one that the header has most of."""
    lines = StringIO(text, newline="").readlines()
    delimiter = max(DELIMITERS, key=lines[0].count) if lines else ","
    rows = _csv_rows(lines, delimiter)
    number, header = next(rows, (1, []))
    if isinstance(header, str):
        yield f"line {number}", header
        return
    columns = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header]
    if problem := _header_problem(columns, model):
        yield f"line {number}", problem
        return
    for number, row in rows:
        location = f"line {number}"
        if isinstance(row, str):
            yield location, row
        elif len(row) > len(columns) and any(row[len(columns) :]):
            yield (
                location,
                f"{len(row)} fields, where the header has {len(columns)}: put those with {delimiter!r} in quotes.",
            )
        elif filled := {
            column: value for column, value in zip(columns, row, strict=False) if column and value.strip()
        }:
            yield location, validate(filled, model, WRITE_AGAIN)


def _header_problem(columns: list[str], model: type[BaseModel]) -> str | None:
    known = ", ".join(f"`{column}`" for column in columns if column) or "nothing"
    if not columns:
        return None
    for name, keys in KEYS.items():
        if model.model_fields[name].is_required() and not set(keys) & set(columns):
            return f"no column {_choice(keys)} in the header, which has {known}: name it."
    repeated = next((column for column in columns if column and columns.count(column) > 1), None)
    return (
        f"two columns are called `{repeated}`: keep one, and give each record a line of its own." if repeated else None
    )


def _csv_rows(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows, or what is wrong with them, each with the number of a line; after an error, the next line starts anew."""
    # A separator with spaces after it is what it is in all lines.
    spaced = bool(lines) and lines[0].count(delimiter) == lines[0].count(f"{delimiter} ") > 0
    first = 0
    while first < len(lines):
        table = csv.reader(lines[first:], delimiter=delimiter, skipinitialspace=spaced, strict=True)
        begun = first
        try:
            for row in table:
                begun = first + table.line_num
                yield begun, row
            return
        except csv.Error as error:
            yield begun + 1, f"damaged, {error}: {WRITE_AGAIN}"
            first = begun + 1


def _parse(text: str, model: type[Model], remedy: str) -> Model | str:
    try:
        return model.model_validate_json(text)
    except ValidationError:
        pass  # valid without its nulls, or explained below
    try:
        value = from_json(text)
    except ValueError as error:
        return f"damaged, {_without_line(str(error))}: {remedy}"
    return validate(_without_null_items(value) if isinstance(value, dict) else value, model, remedy)


def validate(value: object, model: type[Model], remedy: str = WRITE_AGAIN) -> Model | str:
    """The record, without its keys that are null; if it is not valid, a message that says why."""
    if isinstance(value, dict):
        value = {key: field for key, field in value.items() if field is not None}
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return _explain(error, "an object", remedy)


def _without_null_items(record: dict) -> dict:
    """The record, whose lists lose their items that are null."""
    lists = {
        key: [item for item in value if item is not None] for key, value in record.items() if isinstance(value, list)
    }
    return record | lists


def _explain(error: ValidationError, expected: str, remedy: str) -> str:
    """What is wrong with a value, which should be `expected`, and the remedy."""
    problem = error.errors()[0]
    field = problem["loc"]
    got = reprlib.repr(problem["input"])
    if problem["type"] == "json_invalid":
        return f"{problem['msg'].replace('Invalid JSON: ', 'damaged, ')}: {remedy}"
    if not field:
        return f"must be {expected}, got {got}: correct it."
    if problem["type"] == "missing":
        keys = next((keys for keys in KEYS.values() if keys[0] == field[0]), (str(field[0]),))
        return f"{_choice(keys)} is missing: add it, or remove the record."
    key = f"{field[0]}" + "".join(f"[{step}]" for step in field[1:] if isinstance(step, int))
    return f"`{key}`: {problem['msg'].removeprefix('Value error, ')}, got {got}: correct or remove the record."


def _choice(keys: tuple[str, ...]) -> str:
    return " or ".join(f"`{key}`" for key in keys)


def _without_line(message: str) -> str:
    """The message without its line number: the message names the record in another way."""
    return re.sub(r" at line 1 column (\d+)$", r" at column \1", message)


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position
