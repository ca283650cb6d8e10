"""What is exported embeds as the model does, whatever the number of images and the length of sentences."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import SENTENCES, TEXT, VISION, save_dual_encoder, tiny_model

from bdam.data.images import open_images
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding import onnx
from bdam.encoding.encoders import BDAMEncoder, load_encoder
from bdam.encoding.extraction import feature_store
from bdam.encoding.models import fingerprint
from bdam.encoding.onnx import OnnxEncoder, export_onnx
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import evaluate
from bdam.retrieval.embedder import Embedder


ROWS = [
    {"image": Image.effect_noise((20 + 9 * row, 40), 80).convert("RGB"), "identity_description": "A tall man."}
    for row in range(5)
]
FILES = {
    *("image_encoder.onnx", "query_encoder.onnx", "config.json", "exported_weights.txt"),
    *("processing_bdam.py", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
}
# Every node takes its time to export.
SHALLOW = {
    "vision_config": {**VISION, "num_hidden_layers": 1},
    "text_config": {**TEXT, "num_hidden_layers": 1},
    "num_branch_layers": 1,
}
MODELS = {
    "pooled": {},
    "tokens": {"fusion_mode": "tokens", "text_pooling": "mean"},
    "no clothing": {"use_bdam": False, "use_fusion": False},
}


def save(folder: Path, processor, **changes) -> str:
    """A checkpoint in a new folder."""
    tiny_model(**SHALLOW, **changes).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=MODELS)
def exported(request, processor, tmp_path_factory) -> tuple[BDAMEncoder, Path]:
    """A model, and the folder that it was exported to."""
    root = tmp_path_factory.mktemp("exported")
    checkpoint = save(root / "model", processor, **MODELS[request.param])
    export_onnx(checkpoint, root / "onnx")
    return load_encoder(checkpoint), root / "onnx"


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory) -> Path:
    """A folder of ONNX files in int8, beside the checkpoint of their model."""
    root = tmp_path_factory.mktemp("int8")
    export_onnx(save(root / "model", processor), root / "onnx", quantize=True)
    return root / "onnx"


def assert_close(embeddings: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert embeddings.keys() == expected.keys()
    for name, embeds in expected.items():
        torch.testing.assert_close(embeddings[name], embeds, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("number", [1, 2, 5])
def test_any_number_of_images_is_embedded_as_by_the_model(exported, number):
    encoder, again = exported[0], load_encoder(str(exported[1]))
    described = again.prepare_images(ROWS[:number], use_descriptions=True)
    assert_close(
        again.embed_images(described),
        encoder.embed_images(encoder.prepare_images(ROWS[:number], use_descriptions=False)),
    )


@torch.no_grad()
@pytest.mark.parametrize("sentences", [["A man."], SENTENCES, [SENTENCES[3] * 9, "A man."]])
def test_any_number_of_sentences_of_any_length_is_embedded_as_by_the_model(exported, sentences):
    encoder, again = exported[0], load_encoder(str(exported[1]))
    inputs = again.prepare_sentences(sentences)
    assert_close(again.embed_sentences(inputs), encoder.embed_sentences(inputs))


def test_nothing_but_what_a_search_needs_is_written(exported):
    files = list(exported[1].iterdir())
    assert {path.name for path in files} == FILES
    assert not any(str(Path.cwd()).encode() in path.read_bytes() for path in files)
    assert {path.name for path in exported[1].parent.iterdir()} == {"model", "onnx"}


@torch.no_grad()
def test_int8_says_nearly_the_same(folder):
    encoder, again = load_encoder(str(folder.parent / "model")), load_encoder(str(folder))
    images, sentences = again.prepare_images(ROWS, use_descriptions=False), again.prepare_sentences(SENTENCES)
    for embeddings, expected in (
        (again.embed_images(images), encoder.embed_images(images)),
        (again.embed_sentences(sentences), encoder.embed_sentences(sentences)),
    ):
        for name, embeds in expected.items():
            assert not torch.equal(embeddings[name], embeds)
            assert torch.cosine_similarity(embeddings[name], embeds).min() > 0.99


def test_a_split_is_evaluated_by_it(folder):
    encoder = load_encoder(str(folder))
    assert isinstance(encoder, OnnxEncoder)
    assert encoder.model.to("cpu").config.clothing_weight == 0.5
    test = open_images(generate_pedestrians(1, 1, 2, image_size=(32, 16))["test"], "test")
    checkpoint = str(folder.parent / "model")
    assert len({fingerprint(checkpoint), fingerprint(folder), None}) == 3
    stores = [feature_store(place, test) for place in (checkpoint, str(folder))]
    assert stores[0].folder != stores[1].folder
    features = extract_features(encoder, test, batch_size=3, store=stores[1])
    assert set(features.galleries) == {"image"} and features.clothing.shape == (8, 24)
    assert evaluate(features, (0.0, 0.5))


def test_an_export_is_of_the_space_of_its_model(exported, folder):
    for of_onnx in (exported[1], folder):  # in float32, and in int8
        original, space = (Embedder(place).space for place in (of_onnx.parent / "model", of_onnx))
        assert space.weights == original.weights == fingerprint(of_onnx.parent / "model")
        original.check(space, "a gallery")
        assert space.checkpoint == str(of_onnx) and fingerprint(of_onnx) != original.weights


def test_an_export_that_does_not_say_of_what_is_of_its_own_space(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "exported_weights.txt").unlink()
    assert Embedder(tmp_path).space.weights == fingerprint(tmp_path)


def test_what_is_lost_of_a_sentence_is_told_as_by_the_model(folder):
    for checkpoint in (folder.parent / "model", folder):
        encoder = load_encoder(str(checkpoint))
        assert encoder.check_sentence("A tall xqzt man") == ['The model does not know: "xqzt".']
        (warning,) = encoder.check_sentence("A tall man " * 50)
        assert warning.endswith(f"of 150): the model reads {TEXT['max_position_embeddings']} tokens.")


def test_a_folder_that_is_not_whole_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "query_encoder.onnx").write_bytes(b"half")
    with pytest.raises(ValueError, match="query_encoder.onnx is broken"):
        load_encoder(str(tmp_path))
    (tmp_path / "query_encoder.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"no whole export, there is no query_encoder.onnx: `bdam export`"):
        load_encoder(str(tmp_path))


def test_what_is_there_is_not_overwritten(folder):
    with pytest.raises(FileExistsError, match="is there already: remove it, or give another folder"):
        export_onnx(str(folder.parent / "model"), folder)


def test_only_a_bdam_can_be_exported(folder, processor, tmp_path):
    save_dual_encoder("CLIP", processor.tokenizer, tmp_path / "clip")
    for checkpoint in (tmp_path / "clip", folder):
        with pytest.raises(ValueError, match="is no checkpoint of a BDAM: nothing else can be exported"):
            export_onnx(str(checkpoint), tmp_path / "onnx")


def test_an_export_that_does_not_agree_leaves_nothing(folder, tmp_path, monkeypatch):
    def export_badly(encoder, aside):
        for file in ("image_encoder.onnx", "query_encoder.onnx"):
            shutil.copyfile(folder / file, aside / file)

    monkeypatch.setattr(onnx, "_export", export_badly)
    with pytest.raises(ValueError, match=r"image_encoder.onnx would not agree with the model: `image` differs by"):
        export_onnx(str(folder.parent / "model"), tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
