"""Vectors in memory, searched by inner product: exactly, or by a graph."""

import hashlib
from pathlib import Path

import torch

from bdam.data.writing import written_whole


class ExactIndex:
    """
    Compares the query with every vector.

    Args:
        vectors: (N, D), float32.
    """

    def __init__(self, vectors: torch.Tensor):
        self.vectors = vectors

    @torch.inference_mode()
    def search(self, query: torch.Tensor, k: int, passing: torch.Tensor | None = None) -> list[int]:
        """Rows of the k largest inner products with `query` (D,), best first, among those where `passing` (N,)."""
        scores = self.vectors @ query
        if passing is not None:
            scores.masked_fill_(~passing, -torch.inf)
            k = min(k, int(passing.sum()))
        return scores.topk(min(k, len(scores))).indices.tolist()


class HNSWIndex:
    """
    Walks a graph of near neighbours (Malkov and Yashunin 2018, by FAISS): much faster than comparing all of millions
    of vectors, and sometimes wrong. [`recall`] says how often.

    Args:
        vectors: (N, D), float32.
        path: where the graph is kept, beside this path under a name of its own; None for memory alone.
    """

    def __init__(self, vectors: torch.Tensor, path: Path | None = None, neighbours: int = 32, breadth: int = 256):
        self.faiss = _import_faiss()
        self.vectors = vectors
        self.breadth = breadth
        self.graph = self._build(neighbours) if path is None else self._keep(path, neighbours)

    def search(self, query: torch.Tensor, k: int, passing: torch.Tensor | None = None) -> list[int]:
        """As [`ExactIndex.search`], nearly."""
        parameters = self.faiss.SearchParametersHNSW()
        parameters.efSearch = max(self.breadth, k)
        if passing is not None:
            parameters.sel = self.faiss.IDSelectorBatch(passing.nonzero()[:, 0].numpy())
        _, rows = self.graph.search(query.numpy()[None], k, params=parameters)
        return [row for row in rows[0].tolist() if row >= 0]

    def _keep(self, path: Path, neighbours: int):
        """The graph of these very vectors, read or else built and written; those of others are deleted."""
        kept = path.with_name(f"{path.stem}-{hashlib.sha256(self.vectors.numpy().data).hexdigest()[:16]}{path.suffix}")
        if kept.is_file():
            return self.faiss.read_index(str(kept))
        graph = self._build(neighbours)
        for outdated in path.parent.glob(f"{path.stem}-*{path.suffix}"):
            outdated.unlink()
        with written_whole(kept) as aside:
            self.faiss.write_index(graph, str(aside))
        return graph

    def _build(self, neighbours: int):
        graph = self.faiss.IndexHNSWFlat(self.vectors.shape[1], neighbours, self.faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 40
        graph.add(self.vectors.numpy())
        return graph


def recall(index: ExactIndex | HNSWIndex, queries: torch.Tensor, k: int = 10) -> float:
    """The share of the k nearest vectors that the index finds for the queries (Q, D), on average."""
    exact = ExactIndex(index.vectors)
    found = [set(index.search(query, k)) & set(exact.search(query, k)) for query in queries]
    return sum(map(len, found)) / (len(queries) * min(k, len(index.vectors)))


def _import_faiss():
    try:
        import faiss
    except ImportError as error:
        raise ImportError("Approximate search needs FAISS: pip install bdam[search]") from error
    return faiss
