"""Where a gallery's rows and vectors are kept and searched."""

from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import torch

from bdam.retrieval.indexes import ExactIndex, HNSWIndex
from bdam.retrieval.parts import Parts, Space
from bdam.retrieval.sources import ROW, normalize_name


# More values than this are nothing to choose from.
MAX_CHOICES = 50

Filter = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A picture of a collection: its columns, with the `path` of its file or None; and its vector (D,)."""

    row: dict[str, Any]
    vector: torch.Tensor

    @property
    def picture(self) -> str:
        return self.row["picture"]


class State(NamedTuple):
    """
    A picture as it was when it was embedded.

    Args:
        stamp, content: see `ROW`.
        path: its file; None if it came with its bytes.
        identity_description: what it was fused with, if anything.
    """

    stamp: int
    content: int
    path: str | None
    identity_description: str | None = None


class Collection(Protocol):
    """Rows of [`read_pictures`] with a vector each, all of one space."""

    space: Space

    def __len__(self) -> int: ...

    def states(self, names: Names[str] | None = None) -> dict[str, State]:
        """The pictures by name, all or those asked for, each as it was when it was embedded."""

    def names_by_stamp(self, stamps: Names[int]) -> dict[int, str]:
        """By stamp, the name of a picture that has it, as far as there are any."""

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        """Adds rows, whose pictures have either bytes or a path, with their vectors (N, D), whole or not at all."""

    def remove(self, names: Names[str]) -> None:
        """Forgets pictures."""

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[Entry]:
        """
        The k entries of largest inner product with the query (D,), best first, among those whose columns have the
        values, or one of the lists of values, that the filter names.

        Raises:
            ValueError: if the filter names an unknown column.
        """

    def find(self, names: list[str]) -> list[Entry]:
        """The entries of these pictures, as far as they are there."""

    def content(self, name: str) -> bytes:
        """A picture that is no file."""

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        """All rows with their vectors, as `add` takes them."""

    def choices(self) -> dict[str, list]:
        """Columns to filter by, with their values, where these are few and known."""


class LocalCollection:
    """
    A collection in memory, and on disk if it has parts there.

    Args:
        space: of the vectors.
        parts: the files that it is read from and kept in.
        approximate: whether to search by a graph of FAISS, which is kept beside the parts; see [`HNSWIndex`].
    """

    def __init__(self, space: Space, parts: Parts | None = None, approximate: bool = False):
        self.space = space
        self.parts = parts
        self.approximate = approximate
        self._chunks = [parts.read(path) for path in parts.paths()] if parts else []

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self._chunks)

    def states(self, names: Names[str] | None = None) -> dict[str, State]:
        states: dict[str, State] = {}
        for rows, _ in self._chunks:
            columns = (rows[name].to_pylist() for name in State._fields if name in rows.column_names)
            states |= zip(rows["picture"].to_pylist(), map(State, *columns), strict=True)
        return states if names is None else {name: states[name] for name in names if name in states}

    def names_by_stamp(self, stamps: Names[int]) -> dict[int, str]:
        return {state.stamp: name for name, state in self.states().items() if state.stamp in stamps}

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        if self.parts is None:
            rows = rows.append_column("path", pc.struct_field(rows["image"], "path"))
        else:
            rows, vectors = self.parts.read(self.parts.write(rows, vectors))
        self._chunks.append((rows, vectors))
        self._forget()

    def remove(self, names: Names[str]) -> None:
        if self.parts is not None:
            self.parts.remove(names)
        gone = pa.array(list(names), pa.string())
        for place, (rows, vectors) in enumerate(self._chunks):
            stays = pc.invert(pc.is_in(rows["picture"], gone))
            self._chunks[place] = rows.filter(stays), vectors[_mask(stays)]
        self._forget()

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[Entry]:
        passing = _passing(self._rows, filter) if filter else None
        return self._entries(self.index.search(query, k, passing)) if len(self) else []

    def find(self, names: list[str]) -> list[Entry]:
        return self._entries([self._places[name] for name in names if name in self._places])

    def content(self, name: str) -> bytes:
        row = self._rows.slice(self._places[name], 1).to_pylist()[0]
        return row["image"]["bytes"] if self.parts is None else self.parts.read_picture(row["part"], name)

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        if self.parts is None:
            return ((rows.drop_columns("path"), vectors) for rows, vectors in self._chunks)
        return (self.parts.read(path, whole=True) for path in self.parts.paths())

    def choices(self) -> dict[str, list]:
        values = {name: pc.unique(self._rows[name]).drop_null() for name in _filters(self._rows.column_names)}
        return {
            name: sorted(of_column.to_pylist()) for name, of_column in values.items() if len(of_column) <= MAX_CHOICES
        }

    @cached_property
    def index(self) -> ExactIndex | HNSWIndex:
        if self.approximate:
            return HNSWIndex(self._vectors, None if self.parts is None else self.parts.folder / "graph.faiss")
        return ExactIndex(self._vectors)

    @property
    def _rows(self) -> pa.Table:
        return self._whole[0]

    @property
    def _vectors(self) -> torch.Tensor:
        return self._whole[1]

    @cached_property
    def _whole(self) -> tuple[pa.Table, torch.Tensor]:
        """All rows and vectors, in one piece each."""
        if not self._chunks:
            return ROW.arrow_schema.empty_table(), torch.zeros(0, self.space.size)
        if len(self._chunks) > 1:
            rows, vectors = zip(*self._chunks, strict=True)
            self._chunks = [(pa.concat_tables(rows, promote_options="default"), torch.cat(vectors))]
        return self._chunks[0]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._rows["picture"].to_pylist())}

    def _entries(self, places: list[int]) -> list[Entry]:
        rows = self._rows.select([name for name in self._rows.column_names if name not in ("image", "part")])
        rows = rows.take(pa.array(places, pa.int64()))
        return [Entry(row, self._vectors[place]) for row, place in zip(rows.to_pylist(), places, strict=True)]

    def _forget(self) -> None:
        """What was made of the chunks before they changed."""
        for name in ("index", "_whole", "_places"):
            self.__dict__.pop(name, None)


def open_collection(place: str | Path, space: Space | None = None, approximate: bool = False) -> Collection:
    """
    The collection that is kept at a place: a folder; a file of milvus-lite, `….db`; or a Milvus server or cluster, by
    its address, `http://…`.

    Args:
        space: of the vectors, to make a collection if there is none; None if there must be one.
        approximate: whether it is searched by FAISS; Milvus has indexes of its own.

    Raises:
        FileNotFoundError: if there must be one and is none.
        ValueError: if its vectors are of another space, or a file of it is damaged, or Milvus is asked for FAISS.
    """
    if str(place).endswith(".db") or "://" in str(place):
        if approximate:
            raise ValueError(f"{place} is searched by Milvus, not by FAISS: leave out `approximate`.")
        from bdam.retrieval.milvus import MilvusCollection

        return MilvusCollection(str(place), space)
    parts = Parts(Path(place), space)
    return LocalCollection(parts.space, parts, approximate)


def check_filter(name: str, columns: Iterable[str]) -> None:
    """
    Raises:
        ValueError: if rows with these columns have none of this name to filter by.
    """
    if name not in (known := _filters(columns)):
        raise ValueError(f"Nothing to filter by is called {name!r}: there is {', '.join(known)}.")


def filter_values(name: str, wanted: Any, kind: pa.DataType) -> pa.Array:
    """
    The values that a filter asks for, as the column of this name holds them; words are read as its type has it.

    Raises:
        ValueError: if it holds no such values.
    """
    values = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    values = [normalize_name(value) if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values).cast(kind)
    except (pa.ArrowException, OverflowError):
        raise ValueError(f"{name!r} holds {kind}, not {values!r}.") from None


def _filters(columns: Iterable[str]) -> list[str]:
    """Columns to filter by."""
    return [name for name in columns if name not in (*ROW, "identity_description", "path", "part")]


def _passing(rows: pa.Table, filter: Filter) -> torch.Tensor:
    passing = torch.ones(len(rows), dtype=torch.bool)
    for name, wanted in filter.items():
        check_filter(name, rows.column_names)
        passing &= _mask(pc.is_in(rows[name], filter_values(name, wanted, rows[name].type)))
    return passing


def _mask(values: pa.ChunkedArray) -> torch.Tensor:
    return torch.from_numpy(values.to_numpy().copy())
