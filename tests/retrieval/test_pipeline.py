import pytest
import torch
from PIL import Image
from tiny import SENTENCES, tiny_model

from bdam.retrieval.pipeline import BDAMPipeline


PICTURES = [Image.new("RGB", (16, 32), colour) for colour in ("red", "navy", "white")]


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_vector_holds_identity_and_clothing(checkpoint, processor):
    pipeline = BDAMPipeline(checkpoint)
    pictures, sentences = pipeline(images=PICTURES), pipeline(SENTENCES)
    with torch.inference_mode():
        outputs = tiny_model()(**processor(images=PICTURES, text=SENTENCES, return_tensors="pt"))
        clothing = tiny_model().get_clothing_text_features(**processor(text=SENTENCES, return_tensors="pt"))
    size = pipeline.space.identity_size
    torch.testing.assert_close(pictures[:, :size], outputs.image_embeds)
    torch.testing.assert_close(pictures[:, size:], outputs.clothing_image_embeds)
    torch.testing.assert_close(sentences[:, :size], outputs.text_embeds)
    torch.testing.assert_close(sentences[:, size:], clothing.pooler_output)
    mixed = pipeline.weigh(sentences, 0.3) @ pictures.T
    by_hand = 0.7 * outputs.text_embeds @ outputs.image_embeds.T
    by_hand += 0.3 * clothing.pooler_output @ outputs.clothing_image_embeds.T
    torch.testing.assert_close(mixed, by_hand)


def test_one_picture_and_one_sentence_will_do(checkpoint):
    pipeline = BDAMPipeline(checkpoint)
    assert torch.equal(pipeline(images=PICTURES[0]), pipeline(images=PICTURES[:1]))
    assert torch.equal(pipeline(SENTENCES[0]), pipeline(SENTENCES[:1]))
    for wrong in ({}, {"text": SENTENCES, "images": PICTURES}):
        with pytest.raises(ValueError, match="Give either `text` or `images`"):
            pipeline(**wrong)


def test_descriptions_are_fused_with_the_pictures_that_have_one(checkpoint, processor):
    descriptions = [SENTENCES[0], None, SENTENCES[1]]
    fused = BDAMPipeline(checkpoint, batch_size=2)(images=PICTURES, descriptions=descriptions)
    with torch.inference_mode():
        inputs = processor(images=PICTURES, identity_text=descriptions, return_tensors="pt")
        expected = tiny_model()(**inputs).image_embeds
    torch.testing.assert_close(fused[:, : expected.shape[1]], expected)
    alone = BDAMPipeline(checkpoint)(images=PICTURES)
    torch.testing.assert_close(BDAMPipeline(checkpoint)(images=PICTURES, descriptions=[None] * 3), alone)


def test_half_precision_gives_nearly_the_same(checkpoint):
    whole, half = (
        BDAMPipeline(checkpoint, mixed_precision=precision)(images=PICTURES) for precision in ("no", "bf16")
    )
    assert half.dtype == torch.float32 and not torch.equal(whole, half)
    assert torch.nn.functional.cosine_similarity(whole, half).min() > 0.999
