"""Galleries are searched by whatever index FAISS builds, and what it cannot do is an error that says so."""

import pyarrow as pa
import pytest
import torch

from bdam.retrieval.gallery import Gallery
from bdam.retrieval.recall import measure_recall
from bdam.retrieval.stores import open_store
from bdam.retrieval.stores.base import EmbeddingSpace
from bdam.retrieval.stores.indexes import ExactIndex, build_index
from bdam.retrieval.stores.local import LocalStore


pytest.importorskip("faiss")
SPACE = EmbeddingSpace("some/model", "abc", 12, 4)
VECTORS = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
QUERIES = torch.randn(20, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name", ["hnsw", "Flat", "SQ8", "IVF4,Flat", "IVF4,PQ4x4", "PCA8,IVF4,Flat", "RR16,Flat", "HNSW8,Flat"]
)
@pytest.mark.parametrize("is_filtered", [False, True])
def test_any_factory_string_finds_most_of_what_is_near(name, is_filtered, tmp_path):
    passing = torch.arange(300) % 2 == 0 if is_filtered else None
    exact, built = ExactIndex(VECTORS), build_index(name, VECTORS, tmp_path)
    kept = build_index(name, VECTORS, tmp_path)
    (file,) = tmp_path.glob("index-*.faiss")
    shares = []
    for query in QUERIES:
        found = built.search(query, 5, passing)
        assert found == kept.search(query, 5, passing) and len(found) <= 5
        scores = VECTORS[found] @ query
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert passing is None or all(passing[found])
        shares.append(len({*found} & {*exact.search(query, 5, passing)}) / 5)
    assert sum(shares) / len(shares) > (0.2 if "IVF" in name else 0.9)
    build_index(name, VECTORS + 1, tmp_path)
    assert not file.exists() and len(list(tmp_path.glob("index-*.faiss"))) == 1


@pytest.mark.parametrize("index", ["", "IVF", "PQ5", "exakt"])
def test_an_unknown_index_is_refused_before_anything_is_embedded(index, tmp_path):
    with pytest.raises(ValueError, match=f"No index '{index}' for vectors of 16 numbers .*: give exact, hnsw or"):
        open_store(tmp_path / "gallery", SPACE, index)
    assert not (tmp_path / "gallery").exists()


def test_an_index_that_needs_more_vectors_is_refused(embedder, images, tmp_path):
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    with pytest.raises(ValueError, match="FAISS cannot build 'IVF100,Flat' for 6 vectors .*: take a smaller index"):
        Gallery.load(tmp_path / "gallery", embedder, index="IVF100,Flat").search("A man.")


def test_milvus_has_indexes_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="is searched by Milvus, not by FAISS: leave out the index 'hnsw'"):
        open_store(tmp_path / "gallery.db", SPACE, "hnsw")


def test_recall_is_the_share_of_the_nearest_that_is_found(monkeypatch):
    monkeypatch.setattr("bdam.retrieval.recall.VECTORS_AT_ONCE", 7)

    class HalfBlind(LocalStore):
        def search(self, query, k, filter):
            return super().search(query, k, filter)[: k // 2]

    stores = {kind: kind(SPACE) for kind in (LocalStore, HalfBlind)}
    for store in stores.values():
        for start in range(0, 300, 100):
            store.add(rows(range(start, start + 100)), VECTORS[start : start + 100])
    assert (
        measure_recall(stores[LocalStore], QUERIES, 10) == 1 and measure_recall(stores[HalfBlind], QUERIES, 10) == 0.5
    )


def rows(numbers) -> pa.Table:
    return pa.table(
        {
            "image_id": [f"{number}.png" for number in numbers],
            "image": [{"bytes": None, "path": f"/images/{number}.png"} for number in numbers],
            "stamp": list(numbers),
            "content": list(numbers),
        }
    )
