import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import COLOURS, SENTENCES

from bdam.retrieval.gallery import Gallery
from bdam.retrieval.stores import open_store
from bdam.retrieval.stores.base import EmbeddingSpace


lancedb = pytest.importorskip("lancedb")
SPACE = EmbeddingSpace("some/model", "abc", 3, 1)


def row(image_id: str, **columns) -> pa.Table:
    image = {"bytes": None, "path": f"/images/{image_id}"}
    return pa.Table.from_pylist([{"image_id": image_id, "image": image, "stamp": 1, "content": 2, **columns}])


def test_images_without_files_are_kept_in_lancedb(embedder, tmp_path):
    images = [Image.new("RGB", (16, 32), color) for color in COLOURS]
    rows = Dataset.from_dict({"image": images, "image_id": list(COLOURS), "camera": [1, 1, 2, 2, 3, 3]})
    made = Gallery.from_images(embedder, rows, uri=tmp_path / "gallery.lancedb")
    read, expected = Gallery.load(tmp_path / "gallery.lancedb", embedder), Gallery.from_images(embedder, rows)
    for gallery in (made, read):
        found, hits = gallery.search(SENTENCES[0]), expected.search(SENTENCES[0])
        assert [hit.image_id for hit in found] == [hit.image_id for hit in hits]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-6)
        assert gallery.image("red").getpixel((0, 0)) == (255, 0, 0)
    assert read.store.choices() == expected.store.choices() == {"camera": [1, 2, 3]}
    assert read.measure_recall(k=3) == {0.0: 1.0, 0.4: 1.0, 1.0: 1.0}


def test_rows_with_other_columns_join_a_table_of_lancedb(tmp_path):
    one, other = (open_store(tmp_path / "gallery.lancedb", SPACE) for _ in range(2))
    one.add(row("a", camera=1), torch.ones(1, 4))
    other.add(row("b", floor="first"), 2 * torch.ones(1, 4))
    assert len(one) == 2 and one.choices() == {"camera": [1], "floor": ["first"]}
    found = one.search(torch.ones(4), 9, {})
    assert [stored.row["floor"] for stored in found] == ["first", None]
    assert one.search(torch.ones(4), 9, {"camera": [None]})[0].image_id == "b"
    assert one.ids_by_stamp([1, 7]).keys() == {1} and one.states([]) == {} and one.find([]) == []


def test_what_lancedb_cannot_open_or_keep_is_an_error(tmp_path):
    uri = tmp_path / "gallery.lancedb"
    with pytest.raises(FileNotFoundError, match="No gallery at .*bdam index MODEL IMAGES"):
        open_store(uri)
    assert not uri.exists()
    with pytest.raises(ValueError, match="is searched by LanceDB, not by FAISS: leave out the index 'hnsw'"):
        open_store(uri, SPACE, "hnsw")
    store = open_store(uri, SPACE)
    assert open_store(uri).space == SPACE and store.search(torch.ones(4), 3, {}) == []
    with pytest.raises(ValueError, match=r"gallery.lancedb holds vectors of some/model \(weights abc\)"):
        open_store(uri, EmbeddingSpace("some/model", "abd", 3, 1))
    with pytest.raises(ValueError, match="no columns with . or ` in their names, such as 'a.b': rename it"):
        store.add(row("a", **{"a.b": 1}), torch.ones(1, 4))
    assert len(store) == 0
    lancedb.connect(tmp_path / "other.lancedb").create_table("gallery", pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="a table 'gallery' that is no gallery: give another URI"):
        open_store(tmp_path / "other.lancedb")
