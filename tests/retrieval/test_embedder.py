import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from tiny import SENTENCES, tiny_model

from bdam.encoding.models import fingerprint
from bdam.retrieval.embedder import Embedder


IMAGES = [Image.new("RGB", (16, 32), colour) for colour in ("red", "navy", "white")]


def test_a_vector_holds_identity_and_clothing(checkpoint, processor):
    embedder = Embedder(checkpoint)
    images, sentences = embedder(images=IMAGES), embedder(SENTENCES)
    with torch.inference_mode():
        outputs = tiny_model()(**processor(images=IMAGES, text=SENTENCES, return_tensors="pt"))
        clothing = tiny_model().get_clothing_text_features(**processor(text=SENTENCES, return_tensors="pt"))
    size = embedder.space.identity_size
    torch.testing.assert_close(images[:, :size], outputs.image_embeds)
    torch.testing.assert_close(images[:, size:], outputs.clothing_image_embeds)
    torch.testing.assert_close(sentences[:, :size], outputs.text_embeds)
    torch.testing.assert_close(sentences[:, size:], clothing.pooler_output)
    mixed = embedder.weigh(sentences, 0.3) @ images.T
    by_hand = 0.7 * outputs.text_embeds @ outputs.image_embeds.T
    by_hand += 0.3 * clothing.pooler_output @ outputs.clothing_image_embeds.T
    torch.testing.assert_close(mixed, by_hand)


def test_one_image_and_one_sentence_will_do(checkpoint):
    embedder = Embedder(checkpoint)
    assert torch.equal(embedder(images=IMAGES[0]), embedder(images=IMAGES[:1]))
    assert torch.equal(embedder(SENTENCES[0]), embedder(SENTENCES[:1]))
    for wrong in ({}, {"text": SENTENCES, "images": IMAGES}):
        with pytest.raises(ValueError, match="Give either `text` or `images`"):
            embedder(**wrong)


def test_descriptions_are_fused_with_the_images_that_have_one(checkpoint, processor):
    descriptions = [SENTENCES[0], None, SENTENCES[1]]
    fused = Embedder(checkpoint, batch_size=2)(images=IMAGES, descriptions=descriptions)
    with torch.inference_mode():
        inputs = processor(images=IMAGES, identity_text=descriptions, return_tensors="pt")
        expected = tiny_model()(**inputs).image_embeds
    torch.testing.assert_close(fused[:, : expected.shape[1]], expected)
    alone = Embedder(checkpoint)(images=IMAGES)
    torch.testing.assert_close(Embedder(checkpoint)(images=IMAGES, descriptions=[None] * 3), alone)


def test_half_precision_gives_nearly_the_same(checkpoint):
    whole, half = (Embedder(checkpoint, mixed_precision=kind)(images=IMAGES) for kind in ("no", "bf16"))
    assert half.dtype == torch.float32 and not torch.equal(whole, half)
    assert torch.nn.functional.cosine_similarity(whole, half).min() > 0.999


def test_what_is_lost_of_a_sentence_is_told(checkpoint):
    embedder = Embedder(checkpoint)
    assert embedder.check_sentence(SENTENCES[3]) == []
    cut, unknown = embedder.check_sentence("A xqzt man. " * 100)
    assert cut.startswith('The sentence was cut after "… ') and cut.endswith("of 300): the model reads 32 tokens.")
    assert unknown == 'The model does not know: "xqzt".'
    with pytest.raises(ValueError, match="knows no word"):
        embedder.check_sentence("xqzt")


@pytest.mark.parametrize("way", [".", "model", "link", "../{parent}/model/"])
def test_a_space_knows_its_folder_from_anywhere(way, checkpoint, tmp_path, monkeypatch):
    place = shutil.copytree(checkpoint, tmp_path / "model")
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(place if way == "." else tmp_path)
    space = Embedder(way.format(parent=tmp_path.name)).space
    assert space.checkpoint == str(place.resolve()) and space.weights == fingerprint(place)
    monkeypatch.chdir("/")
    assert Embedder(space.checkpoint).space == space


FROM_THE_HUB = """
import dataclasses, json
from bdam.retrieval.embedder import Embedder
print(json.dumps(dataclasses.asdict(Embedder("jane/people").space)))
"""


def test_a_space_of_the_hub_has_its_name_and_commit(checkpoint, tmp_path):
    """As the Hub's libraries keep what they download."""
    commit, cached = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub/models--jane--people"
    shutil.copytree(checkpoint, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", FROM_THE_HUB]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert loaded.returncode == 0, loaded.stderr
    space = json.loads(loaded.stdout.splitlines()[-1])
    assert (space["checkpoint"], space["weights"]) == ("jane/people", commit)


def test_the_default_device_is_the_accelerator_where_there_is_one(checkpoint, monkeypatch):
    monkeypatch.setattr("bdam.retrieval.embedder.default_device", lambda: torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        Embedder(checkpoint)
    assert Embedder(checkpoint, "cpu").model.device == torch.device("cpu")
