import pytest
from tiny import TEXT, tiny_config

from configuration_bdam import BDAMConfig


def test_the_defaults_are_the_papers():
    config = BDAMConfig()
    vision, text = config.vision_config, config.text_config
    assert (vision.model_type, vision.patch_size, vision.image_size, vision.hidden_size) == ("vit", 16, 224, 768)
    assert (text.model_type, text.hidden_size, text.num_hidden_layers) == ("bert", 768, 12)
    assert (config.num_mamba_layers, config.fusion_hidden_size) == (2, 256)
    assert (config.mamba_state_size, config.mamba_conv_kernel, config.dropout) == (16, 4, 0.1)


def test_a_config_survives_the_disk(tmp_path):
    config = tiny_config(fusion_mode="tokens", dropout=0, hsic_kernel="rbf")
    config.save_pretrained(tmp_path)
    assert BDAMConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "field, value",
    [
        ("num_branch_layers", -1),
        ("mamba_state_size", 0),
        ("projection_dim", 0),
        ("projection_dim", "256"),
        ("dropout", 2),
        ("temperature", 0.0),
        ("triplet_margin", -0.1),
        ("fusion_mode", "scan"),
        ("text_pooling", "max"),
        ("triplet_mining", "soft"),
        ("hsic_kernel", "cosine"),
        ("num_branch_heads", 5),
    ],
)
def test_nonsense_fails_at_construction_with_the_name_of_the_field(field, value):
    with pytest.raises(Exception, match=field):
        tiny_config(**{field: value})


def test_a_causal_text_encoder_is_not_pooled_at_its_first_token():
    with pytest.raises(Exception, match="text_pooling='mean'"):
        tiny_config(text_config={**TEXT, "model_type": "clip_text_model"})
