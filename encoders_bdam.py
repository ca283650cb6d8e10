# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The two encoders of a BDAM model: loading pretrained ones, and fitting them in."""

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, ViTModel


def load_encoder(name_or_path: str, kind: str) -> PreTrainedModel:
    """A pretrained encoder, or the `kind` half ("vision" or "text") of a pretrained dual encoder."""
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No {kind} encoder at {name_or_path!r}: it is neither a folder with a config.json nor a model on the Hub."
        ) from error
    config = getattr(config, f"{kind}_config", config)
    telltale = {"vision": "patch_size", "text": "vocab_size"}[kind]
    if not hasattr(config, telltale):
        raise ValueError(
            f"{name_or_path!r} ({config.model_type}) is no {kind} encoder: its config has no `{telltale}`."
        )
    if type(config) not in AutoModel._model_mapping:
        raise ValueError(
            f"{name_or_path!r} cannot be the {kind} encoder: `AutoModel` knows no model of type {config.model_type!r}."
        )
    encoder, loading = AutoModel.from_pretrained(name_or_path, config=config, output_loading_info=True)
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key.split("."))  # a pooler is not used
    if missing:
        raise ValueError(
            f"{name_or_path!r} lacks {len(missing)} weights of its {kind} encoder ({config.model_type}), such as "
            f"{missing[0]}: save that encoder by itself, and give its folder."
        )
    return encoder


def share_config(encoder: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedConfig:
    """
    Returns the config object that the layers of the encoder hold, so that a switch of the attention implementation
    reaches them. Being put into a `BDAMConfig` erased its implementation, and a layer without one runs eager.
    """
    requested = config._attn_implementation or encoder.config._attn_implementation
    encoder.config._attn_implementation = encoder.get_correct_attn_implementation(requested)
    return encoder.config


def use_last_hidden_state_only(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drops or freezes what does not lead to `last_hidden_state`: gradients never reach it, which DDP refuses."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    unused = {"head", "mask_token"}
    if encoder.config.model_type == "clip_vision_model":
        unused.add("post_layernorm")
    for name, parameter in encoder.named_parameters():
        if unused & set(name.split(".")):
            parameter.requires_grad_(False)
    return encoder


def resize_vit(encoder: ViTModel, image_size: int | tuple[int, int]) -> PreTrainedModel:
    """The same ViT for images of another size, its position embeddings interpolated to the new grid of patches."""
    height, width = as_pair(image_size)
    config = type(encoder.config).from_dict({**encoder.config.to_dict(), "image_size": [height, width]})
    resized = AutoModel.from_config(config, dtype=encoder.dtype)
    with torch.no_grad():
        positions = torch.zeros_like(resized.embeddings.position_embeddings)
        positions = encoder.embeddings.interpolate_pos_encoding(positions, height, width)
    state_dict = {**encoder.state_dict(), "embeddings.position_embeddings": positions}
    resized.load_state_dict(state_dict)
    return resized


def as_pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
