"""A model built from a dual encoder starts with that encoder's own similarities."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import DUAL_ENCODERS, VISION, tiny_batch, tiny_dual_encoder
from torch.nn.functional import normalize

from modeling_bdam import BDAMModel


SIZES = {"num_branch_layers": 1, "num_branch_heads": 2, "branch_intermediate_size": 48, "fusion_hidden_size": 16}


@pytest.fixture(params=DUAL_ENCODERS)
def dual(request, tmp_path) -> transformers.PreTrainedModel:
    """A dual encoder, saved to the test's folder."""
    model = tiny_dual_encoder(request.param)
    model.save_pretrained(tmp_path)
    return model


def own_image_features(dual, pixel_values: torch.Tensor) -> torch.Tensor:
    """What the dual encoder itself makes of images, its position embeddings interpolated."""
    name = type(dual).__name__
    if name == "Siglip2Model":
        height, width = (side // VISION["patch_size"] for side in pixel_values.shape[2:])
        patches = pixel_values.unflatten(3, (width, -1)).unflatten(2, (height, -1))  # B, 3, rows, P, columns, P
        outputs = dual.get_image_features(
            pixel_values=patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            pixel_attention_mask=torch.ones(len(patches), height * width, dtype=torch.long),
            spatial_shapes=torch.tensor([[height, width]] * len(patches)),
        )
    elif name == "Aimv2Model":
        outputs = dual.get_image_features(pixel_values)
    elif name == "VisionTextDualEncoderModel":
        outputs = dual.vision_model(pixel_values, interpolate_pos_encoding=True)
        return dual.visual_projection(outputs.pooler_output)
    else:
        outputs = dual.get_image_features(pixel_values, interpolate_pos_encoding=True)
    return outputs.pooler_output


@pytest.mark.parametrize("image_size", [(32, 32), (48, 16)], ids=str)
def test_the_start_has_the_similarities_of_the_dual_encoder(dual, image_size, tmp_path):
    if isinstance(dual, transformers.Aimv2Model) and image_size != (32, 32):
        with pytest.raises(ValueError, match=r"aimv2_vision_model\) does not take .* images of \(48, 16\)"):
            BDAMModel.from_dual_encoder_pretrained(tmp_path, image_size=image_size, **SIZES)
        return
    model = BDAMModel.from_dual_encoder_pretrained(tmp_path, image_size=image_size, **SIZES).eval()
    batch = {**tiny_batch(), "pixel_values": torch.randn(4, 3, *image_size)}
    batch["clothing_input_ids"] = batch["input_ids"]
    with torch.no_grad():
        image = normalize(own_image_features(dual, batch["pixel_values"]), dim=-1)
        text = normalize(dual.get_text_features(input_ids=batch["input_ids"]).pooler_output, dim=-1)
        outputs = model(**{key: batch[key] for key in ("pixel_values", "input_ids", "clothing_input_ids")})
        described = model(**batch)
    similarities = text @ image.T
    for of_text, of_image in (
        (outputs.text_embeds, outputs.image_embeds),
        (outputs.clothing_text_embeds, outputs.clothing_image_embeds),
        (described.text_embeds, described.image_embeds),
    ):
        torch.testing.assert_close(of_text @ of_image.T, similarities, rtol=0, atol=1e-6)
    assert model.config.temperature == pytest.approx(1 / dual.logit_scale.exp().item())
    expected = similarities * dual.logit_scale.exp()
    torch.testing.assert_close(outputs.logits_per_text, expected, rtol=0, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_the_model_reloads(dual, tmp_path):
    model = BDAMModel.from_dual_encoder_pretrained(tmp_path, **SIZES).train()
    batch = {**tiny_batch(), "pixel_values": torch.randn(4, 3, 32, 32)}
    batch["clothing_query_input_ids"] = batch["input_ids"]
    sum(model(**batch, return_loss=True).loss_dict.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    loaded, info = BDAMModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())
    outputs, again = (each.eval()(**batch) for each in (model, loaded))
    for name in ("image_embeds", "text_embeds", "clothing_image_embeds", "clothing_text_embeds"):
        assert torch.equal(again[name], outputs[name]), name


def test_texts_that_a_dual_encoder_pools_by_their_first_token_start_so(tmp_path):
    vision = {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 16}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    # Its images are not projected: they have 80 dimensions.
    config = transformers.AlignConfig(vision_config=vision, text_config=text, projection_dim=80)
    align = transformers.AlignModel(config).eval()
    align.save_pretrained(tmp_path)
    model = BDAMModel.from_dual_encoder_pretrained(tmp_path, **SIZES).eval()
    input_ids = tiny_batch()["input_ids"]
    assert model.config.text_pooling == "cls"
    expected = normalize(align.get_text_features(input_ids).pooler_output, dim=-1)
    torch.testing.assert_close(model.get_text_features(input_ids).pooler_output, expected)


def test_what_is_no_start_is_one_error(tmp_path):
    vision = transformers.ViTModel(transformers.ViTConfig(**VISION))
    vision.save_pretrained(tmp_path / "vision")
    with pytest.raises(ValueError, match=r"\(vit\) is no dual encoder of images and texts"):
        BDAMModel.from_dual_encoder_pretrained(tmp_path / "vision", **SIZES)

    config = tiny_dual_encoder("Siglip").config
    config.text_config.projection_size = 24
    transformers.SiglipModel(config).save_pretrained(tmp_path / "unequal")
    with pytest.raises(ValueError, match=r"\(siglip\) has no space .* images have 32 dimensions, its texts 24"):
        BDAMModel.from_dual_encoder_pretrained(tmp_path / "unequal", **SIZES)

    tiny_dual_encoder("CLIP").save_pretrained(tmp_path / "partial")
    weights = load_file(tmp_path / "partial" / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "partial" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of its dual encoder \(clip\), such as visual_projection"):
        BDAMModel.from_dual_encoder_pretrained(tmp_path / "partial", **SIZES)
