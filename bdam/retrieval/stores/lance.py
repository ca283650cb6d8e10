"""A store in LanceDB: a folder on disk or in object storage, which may be larger than memory."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from bdam.retrieval.rows import ROW
from bdam.retrieval.stores.base import EmbeddingSpace, Filter, ImageState, Span, StoredImage
from bdam.retrieval.stores.columns import (
    bounds,
    check_filter,
    filter_columns,
    filter_values,
    in_batches,
    list_choices,
    to_column,
    to_vectors,
)


try:
    import lancedb
except ImportError as error:
    raise ImportError("A gallery in LanceDB needs its client: pip install bdam[lancedb]") from error


TABLE = "gallery"
SPACE = b"bdam.space"  # key of the table's metadata
ROWS_AT_ONCE, IDS_AT_ONCE = 1000, 10_000  # per request
TRIES = 20  # to add a column while other processes write


class LanceStore:
    """
    A store in a table of LanceDB. Rows, vectors and the bytes of images stay on disk; a search reads the vectors.

    A new table is searched exactly. An index that is built on it later with LanceDB is used and kept. Removed rows
    stay in older versions of the table, which LanceDB deletes when rows are removed a week later or more.

    Args:
        uri: of the database: a folder `….lancedb`, or one in object storage, such as `s3://BUCKET/….lancedb`.
        space: of the vectors; a table is made if there is none. Default: that of the table, which must exist.

    Raises:
        FileNotFoundError: if there is no table, and no `space`.
        ValueError: if the vectors of the table are of another space, or it is no gallery.
        OSError: as from every method, if LanceDB fails.
    """

    def __init__(self, uri: str, space: EmbeddingSpace | None = None):
        self.uri = uri
        if space is None and "://" not in uri and not Path(uri).exists():
            raise FileNotFoundError(_no_gallery(uri))
        with self._errors():  # each read sees what other processes have written
            database = lancedb.connect(uri, read_consistency_interval=timedelta(0))
            if TABLE in database.list_tables().tables:
                self._table = database.open_table(TABLE)
            elif space is None:
                raise FileNotFoundError(_no_gallery(uri))
            else:
                self._table = database.create_table(TABLE, schema=_schema(space), exist_ok=True)
        self.space = self._read_space()
        if space is not None:
            self.space.check(space, uri)

    def __len__(self) -> int:
        return self.count({})

    def states(self, image_ids: Collection[str] | None = None) -> dict[str, ImageState]:
        fields = [name for name in ImageState._fields if name in (*self._columns(), "path")]
        columns = ["image_id", *fields]
        rows = self._query(None, columns) if image_ids is None else self._query_ids("image_id", image_ids, columns)
        return {row.pop("image_id"): ImageState(**row) for row in rows.to_pylist()}

    def ids_by_stamp(self, stamps: Collection[int]) -> dict[int, str]:
        rows = self._query_ids("stamp", stamps, ["stamp", "image_id"])
        return dict(zip(rows["stamp"].to_pylist(), rows["image_id"].to_pylist(), strict=True))

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        """
        As [`Store.add`].

        Raises:
            ValueError: if LanceDB cannot keep a column of this name.
        """
        if wrong := [name for name in rows.column_names if set(name) & set(".`")]:
            raise ValueError(f"LanceDB has no columns with . or ` in their names, such as {wrong[0]!r}: rename it.")
        rows = rows.append_column("vector", to_column(vectors))
        with self._errors():
            for field in rows.schema:
                self._add_column(field)
            empty = self._table.schema.empty_table()
            self._table.add(pa.concat_tables([empty, rows], promote_options="default"))

    def remove(self, image_ids: Collection[str]) -> None:
        with self._errors():
            for batch in in_batches(image_ids, IDS_AT_ONCE):
                self._table.delete(f"image_id IN ({', '.join(map(_literal, batch))})")
            self._table.optimize()

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[StoredImage]:
        condition = self._conditions(filter)
        with self._errors():
            search: Any = self._table.search(query.numpy(), vector_column_name="vector")
            search = search.distance_type("dot").limit(k)
            search = search.where(condition, prefilter=True) if condition else search
            return _images(search.select(_selection([*self._columns(), "_distance"])).to_arrow())

    def count(self, filter: Filter) -> int:
        condition = self._conditions(filter)
        with self._errors():
            return self._table.count_rows(condition or None)

    def find(self, image_ids: list[str]) -> list[StoredImage]:
        images = {image.image_id: image for image in _images(self._query_ids("image_id", image_ids, self._columns()))}
        return [images[image_id] for image_id in image_ids if image_id in images]

    def content(self, image_id: str) -> bytes:
        return self._query_ids("image_id", [image_id], ["image"])["image"][0].as_py()["bytes"]

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        with self._errors():
            for batch in self._table.search().to_batches(ROWS_AT_ONCE):
                rows = pa.Table.from_batches([batch])
                yield rows.drop_columns("vector").replace_schema_metadata(), to_vectors(rows["vector"])

    def vectors(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        with self._errors():
            for batch in self._table.search().select(["image_id", "vector"]).to_batches(ROWS_AT_ONCE):
                rows = pa.Table.from_batches([batch])
                yield rows["image_id"].to_pylist(), to_vectors(rows["vector"])

    def choices(self) -> dict[str, list | Span]:
        names = [name for name in filter_columns(self._schema().names) if name != "vector"]
        return list_choices(self._query(None, names)) if names else {}

    def _conditions(self, filter: Filter) -> str:
        """A filter as an expression of SQL; empty for all rows."""
        schema = self._schema() if filter else None
        return " AND ".join(_condition(name, wanted, schema) for name, wanted in filter.items())

    def _add_column(self, field: pa.Field) -> None:
        """Adds a column if the table lacks it, again if another process has written at the same time."""
        for tries_left in reversed(range(TRIES)):
            if field.name in self._table.schema.names:
                return
            try:
                self._table.add_columns(pa.schema([field]))
            except (ValueError, RuntimeError):
                if not tries_left:
                    raise

    def _read_space(self) -> EmbeddingSpace:
        try:
            return EmbeddingSpace(**json.loads(self._schema().metadata[SPACE]))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{self.uri} has a table {TABLE!r} that is no gallery: give another URI.") from error

    def _schema(self) -> pa.Schema:
        with self._errors():
            return self._table.schema

    def _columns(self) -> list[str]:
        """The columns of the table, with `path` for the image."""
        return ["path", *(name for name in self._schema().names if name != "image")]

    def _query_ids(self, name: str, values: Collection[Any], columns: list[str]) -> pa.Table:
        """These columns of the rows that have one of the values in the column of this name."""
        batches = in_batches(values, IDS_AT_ONCE)
        tables = [self._query(f"{name} IN ({', '.join(map(_literal, batch))})", columns) for batch in batches]
        return pa.concat_tables(tables) if tables else self._query("false", columns)

    def _query(self, condition: str | None, columns: list[str]) -> pa.Table:
        """These columns of the rows that meet a condition, or of all rows."""
        with self._errors():
            search = self._table.search()
            search = search.where(condition) if condition else search
            return search.select(_selection(columns)).to_arrow()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises errors of LanceDB as an OSError that names the database."""
        try:
            yield
        except RuntimeError as error:
            raise OSError(f"LanceDB at {self.uri}: {error}") from error


def _no_gallery(uri: str) -> str:
    return f"No gallery at {uri}: make one with `bdam index MODEL IMAGES {uri}`."


def _schema(space: EmbeddingSpace) -> pa.Schema:
    """The columns of a new table, with the space of its vectors in the metadata."""
    vector = pa.field("vector", pa.list_(pa.float32(), space.size))
    return ROW.arrow_schema.append(vector).with_metadata({SPACE: json.dumps(asdict(space))})


def _selection(columns: list[str]) -> dict[str, Any]:
    """Column → its expression, where `path` is a field of the image."""
    return {name: "image.path" if name == "path" else f"`{name}`" for name in columns}


def _images(rows: pa.Table) -> list[StoredImage]:
    vectors = to_vectors(rows["vector"])
    columns = [name for name in rows.column_names if name not in ("vector", "_distance")]
    return [StoredImage(row, vector) for row, vector in zip(rows.select(columns).to_pylist(), vectors, strict=True)]


def _condition(name: str, wanted: Any, schema: pa.Schema) -> str:
    """One column of a filter as an expression of SQL."""
    check_filter(name, [column for column in schema.names if column != "vector"])
    kind = schema.field(name).type
    if isinstance(wanted, Span):
        return (
            " AND ".join(f"`{name}` {sign} {bound!r}" for sign, bound in bounds(name, wanted, kind).items()) or "true"
        )
    values = filter_values(name, wanted, kind).to_pylist()
    conditions = [f"`{name}` IS NULL" if value is None else f"`{name}` = {_literal(value)}" for value in values]
    return f"({' OR '.join(conditions) or 'false'})"


def _literal(value: Any) -> str:
    """A value in SQL, where a quote in a string is doubled."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
