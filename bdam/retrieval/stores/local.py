"""A store in memory, whose rows and vectors may be kept in the files of a folder."""

from collections.abc import Collection, Iterator
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import torch

from bdam.retrieval.rows import ROW
from bdam.retrieval.stores.base import EmbeddingSpace, Filter, ImageState, Span, StoredImage
from bdam.retrieval.stores.columns import bounds, check_filter, filter_values, list_choices
from bdam.retrieval.stores.indexes import Index, build_index, check_index
from bdam.retrieval.stores.parts import Parts


COMPARISONS = {">=": pc.greater_equal, "<=": pc.less_equal}


class LocalStore:
    """
    A store that holds all rows and vectors in memory.

    Args:
        space: of the vectors.
        parts: the files that keep them. Default: none, in memory alone.
        index: see [`build_index`].

    Raises:
        ValueError: if a file is damaged, or FAISS has no such index.
    """

    def __init__(self, space: EmbeddingSpace, parts: Parts | None = None, index: str = "exact"):
        check_index(index, space.size)
        self.space = space
        self.parts = parts
        self._index_name = index
        self._chunks = [parts.read(path) for path in parts.paths()] if parts else []

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self._chunks)

    def states(self, image_ids: Collection[str] | None = None) -> dict[str, ImageState]:
        states: dict[str, ImageState] = {}
        for rows, _ in self._chunks:
            columns = (rows[name].to_pylist() for name in ImageState._fields if name in rows.column_names)
            states |= zip(rows["image_id"].to_pylist(), map(ImageState, *columns), strict=True)
        return states if image_ids is None else {name: states[name] for name in image_ids if name in states}

    def ids_by_stamp(self, stamps: Collection[int]) -> dict[int, str]:
        return {state.stamp: name for name, state in self.states().items() if state.stamp in stamps}

    def add(self, rows: pa.Table, vectors: torch.Tensor) -> None:
        if self.parts is None:
            rows = rows.append_column("path", pc.struct_field(rows["image"], "path"))
        else:
            rows, vectors = self.parts.read(self.parts.write(rows, vectors))
        self._chunks.append((rows, vectors))
        self._clear_caches()

    def remove(self, image_ids: Collection[str]) -> None:
        if self.parts is not None:
            self.parts.remove(image_ids)
        removed = pa.array(list(image_ids), pa.string())
        for number, (rows, vectors) in enumerate(self._chunks):
            stays = pc.invert(pc.is_in(rows["image_id"], removed))
            self._chunks[number] = rows.filter(stays), vectors[_mask(stays)]
        self._clear_caches()

    def search(self, query: torch.Tensor, k: int, filter: Filter) -> list[StoredImage]:
        passing = _passing(self._rows, filter) if filter else None
        return self._images(self._index.search(query, k, passing)) if len(self) else []

    def count(self, filter: Filter) -> int:
        return int(_passing(self._rows, filter).sum()) if filter else len(self)

    def find(self, image_ids: list[str]) -> list[StoredImage]:
        return self._images([self._positions[image_id] for image_id in image_ids if image_id in self._positions])

    def content(self, image_id: str) -> bytes:
        row = self._rows.slice(self._positions[image_id], 1).to_pylist()[0]
        return row["image"]["bytes"] if self.parts is None else self.parts.read_image(row["part"], image_id)

    def chunks(self) -> Iterator[tuple[pa.Table, torch.Tensor]]:
        if self.parts is None:
            return ((rows.drop_columns("path"), vectors) for rows, vectors in self._chunks)
        return (self.parts.read(path, whole=True) for path in self.parts.paths())

    def vectors(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        return ((rows["image_id"].to_pylist(), vectors) for rows, vectors in self._chunks)

    def choices(self) -> dict[str, list | Span]:
        return list_choices(self._rows)

    @cached_property
    def _index(self) -> Index:
        return build_index(self._index_name, self._vectors, None if self.parts is None else self.parts.folder)

    @property
    def _rows(self) -> pa.Table:
        return self._whole[0]

    @property
    def _vectors(self) -> torch.Tensor:
        return self._whole[1]

    @cached_property
    def _whole(self) -> tuple[pa.Table, torch.Tensor]:
        """All rows in one table, and all vectors (N, D)."""
        if not self._chunks:
            return ROW.arrow_schema.empty_table(), torch.zeros(0, self.space.size)
        if len(self._chunks) > 1:
            rows, vectors = zip(*self._chunks, strict=True)
            self._chunks = [(pa.concat_tables(rows, promote_options="default"), torch.cat(vectors))]
        return self._chunks[0]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self._rows["image_id"].to_pylist())}

    def _images(self, positions: list[int]) -> list[StoredImage]:
        rows = self._rows.select([name for name in self._rows.column_names if name not in ("image", "part")])
        rows = rows.take(pa.array(positions, pa.int64()))
        return [StoredImage(row, self._vectors[i]) for row, i in zip(rows.to_pylist(), positions, strict=True)]

    def _clear_caches(self) -> None:
        for name in ("_index", "_whole", "_positions"):
            self.__dict__.pop(name, None)


def _passing(rows: pa.Table, filter: Filter) -> torch.Tensor:
    passing = torch.ones(len(rows), dtype=torch.bool)
    for name, wanted in filter.items():
        check_filter(name, rows.column_names)
        if isinstance(wanted, Span):
            for sign, bound in bounds(name, wanted, rows[name].type).items():
                passing &= _mask(pc.fill_null(COMPARISONS[sign](rows[name], bound), False))
        else:
            passing &= _mask(pc.is_in(rows[name], filter_values(name, wanted, rows[name].type)))
    return passing


def _mask(values: pa.ChunkedArray) -> torch.Tensor:
    return torch.from_numpy(values.to_numpy().copy())
