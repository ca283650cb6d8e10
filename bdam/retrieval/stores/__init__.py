"""Stores, which keep the rows and vectors of a gallery: in memory, in a folder, in LanceDB or in Milvus."""

import re
from collections.abc import Callable
from pathlib import Path

from bdam.retrieval.stores.base import EmbeddingSpace, Store
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.parts import Parts


def open_store(uri: str | Path | None, space: EmbeddingSpace | None = None, index: str = "exact") -> Store:
    """
    The store at a URI.

    Args:
        uri: a folder; a database of LanceDB, `….lancedb`; a file of milvus-lite, `….db`; the address of a Milvus
            server or cluster, `http://…`; or None for a new store in memory.
        space: of the vectors; a store is made if there is none. Default: that of the store, which must exist.
        index: of a folder or of memory: `"exact"`, `"hnsw"` or any factory string of FAISS, such as `"IVF100,PQ16"`;
            see [`build_index`]. LanceDB and Milvus have their own indexes.

    Raises:
        FileNotFoundError: if there is no store, and no `space`.
        ValueError: if the vectors of the store are of another space, a file of it is damaged, FAISS has no such
            index, or an index of FAISS is given for LanceDB or Milvus.
    """
    if uri is None:
        return _open_memory(space, index)
    opener = next(opener for pattern, opener in STORES.items() if re.fullmatch(pattern, str(uri)))
    return opener(str(uri), space, index)


def _open_memory(space: EmbeddingSpace | None, index: str) -> Store:
    if space is None:
        raise ValueError("A store in memory is always new: give the `space` of its vectors.")
    return LocalStore(space, index=index)


def _open_folder(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    parts = Parts(Path(uri), space)
    return LocalStore(parts.space, parts, index)


def _open_milvus(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    _check_is_exact(index, uri, "Milvus")
    from bdam.retrieval.stores.milvus import MilvusStore  # its client is an optional requirement

    return MilvusStore(uri, space)


def _open_lance(uri: str, space: EmbeddingSpace | None, index: str) -> Store:
    _check_is_exact(index, uri, "LanceDB")
    from bdam.retrieval.stores.lance import LanceStore  # its client is an optional requirement

    return LanceStore(uri, space)


def _check_is_exact(index: str, uri: str, database: str) -> None:
    """
    Checks that no index of FAISS is given for a database, which has its own.

    Raises:
        ValueError: if there is one.
    """
    if index != "exact":
        raise ValueError(f"{uri} is searched by {database}, not by FAISS: leave out the index {index!r}.")


# Pattern of URIs → the function that opens their store. The first pattern that matches counts.
STORES: dict[str, Callable[[str, EmbeddingSpace | None, str], Store]] = {
    r".*\.lancedb": _open_lance,
    r".*\.db|.*://.*": _open_milvus,
    r".*": _open_folder,
}
