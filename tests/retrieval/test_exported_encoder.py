"""A gallery made by PyTorch is searched by the ONNX export of its model, once both are seen to agree."""

import json
import shutil

import pytest
from PIL import Image
from tiny import SENTENCES

from bdam.encoding.onnx import export_onnx
from bdam.retrieval.gallery import Gallery


@pytest.fixture(scope="module")
def export(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "onnx"
    export_onnx(str(checkpoint), folder)
    return folder


def test_an_export_searches_the_gallery_of_its_model(embedder, export, images, tmp_path):
    made = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    searched = Gallery.load(tmp_path / "gallery", export)
    for options in ({"text": SENTENCES[0]}, {"like": "camera0/red.png"}, {"clothing": SENTENCES[2]}):
        expected, found = made.search(**options), searched.search(**options)
        assert [hit.image_id for hit in found] == [hit.image_id for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-4)
    assert searched.add(images).added == 0
    with_export = Gallery.from_images(export, images, uri=tmp_path / "other")
    assert with_export.search(SENTENCES[0])[0].image_id == made.search(SENTENCES[0])[0].image_id
    assert len(Gallery.load(tmp_path / "other", embedder)) == 6


def test_an_export_that_disagrees_is_refused(embedder, export, images, tmp_path):
    """The export gets a processor that inverts images. Images that changed since indexing are not compared."""
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    shutil.copytree(export, tmp_path / "export")
    config = tmp_path / "export/processor_config.json"
    values = json.loads(config.read_text())
    values["image_processor"]["image_std"] = [-0.5, -0.5, -0.5]
    config.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="embeds camera0/.*png differently from .*gallery .cosine"):
        Gallery.load(tmp_path / "gallery", tmp_path / "export")
    for path in images.rglob("*.png"):
        Image.new("RGB", (16, 32), "pink").save(path)
    assert len(Gallery.load(tmp_path / "gallery", export)) == 6
