"""Vectors in memory, searched by inner product: exactly, or by any index of FAISS."""

import hashlib
import re
from pathlib import Path
from typing import Any, Protocol

import torch

from bdam.data.writing import written_whole


# Names of indexes, each with its factory string of FAISS. HNSW: Malkov and Yashunin 2018, with 32 links per vector.
FACTORIES = {"hnsw": "HNSW32"}
PREFIX = "index"  # of the names of their files
# Candidates of FAISS, or k if that is more, which are ranked again by their exact scores.
NUM_CANDIDATES = 100
EF_SEARCH = 256  # candidates in a search of a graph (HNSW)
PROBED_SHARE = 1 / 8  # of the cells of an inverted file (IVF)


class Index(Protocol):
    """An index of vectors, searched by inner product."""

    def search(self, query: torch.Tensor, k: int, passing: torch.Tensor | None = None) -> list[int]:
        """
        The rows of the k vectors of largest inner product with a query, best first.

        Args:
            query: (D,), float32.
            k: number of rows.
            passing: (N,), bool; which vectors are searched. Default: all.
        """


def build_index(name: str, vectors: torch.Tensor, folder: Path | None = None) -> Index:
    """
    An index of vectors.

    Args:
        name: `"exact"` compares the query with every vector. All others are approximate, by FAISS, and much faster
            with millions of vectors: `"hnsw"`, a graph of near neighbors, or any factory string, such as
            `"IVF100,PQ16"`. [`measure_recall`] measures how much they find.
        vectors: (N, D), float32.
        folder: that keeps an index of FAISS between runs. Default: it is built in memory.

    Raises:
        ImportError, ValueError: as [`check_index`] and [`FaissIndex`].
    """
    return ExactIndex(vectors) if name == "exact" else FaissIndex(vectors, FACTORIES.get(name, name), folder)


def check_index(name: str, size: int) -> None:
    """
    Checks that an index can be built.

    Args:
        name: see [`build_index`].
        size: D, of the vectors.

    Raises:
        ImportError: if the index needs FAISS, which is not installed.
        ValueError: if FAISS has no such index for vectors of this size.
    """
    if name != "exact":
        _empty_index(FACTORIES.get(name, name), size)


class ExactIndex:
    """
    An exact index: compares the query with every vector.

    Args:
        vectors: (N, D), float32.
    """

    def __init__(self, vectors: torch.Tensor):
        self.vectors = vectors

    @torch.inference_mode()
    def search(self, query: torch.Tensor, k: int, passing: torch.Tensor | None = None) -> list[int]:
        """As [`Index.search`]."""
        scores = self.vectors @ query
        if passing is not None:
            scores.masked_fill_(~passing, -torch.inf)
            k = min(k, int(passing.sum()))
        return scores.topk(min(k, len(scores))).indices.tolist()


class FaissIndex:
    """
    An index of FAISS, whose candidates are ranked by their exact scores.

    Args:
        vectors: (N, D), float32.
        factory: see https://github.com/facebookresearch/faiss/wiki/The-index-factory.
        folder: that keeps the index, as `index-FACTORY-….faiss`. Default: it is built in memory.

    Raises:
        ValueError: if FAISS cannot build it, as where there are fewer vectors than cells.
    """

    def __init__(self, vectors: torch.Tensor, factory: str, folder: Path | None = None):
        self.vectors = vectors
        self.factory = factory
        self._faiss = _import_faiss()
        self._index = self._build() if folder is None else self._keep(folder)

    def search(self, query: torch.Tensor, k: int, passing: torch.Tensor | None = None) -> list[int]:
        """
        As [`Index.search`], approximately.

        Raises:
            ValueError: if this index cannot be filtered.
        """
        count = max(k, NUM_CANDIDATES)
        options = {} if passing is None else {"sel": self._faiss.IDSelectorBatch(passing.nonzero()[:, 0].numpy())}
        try:
            _, found = self._index.search(
                query.numpy()[None], count, params=self._parameters(self._index, count, options)
            )
        except RuntimeError as error:
            raise ValueError(f"The index {self.factory!r} cannot be filtered: take another.") from error
        rows = torch.tensor([row for row in found[0].tolist() if row >= 0], dtype=torch.int64)
        return rows[(self.vectors[rows] @ query).argsort(descending=True, stable=True)[:k]].tolist()

    def _parameters(self, index: Any, count: int, options: dict[str, Any]) -> Any:
        """The search parameters of FAISS for this type of index; None where it has none."""
        index = self._faiss.downcast_index(index)
        if hasattr(index, "chain"):  # of transformations, before another index
            inner = self._parameters(index.index, count, options)
            return self._faiss.SearchParametersPreTransform(index_params=inner)
        if hasattr(index, "hnsw"):
            return self._faiss.SearchParametersHNSW(efSearch=max(EF_SEARCH, count), **options)
        if hasattr(index, "nlist"):
            return self._faiss.SearchParametersIVF(nprobe=max(int(index.nlist * PROBED_SHARE), 1), **options)
        return self._faiss.SearchParameters(**options) if options else None

    def _keep(self, folder: Path) -> Any:
        """The index of these vectors, read from the folder or built and written there; outdated ones are deleted."""
        content = hashlib.sha256(self.vectors.numpy().data)
        content.update(self.factory.encode())
        stem = f"{PREFIX}-{re.sub(r'[^A-Za-z0-9]+', '_', self.factory)}"
        path = folder / f"{stem}-{content.hexdigest()[:16]}.faiss"
        if path.is_file():
            return self._faiss.read_index(str(path))
        index = self._build()
        remove_indexes(folder, stem)
        with written_whole(path) as aside:
            self._faiss.write_index(index, str(aside))
        return index

    def _build(self) -> Any:
        index, vectors = _empty_index(self.factory, self.vectors.shape[1]), self.vectors.numpy()
        try:
            index.train(vectors)
            index.add(vectors)
        except RuntimeError as error:
            raise ValueError(
                f"FAISS cannot build {self.factory!r} for {len(vectors):,} vectors ({_reason(error)}): take a "
                "smaller index, or `exact`."
            ) from error
        return index


def remove_indexes(folder: Path, stem: str = PREFIX) -> None:
    """Deletes the indexes that a folder keeps, whose names start with `stem`."""
    for path in folder.glob(f"{stem}-*.faiss"):
        path.unlink()


def _empty_index(factory: str, size: int) -> Any:
    faiss = _import_faiss()
    try:
        return faiss.index_factory(size, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"No index {factory!r} for vectors of {size} numbers ({_reason(error)}): give exact, hnsw or a factory "
            "string of FAISS, such as IVF100,PQ16."
        ) from error


def _reason(error: RuntimeError) -> str:
    """The message of an error of FAISS without the position in its source code, which comes first."""
    return str(error).rpartition("Error: ")[2].strip()


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("Approximate search needs FAISS: pip install bdam[search]") from error
    return faiss
