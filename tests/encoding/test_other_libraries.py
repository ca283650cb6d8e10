"""One checkpoint, several libraries: the same embeddings and the same ranking."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES, tiny_model
from transformers import AutoModel, AutoModelForZeroShotImageClassification, pipeline

from bdam import Embedder
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.recipes.recipe import Recipe
from bdam.retrieval.gallery import Gallery


@pytest.fixture(scope="module")
def data():
    return generate_pedestrians(0, 0, 4, 1, 2, image_size=(32, 16))["test"]


@pytest.fixture(scope="module", params=[True, False], ids=["bdam", "plain"])
def folder(request, processor, tmp_path_factory):
    model = tiny_model(use_bdam=request.param)
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(folder, model, processor, Recipe(data="data", output_dir="run"))
    return folder


def test_every_library_embeds_alike(folder, data):
    images = data["image"][:]
    embedder = Embedder(folder)
    sentences = SentenceTransformer(str(folder), trust_remote_code=True)
    size = embedder.space.identity_size
    for given in ({"text": SENTENCES}, {"images": images}):
        found = torch.from_numpy(sentences.encode(*given.values()))
        torch.testing.assert_close(found, embedder(**given)[:, :size], atol=1e-6, rtol=0)
    extract = pipeline("image-feature-extraction", model=str(folder), trust_remote_code=True)
    torch.testing.assert_close(torch.tensor(extract(images[0])), embedder(images=images[:1])[:, :size])
    classify = pipeline("zero-shot-image-classification", model=str(folder), trust_remote_code=True)
    answers = classify(images[0], candidate_labels=SENTENCES, hypothesis_template="{}")
    scores = embedder(images=images[0])[:, :size] @ embedder(text=SENTENCES)[:, :size].T
    assert [answer["label"] for answer in answers] == [SENTENCES[i] for i in scores[0].argsort(descending=True)]


@pytest.mark.parametrize("folder", [True], indirect=True)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_mix_with_clothing_ranks_alike(folder, data, weight, processor):
    gallery = Gallery.from_images(folder, data.select_columns(["image", "image_id"]))
    expected = [hit.image_id for hit in gallery.search(SENTENCES[0], k=8, clothing_weight=weight)]
    images = data["image"][:]

    sentences = SentenceTransformer(str(folder), trust_remote_code=True)
    query = sentences.encode(SENTENCES[:1], clothing_weight=weight)
    scores = sentences.similarity(query, sentences.encode(images, with_clothing=True))[0]
    assert [data[int(row)]["image_id"] for row in scores.argsort(descending=True)] == expected

    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        query = model.get_text_features(**processor(text=SENTENCES[0], return_tensors="pt"), clothing_weight=weight)
        found = model.get_image_features(**processor(images=images, return_tensors="pt"), with_clothing=True)
    torch.testing.assert_close((query.pooler_output @ found.pooler_output.T)[0], scores)


@pytest.mark.parametrize("folder", [False], indirect=True)
def test_a_model_without_clothing_says_so(folder, processor):
    with pytest.raises(ValueError, match="does not use: .*clothing_weight"):
        SentenceTransformer(str(folder), trust_remote_code=True).encode(SENTENCES, clothing_weight=0.5)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(ValueError, match="it has no clothing stream"):
        model.get_text_features(**processor(text=SENTENCES, return_tensors="pt"), clothing_weight=0.5)


@pytest.mark.parametrize("folder", [True], indirect=True)
def test_descriptions_have_no_clothing(folder, processor):
    model = AutoModelForZeroShotImageClassification.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(ValueError, match="have no clothing: give `pixel_values`"):
        model.get_image_features(**processor(identity_text=SENTENCES, return_tensors="pt"), with_clothing=True)
