"""A store in Milvus: in a file of milvus-lite, on a server or on a cluster."""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import torch

from bdam.retrieval.rows import ROW
from bdam.retrieval.stores.base import EmbeddingSpace, Filter, ImageState, Span, StoredImage
from bdam.retrieval.stores.columns import bounds, check_filter, filter_values, in_batches


try:
    from pymilvus import DataType, MilvusClient, MilvusException
except ImportError as error:
    raise ImportError("A gallery in Milvus needs its client: pip install bdam[search]") from error


TOKEN = "MILVUS_TOKEN"  # environment variable
SPACE = "bdam.space"  # property of the collection

# The primary key: a digest of the image id, since pymilvus does not quote keys where it iterates and deletes.
KEY = "image_key"
ALL, NONE = f'{KEY} != ""', f'{KEY} == ""'  # conditions

MAX_LENGTH = 1024  # bytes of an image id, and of a path

# Per request. Milvus takes 64 MB; 1000 rows with vectors of 1024 numbers are some 4 MB.
ROWS_AT_ONCE, IDS_AT_ONCE = 1000, 10_000

# pymilvus logs each error, with a traceback, and raises it as well.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


class MilvusStore:
    """
    A store in a collection of Milvus. It keeps rows, vectors and the paths of images, not the images themselves.

    A new collection is searched exactly, by the index `FLAT`; an index that is built on it later, see
    `docs/scale.md`, is kept. A search sees all that this process has written, and what others have written up to about
    a second before; all other methods see all that was written.

    Args:
        uri: a file of milvus-lite, `….db`, which one process at a time can open; or the address of a server or a
            cluster, whose token is read from the environment variable `MILVUS_TOKEN`.
        space: of the vectors; a collection is made if there is none. Default: that of the collection, which must
            exist.
        name: of the collection.

    Raises:
        FileNotFoundError: if there is no collection, and no `space`.
        ValueError: if the vectors of the collection are of another space, or it is no gallery.
        ConnectionError: as from every method, if Milvus cannot be reached, or fails.
    """

    def __init__(self, uri: str, space: EmbeddingSpace | None = None, name: str = "gallery"):
        self.uri = uri
        self.name = name
        self._client = _connect(uri, is_new=space is not None)
        self._kinds: dict[str, pa.DataType] = {}
        self._level = "Strong"  # consistency of the next search; see `search`
        with self._asking():
            if self._client.has_collection(name):
                self._client.load_collection(name)
            elif space is None:
                raise FileNotFoundError(_nothing_at(uri))
            else:
                self._create(space)
            self.space = self._read_space()
        if space is not None:
            self.space.check(space, uri)

    def __len__(self) -> int:
        return self.count({})

    def states(self, image_ids: Collection[str] | None = None) -> dict[str, ImageState]:
        columns = ["image_id", *ImageState._fields]
        rows = self._all(columns, IDS_AT_ONCE) if image_ids is None else self._rows_of(image_ids, columns)
        return {
            row["image_id"]: ImageState(row["stamp"], row["content"], row["path"], row.get("identity_description"))
            for row in rows
        }

    def ids_by_stamp(self, stamps: Collection[int]) -> dict[int, str]:
        found = (self._query(f"stamp in {batch}", ["image_id", "stamp"]) for batch in in_batches(stamps, IDS_AT_ONCE))
        return {row["stamp"]: row["image_id"] for rows in found for row in rows}

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        """
        As [`Store.add`], but a thousand rows at a time: those that were sent before Milvus failed stay, and adding all
        again replaces them.

        Raises:
            ValueError: if an image is no file; then nothing is added.
        """
        entities = [_entity(row, vector) for row, vector in zip(rows.to_pylist(), vectors.tolist(), strict=True)]
        with self._asking():
            for batch in in_batches(entities, ROWS_AT_ONCE):
                self._client.upsert(self.name, batch)
            if _is_file(self.uri):  # milvus-lite searches rows that were not flushed sixty times slower
                self._client.flush(self.name)
        self._level = "Strong"

    def remove(self, image_ids: Collection[str]) -> None:
        with self._asking():
            for batch in in_batches(map(_key, image_ids), IDS_AT_ONCE):
                self._client.delete(self.name, batch)
        self._level = "Strong"

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[StoredImage]:
        conditions = self._conditions(filter)
        # "Strong" waits, some tenths of a second, until all writes can be found: only the first search after one does.
        level, self._level = self._level, "Eventually"
        options: dict[str, Any] = {"limit": k, "output_fields": ["*"], "consistency_level": level}
        with self._asking():
            hits = self._client.search(self.name, [query.tolist()], conditions, **options)[0]
        return [_image(hit["entity"]) for hit in hits]

    def count(self, filter: Filter) -> int:
        return self._query(self._conditions(filter), ["count(*)"])[0]["count(*)"]

    def find(self, image_ids: list[str]) -> list[StoredImage]:
        images = {image.image_id: image for image in map(_image, self._rows_of(image_ids, ["*"]))}
        return [images[image_id] for image_id in image_ids if image_id in images]

    def content(self, image_id: str) -> bytes:
        raise ValueError(f"Milvus has vectors and paths, not the image {image_id} itself.")

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        for batch in in_batches(map(_image, self._all(["*"], ROWS_AT_ONCE)), ROWS_AT_ONCE):
            files = [{"bytes": None, "path": image.row.pop("path")} for image in batch]
            rows = pa.Table.from_struct_array(pa.array([image.row for image in batch]))
            rows = rows.append_column("image", pa.array(files, ROW["image"].pa_type))
            yield rows, torch.stack([image.vector for image in batch])

    def vectors(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        for batch in in_batches(self._all(["image_id", "vector"], ROWS_AT_ONCE), ROWS_AT_ONCE):
            yield [row["image_id"] for row in batch], torch.tensor([row["vector"] for row in batch])

    def choices(self) -> dict[str, list | Span]:
        """`{}`: Milvus does not list the values of its dynamic fields."""
        return {}

    def _create(self, space: EmbeddingSpace) -> None:
        schema = MilvusClient.create_schema(enable_dynamic_field=True)
        schema.add_field(KEY, DataType.VARCHAR, is_primary=True, max_length=32)
        schema.add_field("image_id", DataType.VARCHAR, max_length=MAX_LENGTH)
        schema.add_field("path", DataType.VARCHAR, max_length=MAX_LENGTH)
        schema.add_field("stamp", DataType.INT64)
        schema.add_field("content", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=space.size)
        index = MilvusClient.prepare_index_params("vector", index_type="FLAT", metric_type="IP")
        # Not in the description, which milvus-lite does not keep.
        properties = {SPACE: json.dumps(asdict(space))}
        self._client.create_collection(self.name, schema=schema, index_params=index, properties=properties)

    def _read_space(self) -> EmbeddingSpace:
        try:
            return EmbeddingSpace(**json.loads(self._client.describe_collection(self.name)["properties"][SPACE]))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{self.uri} has a collection {self.name!r} that is no gallery: rename it.") from error

    def _conditions(self, filter: Filter) -> str:
        """A filter as an expression of Milvus; empty for all rows."""
        return " and ".join(self._condition(name, wanted) for name, wanted in filter.items())

    def _condition(self, name: str, wanted: Any) -> str:
        """One column as an expression of Milvus, without `in`, which milvus-lite lacks for dynamic fields."""
        field = _field(name)
        if isinstance(wanted, Span):
            comparisons = bounds(name, wanted, self._kind(name)).items()
            return " and ".join(f"{field} {sign} {bound}" for sign, bound in comparisons) or ALL
        conditions = [
            f"not (exists {field})" if value is None else f"{field} == {_literal(value)}"
            for value in filter_values(name, wanted, self._kind(name)).to_pylist()
        ]
        return f"({' or '.join(conditions) or NONE})"

    def _kind(self, name: str) -> pa.DataType:
        """
        The type of a column, from a row that has a value in it.

        Raises:
            ValueError: if no row has one. Milvus itself would find no rows, without an error.
        """
        if name not in self._kinds:
            row = self._first(f"exists {_field(name)}") or self._first(ALL)
            check_filter(name, row)
            self._kinds[name] = pa.scalar(row[name]).type
        return self._kinds[name]

    def _first(self, condition: str) -> dict[str, Any]:
        """The columns of a row that meets a condition; `{}` if none does."""
        rows = self._query(condition, ["*"], limit=1)
        return _image(rows[0]).row if rows else {}

    def _rows_of(self, image_ids: Collection[str], columns: list[str]) -> Iterator[Mapping[str, Any]]:
        """These columns of the rows of these images."""
        for batch in in_batches(map(_key, image_ids), IDS_AT_ONCE):
            yield from self._query(f"{KEY} in {json.dumps(batch)}", columns)

    def _all(self, columns: list[str], at_once: int) -> Iterator[Mapping[str, Any]]:
        """These columns of all rows, fetched `at_once` rows at a time."""
        options: dict[str, Any] = {"output_fields": columns, "consistency_level": "Strong"}
        with (
            self._asking(),
            closing(self._client.query_iterator(self.name, at_once, **options)) as pages,
        ):
            while page := pages.next():
                yield from page

    def _query(self, condition: str, columns: list[str], **options: Any) -> list[Mapping[str, Any]]:
        with self._asking():
            return self._client.query(self.name, condition, columns, consistency_level="Strong", **options)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except MilvusException as error:
            raise ConnectionError(f"Milvus at {self.uri}: {error.message}") from error


def _connect(uri: str, is_new: bool) -> MilvusClient:
    """
    The client of a URI.

    Args:
        uri: see [`MilvusStore`].
        is_new: whether the file of milvus-lite may not exist yet.

    Raises:
        FileNotFoundError, ValueError, ConnectionError: as [`MilvusStore`].
    """
    if "@" in urlsplit(uri).netloc:
        raise ValueError(f"The address of Milvus holds a name or password: set {TOKEN}, USER:PASSWORD, instead.")
    if _is_file(uri) and not is_new and not Path(uri).exists():
        raise FileNotFoundError(_nothing_at(uri))
    if _is_file(uri):
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    try:
        return MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=30)
    except MilvusException as error:
        remedy = (
            "another process may have it open, or it is no file of milvus-lite 3"
            if _is_file(uri)
            else f"start one there, or correct the address or {TOKEN}"
        )
        raise ConnectionError(f"No Milvus answers at {uri} ({error.message}): {remedy}.") from error


def _is_file(uri: str) -> bool:
    return "://" not in uri


def _nothing_at(uri: str) -> str:
    return f"No gallery at {uri}: make one with `bdam index MODEL IMAGES {uri}`."


def _entity(row: Mapping[str, Any], vector: list[float]) -> dict[str, Any]:
    """A row and its vector as a dict of the fields of Milvus."""
    image, image_id = row["image"], row["image_id"]
    if image["bytes"] is not None or image["path"] is None:
        raise ValueError(
            f"{image_id} is no file, and Milvus keeps vectors and paths, not images: save the images as files, "
            f"and index their folder."
        )
    columns = {column: value for column, value in row.items() if column != "image" and value is not None}
    return {**columns, KEY: _key(image_id), "path": image["path"], "vector": vector}


def _image(row: Mapping[str, Any]) -> StoredImage:
    columns = {column: value for column, value in row.items() if column not in (KEY, "vector")}
    return StoredImage(columns, torch.tensor(row["vector"]))


def _key(image_id: str) -> str:
    return hashlib.sha256(image_id.encode()).hexdigest()[:32]


def _field(column: str) -> str:
    """The dynamic field of a column, quoted for an expression."""
    if set(column) & set('"\\[]'):
        raise ValueError(f'Milvus cannot filter by {column!r}, a name with one of " \\ [ ]: rename it.')
    return f'$meta["{column}"]'


def _literal(value: Any) -> str:
    """A value, quoted for an expression as in JSON."""
    return json.dumps(value, ensure_ascii=False)
