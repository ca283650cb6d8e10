from io import BytesIO

import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from bdam.retrieval.rows import to_table
from bdam.retrieval.sources import open_source
from bdam.retrieval.stores.base import EmbeddingSpace
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.parts import Parts


SPACE = EmbeddingSpace("some/model", "abc", 3, 1)


@pytest.mark.parametrize("is_kept", [False, True])
def test_an_image_with_bytes_and_a_path_is_its_bytes(tmp_path, is_kept):
    """As data sets of the Hub have them: the path is that of a file on somebody else's machine."""
    content = BytesIO()
    Image.new("RGB", (4, 8), "navy").save(content, "PNG")
    image = [{"bytes": content.getvalue(), "path": "0042.png"}]
    rows = open_source(Dataset.from_dict({"image": image}, Features({"image": ImageFeature()}))).rows
    store = LocalStore(SPACE, Parts(tmp_path / "gallery", SPACE) if is_kept else None)
    store.add(to_table(rows, [0]), torch.ones(1, 4))
    (name,) = store.states()
    assert store.content(name) == content.getvalue() and store.find([name])[0].row["path"] is None
    (table, vectors), *_ = store.chunks()
    assert table["image"].to_pylist() == [{"bytes": content.getvalue(), "path": None}]
    assert torch.equal(vectors, torch.ones(1, 4))


@pytest.mark.parametrize("is_kept", [False, True])
def test_every_gallery_tells_the_paths_of_its_images(tmp_path, is_kept):
    Image.new("RGB", (4, 8)).save(tmp_path / "0.png")
    store = LocalStore(SPACE, Parts(tmp_path / "gallery", SPACE) if is_kept else None)
    store.add(to_table(open_source(tmp_path).rows, [0]), torch.ones(1, 4))
    assert store.states()["0.png"].path == str(tmp_path / "0.png")
    assert store.search(torch.ones(4), 1, {})[0].row["path"] == str(tmp_path / "0.png")
    assert store.states(["0.png", "gone"]) == store.states()
