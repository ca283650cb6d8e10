"""Other dual encoders of transformers, seen by the evaluation as they see themselves."""

import pytest
import torch
import transformers
from PIL import Image
from tiny import SENTENCES, TEXT, VISION, tiny_model
from transformers import BertConfig, BertModel, ViTConfig
from transformers.models.vision_text_dual_encoder import VisionTextDualEncoderConfig

from bdam.evaluation.encoders import BDAMEncoder, load_encoder


SQUARE = {**VISION, "image_size": 32}
PICTURES = [Image.effect_noise((20, 40), 80).convert("RGB"), Image.new("RGB", (30, 30), "red")]


def build(name: str, config, processor):
    """A model with random weights, and a processor for it."""
    torch.manual_seed(0)
    image_processor = getattr(transformers, f"{'ViT' if name.startswith('Vision') else name}ImageProcessorPil")
    crop = {"do_center_crop": False} if name == "CLIP" else {}
    pictures = image_processor(size={"height": 32, "width": 32}, **crop)
    model = getattr(transformers, f"{name}Model")(config).eval()
    return model, getattr(transformers, f"{name}Processor")(pictures, processor.tokenizer)


@pytest.fixture(params=["CLIP", "Siglip", "VisionTextDualEncoder"])
def dual_encoder(request, processor, tmp_path):
    """A checkpoint, and the model that it was saved from."""
    text = {**TEXT, "hidden_size": 32}
    if request.param == "VisionTextDualEncoder":
        parts = ViTConfig(**SQUARE), BertConfig(**text)
        config = VisionTextDualEncoderConfig.from_vision_text_configs(*parts, projection_dim=8)
    else:
        config = getattr(transformers, f"{request.param}Config")(
            text_config={**text, "eos_token_id": processor.tokenizer.sep_token_id}, vision_config=SQUARE
        )
    model, processor = build(request.param, config, processor)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path, model


@torch.no_grad()
def test_a_dual_encoder_scores_as_it_does_by_itself(dual_encoder):
    folder, model = dual_encoder
    encoder = load_encoder(str(folder))
    pictures = encoder.prepare_pictures([{"image": picture} for picture in PICTURES], use_descriptions=True)
    sentences = encoder.prepare_sentences(SENTENCES)
    embeddings = [encoder.embed_pictures(pictures)["picture"], encoder.embed_sentences(sentences)["identity"]]
    assert all(torch.allclose(part.norm(dim=1), torch.ones(len(part))) for part in embeddings)
    logits = model(**pictures, **sentences).logits_per_image
    bias = getattr(model, "logit_bias", torch.zeros(1))
    torch.testing.assert_close(embeddings[0] @ embeddings[1].T * model.logit_scale.exp() + bias, logits)


def test_sentences_are_cut_and_padded_as_the_model_needs(dual_encoder):
    folder, model = dual_encoder
    encoder = load_encoder(str(folder))
    most = TEXT["max_position_embeddings"]
    assert encoder.prepare_sentences(["A tall man " * 50])["input_ids"].shape[1] == most
    short = encoder.prepare_sentences(["A man."])["input_ids"].shape[1]
    assert short == most if model.config.model_type == "siglip" else short < most


@torch.no_grad()
def test_bdam_embeds_every_gallery_that_its_rows_allow(processor):
    encoder = BDAMEncoder(tiny_model(), processor)
    rows = [
        {"image": picture, "identity_description": text} for picture, text in zip(PICTURES, SENTENCES, strict=False)
    ]
    alone = encoder.embed_pictures(encoder.prepare_pictures(rows, use_descriptions=False))
    assert set(alone) == {"picture", "clothing"}
    described = encoder.embed_pictures(encoder.prepare_pictures(rows, use_descriptions=True))
    assert set(described) == {"picture", "picture+description", "description", "clothing"}
    rows[0]["identity_description"] = None
    partly = encoder.embed_pictures(encoder.prepare_pictures(rows, use_descriptions=True))
    assert set(partly) == {"picture", "picture+description", "clothing"}
    for embeddings in (described, partly):
        torch.testing.assert_close(embeddings["picture"], alone["picture"])
    # Without a description, the picture alone counts.
    torch.testing.assert_close(partly["picture+description"][0], alone["picture"][0])
    torch.testing.assert_close(partly["picture+description"][1], described["picture+description"][1])


def test_what_does_not_embed_both_is_refused(processor, tmp_path):
    BertModel(BertConfig(**TEXT)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(bert\) is no dual encoder: it must embed pictures and sentences alike"):
        load_encoder(str(tmp_path))
