"""Other dual encoders of transformers, seen by the evaluation as they see themselves."""

import json

import pytest
import torch
from PIL import Image
from tiny import SENTENCES, TEXT, save_dual_encoder, tiny_model
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, VisionTextDualEncoderModel

from bdam.encoding.encoders import BDAMEncoder, load_encoder


IMAGES = [Image.effect_noise((20, 40), 80).convert("RGB"), Image.new("RGB", (30, 30), "red")]


@pytest.fixture(params=["CLIP", "Siglip", "VisionTextDualEncoder"])
def dual_encoder(request, processor, tmp_path):
    """A checkpoint, and the model that it was saved from."""
    return tmp_path, save_dual_encoder(request.param, processor.tokenizer, tmp_path)


@torch.no_grad()
def test_a_dual_encoder_scores_as_it_does_by_itself(dual_encoder):
    folder, model = dual_encoder
    encoder = load_encoder(str(folder))
    images = encoder.prepare_images([{"image": image} for image in IMAGES], use_descriptions=True)
    sentences = encoder.prepare_sentences(SENTENCES)
    embeddings = [encoder.embed_images(images)["image"], encoder.embed_sentences(sentences)["identity"]]
    assert all(torch.allclose(part.norm(dim=1), torch.ones(len(part))) for part in embeddings)
    logits = model(**images, **sentences).logits_per_image
    bias = getattr(model, "logit_bias", torch.zeros(1))
    torch.testing.assert_close(embeddings[0] @ embeddings[1].T * model.logit_scale.exp() + bias, logits)


@torch.no_grad()
def test_sentences_are_cut_and_padded_as_the_model_needs(dual_encoder):
    folder, model = dual_encoder
    encoder = load_encoder(str(folder))
    most = TEXT["max_position_embeddings"]
    assert encoder.prepare_sentences(["A tall man " * 50])["input_ids"].shape[1] == most
    assert encoder.embed_sentences(encoder.prepare_sentences(["A tall man " * 5000]))["identity"].isfinite().all()
    (warning,) = encoder.check_sentence("A tall man " * 50)
    assert warning.endswith(f"of 150): the model reads {most} tokens.")
    short = encoder.prepare_sentences(["A man."])["input_ids"].shape[1]
    assert short == most if model.config.model_type == "siglip" else short < most


@torch.no_grad()
@pytest.mark.parametrize(("text_encoder", "most"), [("bert", 40), ("roberta", 39), ("xlm-roberta", 39), ("mpnet", 38)])
def test_a_long_sentence_fits_whatever_the_text_encoder_counts_from(text_encoder, most, processor, tmp_path):
    model = save_dual_encoder("VisionTextDualEncoder", processor.tokenizer, tmp_path)
    sizes = {**TEXT, "model_type": text_encoder, "max_position_embeddings": 40, "pad_token_id": 0}
    text_model = AutoModel.from_config(AutoConfig.for_model(**sizes))
    VisionTextDualEncoderModel(vision_model=model.vision_model, text_model=text_model).save_pretrained(tmp_path)
    tokenizer_config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**tokenizer_config, "model_max_length": 10**30}))
    encoder = load_encoder(str(tmp_path))
    inputs = encoder.prepare_sentences(["A tall man " * 3334])
    assert inputs["input_ids"].shape[1] == most
    assert encoder.embed_sentences(inputs)["identity"].isfinite().all()


@torch.no_grad()
def test_bdam_embeds_every_gallery_that_its_rows_allow(processor):
    encoder = BDAMEncoder(tiny_model(), processor)
    rows = [{"image": image, "identity_description": text} for image, text in zip(IMAGES, SENTENCES, strict=False)]
    alone = encoder.embed_images(encoder.prepare_images(rows, use_descriptions=False))
    assert set(alone) == {"image", "clothing"}
    described = encoder.embed_images(encoder.prepare_images(rows, use_descriptions=True))
    assert set(described) == {"image", "image+description", "description", "clothing"}
    rows[0]["identity_description"] = None
    partly = encoder.embed_images(encoder.prepare_images(rows, use_descriptions=True))
    assert set(partly) == {"image", "image+description", "clothing"}
    for embeddings in (described, partly):
        torch.testing.assert_close(embeddings["image"], alone["image"])
    # Without a description, the image alone counts.
    torch.testing.assert_close(partly["image+description"][0], alone["image"][0])
    torch.testing.assert_close(partly["image+description"][1], described["image+description"][1])


def test_what_does_not_embed_both_is_refused(processor, tmp_path):
    BertModel(BertConfig(**TEXT)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(bert\) is no dual encoder: it must embed images and sentences alike"):
        load_encoder(str(tmp_path))
