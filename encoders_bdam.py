# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The two encoders of a BDAM model: any image or text encoder of transformers, or of timm through transformers."""

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)


try:
    from .configuration_bdam import check_image_size
except ImportError:  # imported as the top-level module `encoders_bdam`, not as Hub remote code
    from configuration_bdam import check_image_size


# [CLS] and register tokens that an encoder may put before those of the patches.
MAX_PREFIX_TOKENS = 32


@dataclass(frozen=True)
class EncoderOutline:
    """
    What an encoder returns for one image or text.

    Args:
        hidden_size: width of its tokens.
        pooled_size: width of its own pooled vector; None if it has none.
        num_prefix_tokens: [CLS] and register tokens before those of the patches; 0 for texts.
        num_tokens: tokens of an image without the prefix.
        unused: parameters that lead neither to the tokens nor, if it is used, to the pooled vector.
    """

    hidden_size: int
    pooled_size: int | None
    num_prefix_tokens: int
    num_tokens: int
    unused: tuple[str, ...]


# Building and loading


def encoder_class(config: PreTrainedConfig, kind: str) -> type[PreTrainedModel]:
    """
    The class of transformers that encodes images or texts by a config, be it the half of a dual encoder.

    Raises:
        ValueError: if there is none.
    """
    mappings = (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING) if kind == "text" else (MODEL_MAPPING,)
    for mapping in mappings:
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    found = getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)
    if found is None:
        raise ValueError(f"transformers has no {kind} encoder of type {config.model_type!r}.")
    return found


def build_encoder(config: PreTrainedConfig, kind: str) -> PreTrainedModel:
    """An encoder with random weights."""
    return encoder_class(config, kind)._from_config(config)


def load_encoder(name_or_path: str, kind: str, image_size: tuple[int, int] | None = None) -> PreTrainedModel:
    """
    A pretrained encoder, or the `kind` half ("vision" or "text") of a pretrained dual encoder.

    Args:
        image_size: height and width of the images to come, to which position embeddings are moved where the encoder
            cannot do so as it runs.

    Raises:
        ValueError: if there is no such encoder, or it does not come with all its weights.
    """
    config = _load_config(name_or_path, kind)
    if getattr(config, f"{kind}_config", None) is not None and hasattr(config, f"{_other(kind)}_config"):
        encoder = getattr(load_dual_encoder(name_or_path), f"{kind}_model")
        return _resized(encoder, kind, image_size)
    telltale = {"vision": "vocab_size", "text": "num_channels"}[kind]
    if hasattr(config, telltale) or (kind == "text" and not hasattr(config, "vocab_size")):
        raise ValueError(f"{name_or_path!r} ({config.model_type}) is no {kind} encoder.")
    cls: Any = encoder_class(config, kind)
    encoder, loading = cls.from_pretrained(name_or_path, output_loading_info=True)
    _check_weights(name_or_path, f"{kind} encoder", encoder, loading)
    return _resized(encoder, kind, image_size)


def _resized(encoder: PreTrainedModel, kind: str, image_size: tuple[int, int] | None) -> PreTrainedModel:
    return resize_encoder(encoder, image_size) if kind == "vision" and image_size is not None else encoder


def load_dual_encoder(name_or_path: str) -> Any:
    """
    A pretrained dual encoder with its halves, `vision_model` and `text_model`.

    Raises:
        ValueError: if it is none, or does not come with all its weights.
    """
    config = _load_config(name_or_path, "dual")
    if type(config) not in MODEL_MAPPING or not hasattr(config, "vision_config") or not hasattr(config, "text_config"):
        raise ValueError(f"{name_or_path!r} ({config.model_type}) is no dual encoder of images and texts.")
    auto: Any = AutoModel
    dual, loading = auto.from_pretrained(name_or_path, output_loading_info=True)
    if not hasattr(dual, "vision_model") or not hasattr(dual, "text_model"):
        raise ValueError(f"{name_or_path!r} ({config.model_type}) has no `vision_model` and `text_model`.")
    _check_weights(name_or_path, "dual encoder", dual, loading)
    return dual


def dual_projections(dual: Any) -> tuple[nn.Linear, nn.Linear]:
    """The maps of a dual encoder from its pooled vectors to one space, the identity where it has none."""
    vision = outline_encoder(dual.vision_model, "vision", uses_pooled=True)
    text = outline_encoder(dual.text_model, "text", uses_pooled=True)
    sizes = [outline.pooled_size or outline.hidden_size for outline in (vision, text)]
    projections = [getattr(dual, name, None) for name in ("visual_projection", "text_projection")]
    weights = [torch.eye(size) if own is None else own.weight for size, own in zip(sizes, projections, strict=True)]
    if len(weights[0]) != len(weights[1]):
        raise ValueError(
            f"A dual encoder of type {dual.config.model_type!r} without projections: its images have "
            f"{len(weights[0])} dimensions, its texts {len(weights[1])}."
        )
    return _linear(weights[0], projections[0]), _linear(weights[1], projections[1])


def dual_temperature(dual: Any) -> float:
    """What the cosines of a dual encoder are divided by."""
    scale = getattr(dual, "logit_scale", None)
    return (dual.temperature if scale is None else (-scale).exp()).detach().item()


def _linear(weight: torch.Tensor, own: nn.Linear | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    bias = getattr(own, "bias", None)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.zero_() if bias is None else linear.bias.copy_(bias)
    return linear


def resize_encoder(encoder: PreTrainedModel, image_size: int | tuple[int, int]) -> PreTrainedModel:
    """
    The encoder for images of another size. The position embeddings of a ViT are interpolated to the new grid of
    patches once; an encoder whose grid is square by construction, as CLIP's, interpolates them whenever it runs.

    Raises:
        ValueError: if the encoder does not take images of that size, or no patch fits into them.
    """
    check_image_size(encoder.config, image_size)
    height, width = as_pair(image_size)
    embeddings = getattr(encoder, "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    if not hasattr(encoder.config, "image_size"):
        encoder.config.image_size = [height, width]
    if not isinstance(positions, nn.Parameter) or not _takes(encoder, "interpolate_pos_encoding"):
        outline_encoder(encoder, "vision", uses_pooled=False, image_size=(height, width))
        return encoder
    config = type(encoder.config).from_dict({**encoder.config.to_dict(), "image_size": [height, width]})
    resized = type(encoder)._from_config(config, dtype=encoder.dtype)
    with torch.no_grad():
        grid = torch.zeros_like(resized.embeddings.position_embeddings)
        moved = embeddings.interpolate_pos_encoding(grid, height, width)
    resized.load_state_dict({**encoder.state_dict(), "embeddings.position_embeddings": moved})
    return resized


def _load_config(name_or_path: str, kind: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No {kind} encoder at {name_or_path!r}: it is neither a folder with a config.json nor a model on the Hub."
        ) from error


def _check_weights(name_or_path: str, what: str, encoder: PreTrainedModel, loading: dict) -> None:
    """Weights that are missing would be random, and transformers only warns. A pooler that is missing is not used."""
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key.split("."))
    if missing:
        raise ValueError(
            f"{name_or_path!r} lacks {len(missing)} weights of its {what} ({encoder.config.model_type}), such as "
            f"{missing[0]}: save that encoder by itself, and give its folder."
        )


# Running


def run_image_encoder(encoder: PreTrainedModel, pixel_values: torch.Tensor, **kwargs):
    """
    The encoder's own output for images (B, C, H, W). Position embeddings are interpolated where the size is not the
    encoder's own; an encoder of patches in any number (NaFlex) gets all patches of the images.
    """
    if _takes(encoder, "spatial_shapes"):
        kwargs |= _flatten_patches(pixel_values, encoder.config.patch_size)
    else:
        kwargs["pixel_values"] = pixel_values
        is_own_size = tuple(pixel_values.shape[-2:]) == as_pair(getattr(encoder.config, "image_size", None) or 0)
        if not is_own_size and _takes(encoder, "interpolate_pos_encoding"):
            kwargs["interpolate_pos_encoding"] = True
    return encoder(**kwargs, return_dict=True)


def run_text_encoder(encoder: PreTrainedModel, input_ids: torch.Tensor, **kwargs):
    """The encoder's own output for texts (B, L); what it does not take, such as `token_type_ids`, is left out."""
    return encoder(input_ids=input_ids, **{k: v for k, v in kwargs.items() if _takes(encoder, k)}, return_dict=True)


def as_sequence(states: torch.Tensor, hidden_size: int) -> torch.Tensor:
    """Tokens (B, L, D) of an encoder's output: a sequence as it is, a feature map row by row."""
    if states.ndim == 3:
        return states
    if states.shape[1] == hidden_size:
        return states.flatten(2).transpose(1, 2)
    return states.flatten(1, 2)


def pooled_vector(outputs, tokens: torch.Tensor) -> torch.Tensor:
    """The encoder's own vector (B, D) for a whole image or text: what it pools, or else its first token."""
    pooled = getattr(outputs, "pooler_output", None)
    return tokens[:, 0] if pooled is None else pooled.flatten(1)


def outline_encoder(
    encoder: Any, kind: str, uses_pooled: bool, image_size: tuple[int, int] | None = None
) -> EncoderOutline:
    """
    Finds what an encoder returns by running a copy of it without weights, or with random ones where that cannot be.

    Args:
        kind: `"vision"` or `"text"`.
        uses_pooled: whether its own pooled vector is used beside its tokens.
        image_size: height and width of the images; by default those of its config.

    Raises:
        ValueError: if it does not take images of that size, or its tokens are no patches of them.
    """
    config = copy.deepcopy(encoder.config)
    if kind == "vision":
        image_size = image_size or as_pair(getattr(config, "image_size", None) or 224)
    try:
        with torch.device("meta"), torch.enable_grad():
            return _outline(type(encoder), config, image_size, uses_pooled)
    except (NotImplementedError, RuntimeError):  # operators that read values
        with torch.random.fork_rng(), torch.device("cpu"), torch.enable_grad():
            try:
                return _outline(type(encoder), config, image_size, uses_pooled)
            except RuntimeError as error:
                raise ValueError(
                    f"The {kind} encoder ({config.model_type}) does not take what it is given, images of {image_size} "
                    f"(height, width): {error}"
                ) from error


def _outline(
    encoder_class: Any, config: PreTrainedConfig, image_size: tuple[int, int] | None, uses_pooled: bool
) -> EncoderOutline:
    encoder = encoder_class._from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    if image_size is None:
        outputs = run_text_encoder(encoder, torch.zeros(1, 8, dtype=torch.long))
    else:
        pixel_values = torch.empty(1, getattr(config, "num_channels", 3), *image_size, dtype=torch.float32)
        outputs = run_image_encoder(encoder, pixel_values)
    states, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
    pooled_size = None if pooled is None else pooled.flatten(1).shape[1]
    is_channels_last = states.ndim == 4 and states.shape[3] == pooled_size != states.shape[1]
    hidden_size = states.shape[1] if states.ndim == 4 and not is_channels_last else states.shape[-1]
    tokens = as_sequence(states, hidden_size)
    has_prefix = image_size is not None and states.ndim == 3
    prefix = _num_prefix_tokens(tokens.shape[1], *image_size) if has_prefix else 0
    reached = tokens[:, prefix:].sum() + (pooled.sum() if uses_pooled and pooled is not None else 0)
    reached.backward()
    unused = tuple(name for name, parameter in encoder.named_parameters() if parameter.grad is None)
    return EncoderOutline(hidden_size, pooled_size, prefix, tokens.shape[1] - prefix, unused)


def _num_prefix_tokens(num_tokens: int, height: int, width: int) -> int:
    """The fewest tokens before the patches, so that the others fill a grid of square patches over the image."""
    for prefix in range(min(MAX_PREFIX_TOKENS, num_tokens)):
        if any(rows * columns == num_tokens - prefix for rows, columns in _grids(height, width)):
            return prefix
    raise ValueError(f"{num_tokens} tokens fill no grid of patches over images of {height} x {width}.")


def _grids(height: int, width: int) -> Iterator[tuple[int, int]]:
    for stride in range(1, min(height, width) + 1):
        yield height // stride, width // stride
        yield -(-height // stride), -(-width // stride)


def _flatten_patches(pixel_values: torch.Tensor, size: int) -> dict[str, torch.Tensor]:
    patches = pixel_values.unfold(2, size, size).unfold(3, size, size)
    batch_size, _, rows, columns = patches.shape[:4]
    return {
        "pixel_values": patches.permute(0, 2, 3, 4, 5, 1).reshape(batch_size, rows * columns, -1),
        "pixel_attention_mask": torch.ones(batch_size, rows * columns, dtype=torch.long, device=patches.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * batch_size, device=patches.device),
    }


def _takes(encoder: PreTrainedModel, name: str) -> bool:
    parameters = inspect.signature(encoder.forward).parameters
    return name in parameters


def _other(kind: str) -> str:
    return {"vision": "text", "text": "vision"}[kind]


# Fitting in


def share_config(encoder: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedConfig:
    """
    Returns the config object that the layers of the encoder hold, so that a switch of the attention implementation
    reaches them. Being put into a `BDAMConfig` erased its implementation, and a layer without one runs eager.
    """
    requested = config._attn_implementation or encoder.config._attn_implementation
    encoder.config._attn_implementation = encoder.get_correct_attn_implementation(requested)
    return encoder.config


def freeze_unused(encoder: PreTrainedModel, outline: EncoderOutline, uses_pooled: bool) -> PreTrainedModel:
    """Drops the pooler or freezes what leads nowhere: gradients never reach it, which DDP refuses."""
    if not uses_pooled and isinstance(getattr(encoder, "pooler", None), nn.Module):
        encoder.pooler = None
    for name, parameter in encoder.named_parameters():
        if name in outline.unused:
            parameter.requires_grad_(False)
    return encoder


def as_pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
