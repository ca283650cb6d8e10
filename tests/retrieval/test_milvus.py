"""One script for galleries in memory, in folders, in files of databases and on a real Milvus server."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from milvus_lite.server_manager import server_manager_instance
from milvus_server import running_milvus
from PIL import Image
from pymilvus import MilvusClient
from tiny import SENTENCES

from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hit
from bdam.retrieval.sources import open_source
from bdam.retrieval.stores import milvus, open_store
from bdam.retrieval.stores.base import EmbeddingSpace, Span
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.milvus import MilvusStore


SPACE = EmbeddingSpace("some/model", "abc", 3, 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    with running_milvus(tmp_path_factory.mktemp("milvus")) as (uri, token), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILVUS_TOKEN", token)
        yield uri


def emptied(server: str) -> str:
    client = MilvusClient(server, token=os.environ["MILVUS_TOKEN"])
    for name in client.list_collections():
        client.drop_collection(name)
    return server


# Kinds of stores, each with the name of its files and a module that it needs.
FILES = {
    "folder": ("gallery", "pyarrow"),
    "lancedb": ("gallery.lancedb", "lancedb"),
    "lite": ("gallery.db", "milvus_lite"),
}


@pytest.fixture(params=[*FILES, "server"])
def uri(request, tmp_path) -> str:
    """The URI of each kind of store, where nothing is yet."""
    if request.param == "server":
        return emptied(request.getfixturevalue("server"))
    file, module = FILES[request.param]
    pytest.importorskip(module)
    return str(tmp_path / file)


def draw(folder: Path, names: list[str], seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (4, 2, 3), dtype=np.uint8))
        coarse.resize((16, 32), Image.Resampling.NEAREST).save(folder / name)
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    return draw(tmp_path / "images", [f"{'north' if n % 3 else 'south'}/{n:02}.png" for n in range(40)])


def searches(gallery: Gallery) -> list[list[Hit]]:
    return [
        gallery.search(SENTENCES[0], k=10),
        gallery.search(SENTENCES[3], clothing_weight=0.0, k=10),
        gallery.search(identity=SENTENCES[0], clothing=SENTENCES[3], clothing_weight=0.4, k=10),
        gallery.search(like="north/04.png", k=10),
        gallery.search(like=Image.new("RGB", (16, 32), "navy"), clothing=SENTENCES[2], clothing_weight=0.7, k=10),
        gallery.search(SENTENCES[1], k=10, filter={"folder": "south"}),
        gallery.search(SENTENCES[1], k=99, filter={"folder": ["south", "nowhere", "north"]}),
    ]


def assert_same(gallery: Gallery, expected: Gallery) -> None:
    assert len(gallery) == len(expected)
    for found, hits in zip(searches(gallery), searches(expected), strict=True):
        assert all(first.score - second.score > 1e-6 for first, second in pairwise(hits)), "ties prove nothing"
        assert [hit.image_id for hit in found] == [hit.image_id for hit in hits]
        for hit, other in zip(found, hits, strict=True):
            assert (hit.score, hit.identity, hit.clothing) == pytest.approx(
                (other.score, other.identity, other.clothing), abs=1e-5
            )
            assert {name: hit.row[name] for name in other.row} == other.row


def reopen(uri: str, embedder: Embedder) -> Gallery:
    server_manager_instance.release_server(uri)
    return Gallery.load(uri, embedder)


def test_one_script_finds_the_same_everywhere(uri, embedder, images):
    """From the first image to the last, each step beside a gallery that is made anew in memory."""
    gallery = Gallery.from_images(embedder, images, uri=uri)
    assert_same(gallery, Gallery.from_images(embedder, images))
    draw(images, ["north/new.png", 'west/it\'s "new" \\ ü.png'], seed=1)
    draw(images, ["north/01.png"], seed=2)
    os.utime(images / "north/01.png", ns=(1, 1))
    assert gallery.add(images).added == 3 and gallery.add(images).added == 0
    assert_same(gallery, Gallery.from_images(embedder, images))
    (images / "north/05.png").unlink()
    gallery.remove(gallery.find_deleted(open_source(images)))
    assert_same(gallery, Gallery.from_images(embedder, images))
    gallery.remove(["south/03.png", 'west/it\'s "new" \\ ü.png'])
    shutil.rmtree(images / "west")
    (images / "south/03.png").unlink()
    gallery, expected = reopen(uri, embedder), Gallery.from_images(embedder, images)
    assert_same(gallery, expected)
    assert gallery.store.states() == expected.store.states()
    assert np.array_equal(gallery.image("north/04.png"), expected.image("north/04.png"))


def test_a_gallery_moves_into_every_store_and_out_again(uri, embedder, images, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(milvus, "IDS_AT_ONCE", 9)
    local = Gallery.from_images(embedder, images, uri=tmp_path / "local")
    elsewhere = draw(tmp_path / "elsewhere", ["east/0.png"], seed=3)
    Gallery.from_images(embedder, elsewhere, uri=tmp_path / "other")
    local.save(uri)
    assert_same(Gallery.load(uri, embedder), local)
    both = Gallery.load(uri, embedder)
    assert both.add(tmp_path / "other").added == 1 and both.add(tmp_path / "other").added == 0
    local.add(tmp_path / "other")
    assert_same(both, local)
    both.save(tmp_path / "back")
    assert_same(Gallery.load(tmp_path / "back", embedder), local)


def rows(columns: dict[str, list]) -> pa.Table:
    count = len(next(iter(columns.values())))
    return pa.table(
        {
            "image_id": [f"{place}.png" for place in range(count)],
            "image": [{"bytes": None, "path": f"/images/{place}.png"} for place in range(count)],
            "stamp": list(range(count)),
            "content": list(range(count)),
            **columns,
        }
    )


def test_filters_mean_the_same_and_cannot_break_out(uri):
    table = rows(
        {
            "camera": [1, 2, 3, None],
            "place": ['a "b"', "c\\", 'x" or image_id != "', "line\nline"],
            "at noon": [True, False, True, False],
            "height": [1.5, 2.0, 0.00001, -3.0],
        }
    )
    local, remote = LocalStore(SPACE), open_store(uri, SPACE)
    for store in (local, remote):
        store.add(table, torch.eye(4))
    query = torch.tensor([4.0, 3.0, 2.0, 1.0])

    def found(store, filter) -> list[str]:
        return [stored.image_id for stored in store.search(query, 9, filter)]

    assert sorted(found(local, {"height": Span(0, 1.5)})) == ["0.png", "2.png"]
    places = [{"place": place} for place in table["place"].to_pylist()]
    for filter in (
        *places,
        {"camera": 2},
        {"camera": ["1", "3"]},
        {"camera": [None, 1]},
        {"camera": []},
        {"at noon": True, "camera": [1, 2]},
        {"height": 0.00001},
        {"height": [2, -3]},
        {"place": "nowhere"},
        {"height": Span(0, 1.5)},
        {"height": Span(end=0.00001), "at noon": False},
        {"camera": Span(2)},
        {"camera": Span()},
    ):
        assert found(remote, filter) == found(local, filter), filter
        assert remote.count(filter) == local.count(filter) == len(found(local, filter)), filter
    assert [found(remote, filter) for filter in places] == [["0.png"], ["1.png"], ["2.png"], ["3.png"]]
    for store in (local, remote):
        with pytest.raises(ValueError, match=r"Nothing to filter by is called 'floor': there is .*camera"):
            store.search(query, 9, {"floor": 1})
        with pytest.raises(ValueError, match="'place' holds string, which has no span"):
            store.search(query, 9, {"place": Span(1)})
        with pytest.raises(ValueError, match="'camera' holds int64, not"):
            store.search(query, 9, {"camera": "left"})
        with pytest.raises(ValueError, match="Nothing to filter by is called 'image_id'"):
            store.search(query, 9, {"image_id": "0.png"})
    with pytest.raises(ValueError, match="rename it" if isinstance(remote, MilvusStore) else "Nothing to filter by"):
        remote.search(query, 9, {'camera"] == 1 or $meta["camera': 2})


def test_pages_of_a_store_join(tmp_path, monkeypatch):
    """Also where names are such as no expression could hold."""
    monkeypatch.setattr(milvus, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(milvus, "IDS_AT_ONCE", 3)
    names = ['"', "\\", "\n", "", "ü", "a" * 1000, *map(str, range(7))]
    vectors = torch.randn(len(names), 4, generator=torch.Generator().manual_seed(0))
    store = MilvusStore(str(tmp_path / "gallery.db"), SPACE)
    assert len(store) == 0 and store.states() == {} and store.search(vectors[0], 3, {}) == []
    store.add(rows({"image_id": names}), vectors)
    assert len(store) == len(store.states()) == len(names)
    assert store.ids_by_stamp([9, 2, 99]) == {9: "3", 2: "\n"}
    assert [stored.image_id for stored in store.find(["5", "gone", '"'])] == ["5", '"']
    chunks = list(store.chunks())
    assert [len(table) for table, _ in chunks] == [4, 4, 4, 1]
    kept = {
        name: vector
        for table, part in chunks
        for name, vector in zip(table["image_id"].to_pylist(), part, strict=True)
    }
    assert all(torch.equal(kept[name], vector) for name, vector in zip(names, vectors, strict=True))
    store.remove(["0", '"', "\\", "gone"])
    assert store.search(torch.ones(4), 99, {}) and set(store.states()) == set(names) - {"0", '"', "\\"}


def test_another_index_on_a_server_is_left_alone(server):
    """As `docs/scale.md` says."""
    store = MilvusStore(server, SPACE, "another_index")
    store.add(rows({"camera": [1, 2, 3, 4]}), torch.eye(4))
    client = store._client
    client.release_collection("another_index")
    client.drop_index("another_index", "vector")
    index = client.prepare_index_params("vector", index_type="HNSW", metric_type="IP", M=16, efConstruction=200)
    client.create_index("another_index", index)
    again = MilvusStore(server, SPACE, "another_index")
    found = again.search(torch.tensor([0.0, 2.0, 1.0, -1.0]), 2, {})
    assert [stored.image_id for stored in found] == [
        "1.png",
        "2.png",
    ]
    assert client.describe_index("another_index", "vector")["index_type"] == "HNSW"


def test_an_image_without_a_file_is_refused(embedder, tmp_path):
    data = Dataset.from_dict({"image": [Image.new("RGB", (16, 32), "navy")], "image_id": ["0042"]})
    gallery = Gallery(embedder, MilvusStore(str(tmp_path / "gallery.db"), embedder.space))
    with pytest.raises(ValueError, match="0042 is no file.*save the images as files, and index their folder"):
        gallery.add(data)
    assert len(gallery) == 0


def test_what_cannot_be_opened_is_told(tmp_path, embedder):
    file = str(tmp_path / "deep" / "gallery.db")
    with pytest.raises(FileNotFoundError, match="No gallery at .*bdam index MODEL IMAGES"):
        MilvusStore(file)
    assert not Path(file).parent.exists()
    store = MilvusStore(file, SPACE)
    assert MilvusStore(file).space == SPACE
    with pytest.raises(FileNotFoundError, match="No gallery at "):
        MilvusStore(file, name="other")
    with pytest.raises(ValueError, match=r"gallery.db holds vectors of some/model \(weights abc\)"):
        MilvusStore(file, EmbeddingSpace(**{**asdict(SPACE), "weights": "abd"}))
    with pytest.raises(ValueError, match=r"gallery.db holds vectors of some/model \(weights abc\)"):
        Gallery.load(file, embedder)
    store._client.create_collection("stranger", dimension=4)
    with pytest.raises(ValueError, match="a collection 'stranger' that is no gallery"):
        MilvusStore(file, name="stranger")
    with pytest.raises(ConnectionError, match="gallery.db: .*dim"):
        store.add(rows({"camera": [1]}), torch.ones(1, 7))
    (tmp_path / "file.db").touch()
    with pytest.raises(ConnectionError, match="No Milvus answers at .*file.db .*another process may have it open"):
        MilvusStore(str(tmp_path / "file.db"), SPACE)


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(ConnectionError, match="No Milvus answers at http://127.0.0.1:1 .*start one there"):
        MilvusStore("http://127.0.0.1:1", SPACE)
    with pytest.raises(ValueError, match="set MILVUS_TOKEN") as refusal:
        MilvusStore("http://root:secret@127.0.0.1:1", SPACE)
    assert "secret" not in str(refusal.value)


def test_a_token_that_the_server_refuses_is_not_told(server, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    with pytest.raises(ConnectionError, match=f"No Milvus answers at {server} .*correct.*MILVUS_TOKEN") as refusal:
        MilvusStore(server, SPACE)
    assert "secret" not in str(refusal.value)
