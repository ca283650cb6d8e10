"""Stores, which keep the rows and vectors of a gallery: in memory, in a folder or in Milvus."""

from collections.abc import Callable
from pathlib import Path

from bdam.retrieval.stores.base import EmbeddingSpace, Store
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.parts import Parts


def open_store(uri: str | Path | None, space: EmbeddingSpace | None = None, index: str = "exact") -> Store:
    """
    The store at a URI.

    Args:
        uri: a folder; a file of milvus-lite, `….db`; the address of a Milvus server or cluster, `http://…`; or None
            for a new store in memory.
        space: of the vectors; a store is made if there is none. Default: that of the store, which must exist.
        index: of a folder or of memory: `"exact"`, `"hnsw"` or any factory string of FAISS, such as `"IVF100,PQ16"`;
            see [`build_index`]. Milvus has its own indexes.

    Raises:
        FileNotFoundError: if there is no store, and no `space`.
        ValueError: if the vectors of the store are of another space, a file of it is damaged, FAISS has no such
            index, or an index of FAISS is given for Milvus.
    """
    return STORES[_kind_of(uri)](str(uri), space, index)


def _kind_of(uri: str | Path | None) -> str:
    if uri is None:
        return "memory"
    return "milvus" if "://" in str(uri) or str(uri).endswith(".db") else "folder"


def _open_memory(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    if space is None:
        raise ValueError("A store in memory is always new: give the `space` of its vectors.")
    return LocalStore(space, index=index)


def _open_folder(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    parts = Parts(Path(uri), space)
    return LocalStore(parts.space, parts, index)


def _open_milvus(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    if index != "exact":
        raise ValueError(f"{uri} is searched by Milvus, not by FAISS: leave out the index {index!r}.")
    from bdam.retrieval.stores.milvus import MilvusStore  # its client is an optional requirement

    return MilvusStore(uri, space)


STORES: dict[str, Callable[[str, EmbeddingSpace | None, str], Store]] = {
    "memory": _open_memory,
    "folder": _open_folder,
    "milvus": _open_milvus,
}
