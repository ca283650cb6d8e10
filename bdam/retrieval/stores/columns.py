"""Columns of the rows of a store: vectors, filters and their values."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from bdam.retrieval.rows import ROW, normalize_name
from bdam.retrieval.stores.base import Span


MAX_CHOICES = 50  # values of a column that `Store.choices` lists


def to_column(vectors: torch.Tensor) -> pa.FixedSizeListArray:
    """Vectors (N, D), float32, as a column of a table."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.numpy().reshape(-1)), vectors.shape[1])


def to_vectors(column: pa.ChunkedArray) -> torch.Tensor:
    """A column of [`to_column`] as vectors (N, D), float32."""
    values = column.combine_chunks().flatten().to_numpy()
    return torch.from_numpy(values.copy()).view(-1, column.type.list_size)


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of this size, of which the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def list_choices(rows: pa.Table) -> dict[str, list | Span]:
    """
    Column → its sorted values, of the columns to filter by that have at most `MAX_CHOICES`; the span of more
    floating-point numbers, such as times.
    """
    choices: dict[str, list | Span] = {}
    for name in filter_columns(rows.column_names):
        if pa.types.is_nested(rows[name].type):  # such as boxes, which nobody chooses among
            continue
        values = pc.unique(rows[name]).drop_null()
        if len(values) <= MAX_CHOICES:
            choices[name] = sorted(values.to_pylist())
        elif pa.types.is_floating(values.type):
            choices[name] = Span(*pc.min_max(values).as_py().values())
    return choices


def check_filter(name: str, columns: Iterable[str]) -> None:
    """
    Checks that rows with these columns can be filtered by the column of this name.

    Raises:
        ValueError: if they cannot.
    """
    if name not in (known := filter_columns(columns)):
        raise ValueError(f"Nothing to filter by is called {name!r}: there is {', '.join(known)}.")


def filter_columns(columns: Iterable[str]) -> list[str]:
    """The columns that rows can be filtered by."""
    return [name for name in columns if name not in (*ROW, "identity_description", "path", "part")]


def filter_values(name: str, wanted: Any, kind: pa.DataType) -> pa.Array:
    """
    The values of a filter, converted to the type of their column.

    Args:
        name: of the column, for messages.
        wanted: a value or a list of values; strings, as from the shell, may stand for other types.
        kind: type of the column.

    Raises:
        ValueError: if a value cannot be converted.
    """
    values = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    values = [normalize_name(value) if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values).cast(kind)
    except (pa.ArrowException, OverflowError):
        raise ValueError(f"{name!r} holds {kind}, not {values!r}.") from None


def bounds(name: str, span: Span, kind: pa.DataType) -> dict[str, float]:
    """
    The comparisons that a span stands for: operator → number.

    Args:
        name: of the column, for messages.
        kind: type of the column.

    Raises:
        ValueError: if the column holds no numbers.
    """
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"{name!r} holds {kind}, which has no span: give values.")
    return {sign: bound for sign, bound in ((">=", span.start), ("<=", span.end)) if bound is not None}
