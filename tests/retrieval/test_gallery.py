import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import SENTENCES, tiny_model

from bdam.retrieval.gallery import Gallery


def pictures(**columns) -> Dataset:
    colours = ("red", "navy", "white", "black")
    return Dataset.from_dict({"image": [Image.new("RGB", (16, 32), colour) for colour in colours], **columns})


@pytest.mark.parametrize("clothing_weight", [0.0, 0.4, 1.0])
def test_scores_are_the_mix_of_both_streams(processor, clothing_weight):
    model = tiny_model()
    hits = Gallery(model, processor, pictures()).search(SENTENCES[0], clothing_weight, k=3)
    with torch.inference_mode():
        inputs = processor(images=list(pictures()["image"]), return_tensors="pt")
        query = processor(text=SENTENCES[0], return_tensors="pt")
        identity = model.get_image_features(**inputs).pooler_output @ model.get_text_features(**query).pooler_output[0]
        clothing_query = model.get_clothing_text_features(**query).pooler_output[0]
        clothing = model.get_clothing_image_features(**inputs).pooler_output @ clothing_query
    expected, rows = ((1 - clothing_weight) * identity + clothing_weight * clothing).topk(3)
    assert [hit.row for hit in hits] == rows.tolist()
    assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(hit.score == pytest.approx(hit.identity + hit.clothing, abs=1e-6) for hit in hits)


def test_a_gallery_looks_at_pictures_alone(processor):
    model = tiny_model()
    described = pictures(identity_description=SENTENCES)
    alone, beside_descriptions = (Gallery(model, processor, dataset).identity for dataset in (pictures(), described))
    assert torch.equal(alone, beside_descriptions)


def test_the_weight_of_clothing_is_the_models_own_unless_given(processor):
    gallery = Gallery(tiny_model(clothing_weight=0.3), processor, pictures())
    assert gallery.search(SENTENCES[0]) == gallery.search(SENTENCES[0], 0.3)
    with pytest.raises(ValueError, match=r"`clothing_weight` must lie in \[0, 1\], got 2"):
        gallery.search(SENTENCES[0], 2)


def test_a_model_without_clothing_stream_searches_by_identity(processor):
    hits = Gallery(tiny_model(use_bdam=False), processor, pictures()).search(SENTENCES[0], k=10)
    assert len(hits) == 4 and all(hit.clothing == 0 for hit in hits)
