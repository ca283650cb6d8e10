"""Models small enough for tests, of the real parts."""

from pathlib import Path

import torch
import transformers

from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel


SENTENCES = [
    "A tall man with grey hair.",
    "A young woman who wears glasses.",
    "She carries a blue handbag.",
    "He walks by in a red coat and black boots.",
]
COLOURS = ("red", "navy", "white", "black", "green", "orange")
VISION = {
    "model_type": "vit",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": [32, 16],
    "patch_size": 8,
}
TEXT = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 120,
    "max_position_embeddings": 32,
}
SIZES = {
    "num_branch_layers": 2,
    "num_branch_heads": 2,
    "branch_intermediate_size": 64,
    "fusion_hidden_size": 16,
    "projection_dim": 12,
}
# What the classes of dual encoders in transformers begin with.
DUAL_ENCODERS = (
    "CLIP",
    "Siglip",
    "Siglip2",
    "MetaClip2",
    "ChineseCLIP",
    "AltCLIP",
    "Aimv2",
    "VisionTextDualEncoder",
)

# Overrides that make a run of `recipes/demo.yaml` small enough for tests.
TINY_RUN = [
    "image_size=[32, 16]",
    "vision_encoder.hidden_sizes=[8, 32]",
    "vision_encoder.depths=[1, 1]",
    "text_encoder.hidden_size=32",
    "model.fusion_hidden_size=16",
    "persons_per_batch=4",
]
# Besides, a ViT in place of its convolutions.
TINY_VIT = (
    "vision_encoder={model_type: vit, patch_size: 8, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 48}"
)


def tiny_config(**changes) -> BDAMConfig:
    return BDAMConfig(**{"vision_config": VISION, "text_config": TEXT, **SIZES, **changes})


def tiny_model(seed: int = 0, **changes) -> BDAMModel:
    """A model with random weights everywhere, so that no path hides behind an initial zero."""
    torch.manual_seed(seed)
    model = BDAMModel(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def tiny_batch(seed: int = 0, batch_size: int = 4) -> dict[str, torch.Tensor]:
    """Images and texts for `tiny_model`: two per person, one without description, texts of unequal length."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> torch.Tensor:
        return torch.randint(5, TEXT["vocab_size"], (batch_size, length), generator=generator)

    identity_attention_mask = torch.ones(batch_size, 6, dtype=torch.long)
    identity_attention_mask[0, 4:] = 0
    identity_attention_mask[1] = 0
    return {
        "pixel_values": torch.randn(batch_size, 3, *VISION["image_size"], generator=generator),
        "input_ids": tokens(7),
        "attention_mask": torch.ones(batch_size, 7, dtype=torch.long),
        "identity_input_ids": tokens(6),
        "identity_attention_mask": identity_attention_mask,
        "clothing_input_ids": tokens(5),
        "clothing_attention_mask": torch.ones(batch_size, 5, dtype=torch.long),
        "person_ids": torch.arange(batch_size) // 2,
    }


def tiny_dual_encoder(name: str, eos_token_id: int = TEXT["vocab_size"] - 1) -> transformers.PreTrainedModel:
    """A dual encoder of transformers with random weights, by its name in `DUAL_ENCODERS`."""
    vision, text = {**VISION, "image_size": 32}, {**TEXT, "hidden_size": 32, "eos_token_id": eos_token_id}
    config_class = getattr(transformers, f"{name}Config")
    if name == "VisionTextDualEncoder":
        parts = transformers.ViTConfig(**vision), transformers.BertConfig(**text)
        config = config_class.from_vision_text_configs(*parts, projection_dim=8)
    elif name in ("Siglip", "Siglip2"):
        vision.update({"num_patches": 16} if name == "Siglip2" else {})
        config = config_class(vision_config=vision, text_config={**text, "projection_size": 32})
    else:
        text.update({"project_dim": 40, "pad_token_id": 1} if name == "AltCLIP" else {})
        config = config_class(vision_config=vision, text_config=text, projection_dim=24)
    torch.manual_seed(0)
    return getattr(transformers, f"{name}Model")(config).eval()


def save_dual_encoder(name: str, tokenizer, folder: Path) -> transformers.PreTrainedModel:
    """A [`tiny_dual_encoder`], and in the folder it and its processor."""
    model = tiny_dual_encoder(name, tokenizer.sep_token_id)
    family = "CLIP" if name == "MetaClip2" else name
    image_class = getattr(transformers, f"{'ViT' if name == 'VisionTextDualEncoder' else family}ImageProcessorPil")
    images = image_class(size={"height": 32, "width": 32}, **({"do_center_crop": False} if family == "CLIP" else {}))
    model.save_pretrained(folder)
    getattr(transformers, f"{family}Processor")(images, tokenizer).save_pretrained(folder)
    return model
