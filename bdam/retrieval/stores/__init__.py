"""Stores keep the rows and vectors of a gallery: in memory, in a folder or in Milvus."""

from collections.abc import Callable
from pathlib import Path

from bdam.retrieval.stores.base import EmbeddingSpace, Store
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.parts import Parts


def open_store(uri: str | Path | None, space: EmbeddingSpace | None = None, index: str = "exact") -> Store:
    """
    Opens the store at a URI, or makes one there.

    Args:
        uri: a folder; a file of milvus-lite, `….db`; the address of a Milvus server or cluster, `http://…`; or None
            for a new store in memory.
        space: of the vectors, to make a store if there is none; None if there must be one.
        index: how a folder or memory is searched: `"exact"`, `"hnsw"` or any factory string of FAISS, such as
            `"IVF100,PQ16"`; see [`build_index`]. Milvus has indexes of its own.

    Raises:
        FileNotFoundError: if there must be a store and is none.
        ValueError: if its vectors are of another space, a file of it is damaged, FAISS knows no such index, or Milvus
            is asked for one of FAISS.
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
