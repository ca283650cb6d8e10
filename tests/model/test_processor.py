import copy

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SENTENCES, tiny_model

from processing_bdam import BDAMProcessor


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


@pytest.mark.parametrize("text_padding", ["longest", "max_length"])
@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], ["input_ids"]])
def test_texts_are_padded_as_if_they_were_tokenized_with_their_batch(processor, text_padding, names):
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.model_input_names = names  # SigLIP's have no mask
    processor = BDAMProcessor(processor.image_processor, tokenizer, text_padding)
    texts = {"text": SENTENCES, "identity_text": [*SENTENCES[:3], None], "clothing_text": SENTENCES[::-1]}
    tokens = {name: [text and processor.tokenize([text])[0] for text in given] for name, given in texts.items()}
    padded, expected = processor.pad(**tokens, return_tensors="pt"), processor(**texts, return_tensors="pt")
    assert padded.keys() == expected.keys()
    assert all(torch.equal(padded[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"`texts\[1\]` must be a sentence, got ' '"):
        processor.tokenize([SENTENCES[0], " "])


def test_nothing_given_is_an_error(processor):
    with pytest.raises(ValueError, match="at least one of `images`"):
        processor()


def test_a_processor_survives_the_disk(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = type(processor).from_pretrained(tmp_path)
    first, second = (p(images=IMAGES, text=SENTENCES[:2], return_tensors="pt") for p in (processor, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
