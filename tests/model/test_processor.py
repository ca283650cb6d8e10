import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SENTENCES, tiny_model


IMAGES = [Image.new("RGB", (20, 50), colour) for colour in ("red", "navy")]


def test_images_and_texts_become_the_models_fields(processor):
    inputs = processor(
        images=IMAGES,
        text=SENTENCES[:2],
        identity_text=SENTENCES[:2],
        clothing_text=SENTENCES[2:],
        return_tensors="pt",
    )
    assert set(inputs) == set(processor.model_input_names)
    assert inputs["pixel_values"].shape == (2, 3, 32, 16)
    outputs = tiny_model()(**inputs, return_loss=True)
    assert outputs.loss.isfinite()


def test_an_image_without_description_has_an_empty_mask(processor):
    for return_tensors in ("pt", "np", None):
        inputs = processor(identity_text=[SENTENCES[0], None], return_tensors=return_tensors)
        mask = np.asarray(inputs["identity_attention_mask"])
        assert mask[0].all() and not mask[1].any()


def test_one_image_and_one_sentence_need_no_lists(processor):
    inputs = processor(images=IMAGES[0], text=SENTENCES[0], return_tensors="pt")
    assert (len(inputs["pixel_values"]), len(inputs["input_ids"])) == (1, 1)
    assert processor.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True) == SENTENCES[0].lower()


def test_grey_and_transparent_images_are_converted(processor):
    inputs = processor(images=[Image.new("L", (16, 32)), Image.new("RGBA", (16, 32), "black")], return_tensors="pt")
    assert inputs["pixel_values"].shape == (2, 3, 32, 16)
    assert inputs["pixel_values"].eq(-1).all()  # black


@pytest.mark.parametrize("text", ["", "  ", ["A man.", ""], ["A man.", None], [3]])
def test_an_empty_caption_is_named(processor, text):
    with pytest.raises(ValueError, match=r"`text\[\d\]` must be a sentence"):
        processor(text=text)


def test_nothing_given_is_an_error(processor):
    with pytest.raises(ValueError, match="at least one of `images`"):
        processor()


def test_a_processor_survives_the_disk(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = type(processor).from_pretrained(tmp_path)
    first, second = (p(images=IMAGES, text=SENTENCES[:2], return_tensors="pt") for p in (processor, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
