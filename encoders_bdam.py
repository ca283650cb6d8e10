# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The two encoders of a BDAM model: any image or text encoder of transformers, or of timm through transformers."""

import copy
import inspect
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput


try:
    from .configuration_bdam import check_image_size
except ImportError:  # imported as the top-level module `encoders_bdam`, not as Hub remote code
    from configuration_bdam import check_image_size


if not torch.cuda.is_available():  # transformers advises its kernels for GPUs, on a CPU, too
    logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)


# [CLS] and register tokens that an encoder may put before those of the patches.
MAX_PREFIX_TOKENS = 32
# Height and width of the images of an encoder that names none.
DEFAULT_IMAGE_SIZE = 224
# The last part of the name of a table of position embeddings.
POSITION_TABLE = re.compile("position|^wpe$")


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
        is_feature_map: whether its tokens are those of a convolutional feature map, which takes images of any size.
    """

    hidden_size: int
    pooled_size: int | None
    num_prefix_tokens: int
    num_tokens: int
    unused: tuple[str, ...]
    is_feature_map: bool


@dataclass(frozen=True)
class DualEncoder:
    """
    A pretrained dual encoder, in parts.

    Args:
        vision_model, text_model: its halves.
        image_projection, text_projection: from the pooled vectors of each half to the space they share.
        text_pooling: which vector of a text is projected, as in `BDAMConfig`: `"pooler"` or `"cls"`.
        temperature: what its cosines are divided by.
    """

    vision_model: PreTrainedModel
    text_model: PreTrainedModel
    image_projection: nn.Linear
    text_projection: nn.Linear
    text_pooling: str
    temperature: float


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


def load_encoder(
    name_or_path: str, kind: str, uses_pooled: bool = False, image_size: int | tuple[int, int] | None = None
) -> PreTrainedModel:
    """
    A pretrained encoder, or the `kind` half ("vision" or "text") of a pretrained dual encoder.

    Args:
        uses_pooled: whether its own pooled vector is used beside its tokens, or in place of them.
        image_size: see [`resize_encoder`].

    Raises:
        ValueError: if there is no such encoder, or it lacks weights that lead to what is used of it.
    """
    config = _load_config(name_or_path, kind)
    if getattr(config, f"{kind}_config", None) is not None and hasattr(config, f"{_other(kind)}_config"):
        encoder = getattr(_load_halves(name_or_path), f"{kind}_model")
        with torch.device("meta"):  # as it is built when it is read again
            whole = build_encoder(copy.deepcopy(encoder.config), kind)
        missing = whole.state_dict().keys() - encoder.state_dict().keys()
    else:
        telltale = {"vision": "vocab_size", "text": "num_channels"}[kind]
        if hasattr(config, telltale) or (kind == "text" and not hasattr(config, "vocab_size")):
            raise ValueError(f"{name_or_path!r} ({config.model_type}) is no {kind} encoder.")
        cls: Any = encoder_class(config, kind)
        encoder, loading = cls.from_pretrained(name_or_path, dtype=torch.float32, output_loading_info=True)
        missing = loading["missing_keys"]
    if missing:
        missing -= set(outline_encoder(encoder, kind, uses_pooled).unused)
        _check_weights(name_or_path, f"{kind} encoder ({encoder.config.model_type})", missing)
    return resize_encoder(encoder, image_size) if kind == "vision" else encoder


@torch.no_grad()
def load_dual_encoder(name_or_path: str, image_size: int | tuple[int, int] | None = None) -> DualEncoder:
    """
    A pretrained dual encoder, such as CLIP or SigLIP, for images of a size, see [`resize_encoder`].

    Raises:
        ValueError: if it is none, lacks weights, or compares other vectors than projections of what its halves pool.
    """
    dual = _load_halves(name_or_path)
    pixel_values = torch.zeros(1, getattr(dual.vision_model.config, "num_channels", 3), *_own_size(dual.vision_model))
    input_ids = torch.arange(8)[None]
    image_features = dual.get_image_features(**_image_inputs(dual.vision_model, pixel_values)).pooler_output
    text_features = dual.get_text_features(input_ids=input_ids).pooler_output
    if image_features.shape != text_features.shape:
        raise ValueError(
            f"{name_or_path!r} ({dual.config.model_type}) has no space of images and texts: its images have "
            f"{image_features.shape[1]} dimensions, its texts {text_features.shape[1]}."
        )
    image = encode_images(dual.vision_model, pixel_values)
    text = dual.text_model(input_ids=input_ids, return_dict=True)
    image_vectors = {"pooler": image.pooler_output}
    text_vectors = {"pooler": getattr(text, "pooler_output", None), "cls": text.last_hidden_state[:, 0]}
    _, image_projection = _find_projection(dual, "visual_projection", image_vectors, image_features)
    text_pooling, text_projection = _find_projection(dual, "text_projection", text_vectors, text_features)
    scale = getattr(dual, "logit_scale", None)
    temperature = float(dual.temperature if scale is None else (-scale).exp())
    vision_model = resize_encoder(dual.vision_model, image_size)
    return DualEncoder(vision_model, dual.text_model, image_projection, text_projection, text_pooling, temperature)


def _load_halves(name_or_path: str) -> Any:
    """A dual encoder of transformers with its weights and two halves, `vision_model` and `text_model`."""
    config = _load_config(name_or_path, "dual")
    if type(config) not in MODEL_MAPPING or not hasattr(config, "vision_config") or not hasattr(config, "text_config"):
        raise ValueError(f"{name_or_path!r} ({config.model_type}) is no dual encoder of images and texts.")
    auto: Any = AutoModel
    dual, loading = auto.from_pretrained(name_or_path, dtype=torch.float32, output_loading_info=True)
    halves = [getattr(dual, f"{kind}_model", None) for kind in ("vision", "text")]
    if not hasattr(dual, "get_image_features") or not all(isinstance(half, PreTrainedModel) for half in halves):
        raise ValueError(f"{name_or_path!r} ({config.model_type}) has no `vision_model` and `text_model` to take.")
    _check_weights(name_or_path, f"dual encoder ({config.model_type})", loading["missing_keys"])
    return dual


def _find_projection(
    dual: Any, name: str, vectors: dict[str, torch.Tensor], features: torch.Tensor
) -> tuple[str, nn.Linear]:
    """Which of the vectors (1, D) a dual encoder maps to its features (1, P), and how: the identity without a map."""
    own = getattr(dual, name, nn.Identity())
    for pooling, vector in vectors.items():
        if vector is not None and vector.shape[1] == getattr(own, "in_features", features.shape[1]):
            projection = _as_linear(own, vector.shape[1])
            if torch.allclose(projection(vector), features, atol=1e-5):
                return pooling, projection
    raise ValueError(f"Of a dual encoder of type {dual.config.model_type!r}, no vector passes its `{name}` alone.")


def _as_linear(own: nn.Module, size: int) -> nn.Linear:
    weight = getattr(own, "weight", torch.eye(size))
    bias = getattr(own, "bias", None)
    linear = nn.Linear(size, len(weight))
    linear.weight.copy_(weight)
    linear.bias.zero_() if bias is None else linear.bias.copy_(bias)
    return linear


def resize_encoder(encoder: PreTrainedModel, image_size: int | tuple[int, int] | None) -> PreTrainedModel:
    """
    The encoder for images of another size; the same if none is given. The position embeddings of a ViT are
    interpolated to the new grid of patches once; an encoder whose grid is square by construction, as CLIP's,
    interpolates them whenever it runs.

    Raises:
        ValueError: if the encoder does not take images of that size, or no patch fits into them.
    """
    check_image_size(encoder.config, image_size)
    if image_size is None:
        return encoder
    height, width = as_pair(image_size)
    embeddings = getattr(encoder, "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    if not isinstance(positions, nn.Parameter) or not _takes(encoder, "interpolate_pos_encoding"):
        outline = outline_encoder(encoder, "vision", uses_pooled=False, image_size=(height, width))
        if outline.is_feature_map or not hasattr(encoder.config, "image_size"):
            encoder.config.image_size = [height, width]
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


def _check_weights(name_or_path: str, what: str, missing: set[str]) -> None:
    """Weights that are missing would be random, and transformers only warns."""
    if missing:
        raise ValueError(f"{name_or_path!r} lacks {len(missing)} weights of its {what}, such as {min(missing)}.")


# Running


def encode_images(
    encoder: PreTrainedModel, pixel_values: torch.Tensor, hidden_size: int | None = None, **kwargs
) -> BaseModelOutputWithPooling:
    """
    What an encoder returns for images (B, C, H, W): tokens (B, L, D), a feature map row by row, and its own vector for
    the whole image (B, D) or, if it has none, its first token. Position embeddings are interpolated where the size is
    not the encoder's own; an encoder of patches in any number (NaFlex) gets all patches of the images.

    Args:
        hidden_size: D, which tells how a feature map lies; by default as most do, (B, D, H, W).

    Raises:
        ValueError: if the encoder takes images of one size only, and these have another.
    """
    image_size, own_size = tuple(pixel_values.shape[-2:]), as_pair(getattr(encoder.config, "image_size", None) or 0)
    if image_size != own_size and own_size[0] != own_size[1]:
        raise ValueError(f"Images must be {own_size} (height, width) for this model, got {image_size}.")
    outputs = encoder(**_image_inputs(encoder, pixel_values), **kwargs, return_dict=True)
    states = outputs.last_hidden_state
    return _with_tokens(outputs, as_sequence(states, hidden_size or states.shape[1]))


def _image_inputs(encoder: PreTrainedModel, pixel_values: torch.Tensor) -> dict[str, Any]:
    if _takes(encoder, "spatial_shapes"):
        return _flatten_patches(pixel_values, encoder.config.patch_size)
    is_own_size = tuple(pixel_values.shape[-2:]) == as_pair(getattr(encoder.config, "image_size", None) or 0)
    interpolates = not is_own_size and _takes(encoder, "interpolate_pos_encoding")
    # On a CPU, convolutions are several times faster so.
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    return {"pixel_values": pixel_values, **({"interpolate_pos_encoding": True} if interpolates else {})}


def encode_texts(
    encoder: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    token_type_ids: torch.Tensor | None = None,
    **kwargs,
) -> BaseModelOutputWithPooling:
    """
    What an encoder returns for texts (B, L): tokens (B, L, D), and its own vector for the whole text (B, D) or, if it
    has none, its first token. A mask or types of tokens that it does not take are left out.
    """
    inputs = _text_inputs(encoder, attention_mask=attention_mask, token_type_ids=token_type_ids)
    outputs = encoder(input_ids=input_ids, **inputs, **kwargs, return_dict=True)
    return _with_tokens(outputs, outputs.last_hidden_state)


def text_capacity(text_model: nn.Module) -> int | None:
    """
    The largest number of tokens of a text encoder, including special ones; None without a limit, as for T5 and XLNet.

    Not all rows of a position table are for tokens: RoBERTa and similar models start after the row of the padding, and
    BART at an offset.
    """
    limits = [getattr(text_model.config, "max_position_embeddings", None)]
    for name, module in text_model.named_modules():
        weight = getattr(module, "weight", None)
        if POSITION_TABLE.search(name.rpartition(".")[2]) and weight is not None and weight.dim() == 2:
            padding = getattr(module, "padding_idx", None)
            limits.append(len(weight) - getattr(module, "offset", 0 if padding is None else padding + 1))
    return min((limit for limit in limits if limit and limit > 0), default=None)


def as_sequence(states: torch.Tensor, hidden_size: int) -> torch.Tensor:
    """Tokens (B, L, D) of an encoder's output: a sequence as it is, a feature map row by row."""
    if states.ndim == 3:
        return states
    if states.shape[1] == hidden_size:
        return states.flatten(2).transpose(1, 2)
    return states.flatten(1, 2)


def _with_tokens(outputs: ModelOutput, tokens: torch.Tensor) -> BaseModelOutputWithPooling:
    pooled = getattr(outputs, "pooler_output", None)
    return BaseModelOutputWithPooling(
        last_hidden_state=tokens,
        pooler_output=tokens[:, 0] if pooled is None else pooled.flatten(1),
        hidden_states=getattr(outputs, "hidden_states", None),
        attentions=getattr(outputs, "attentions", None),
    )


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
    _convolve_anywhere(sys.modules[type(encoder).__module__])
    if kind == "vision":
        image_size = image_size or _own_size(encoder)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        try:
            with torch.device("meta"):
                return _outline(type(encoder), config, image_size, uses_pooled)
        except RuntimeError:  # an operator that reads values, which there are none of
            pass
        try:
            with torch.device("cpu"):
                return _outline(type(encoder), config, image_size, uses_pooled)
        except RuntimeError as error:
            given = "texts" if image_size is None else f"images of {image_size} (height, width)"
            raise ValueError(
                f"The {kind} encoder ({config.model_type}) does not take what it is given, {given}: {error}"
            ) from error


def _outline(
    encoder_class: Any, config: PreTrainedConfig, image_size: tuple[int, int] | None, uses_pooled: bool
) -> EncoderOutline:
    encoder = encoder_class._from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    if image_size is None:
        input_ids = torch.zeros(1, 8, dtype=torch.long)
        outputs = encoder(input_ids=input_ids, **_text_inputs(encoder), return_dict=True)
    else:
        pixel_values = torch.empty(1, getattr(config, "num_channels", 3), *image_size, dtype=torch.float32)
        outputs = encoder(**_image_inputs(encoder, pixel_values), return_dict=True)
    if getattr(outputs, "mask", None) is not None:
        raise ValueError(f"The encoder ({config.model_type}) leaves out patches at random: load it as a plain ViT.")
    states, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
    pooled_size = None if pooled is None else pooled.flatten(1).shape[1]
    is_channels_last = states.ndim == 4 and states.shape[3] == pooled_size != states.shape[1]
    is_feature_map = states.ndim == 4 and not is_channels_last
    hidden_size = states.shape[1] if is_feature_map else states.shape[-1]
    tokens = as_sequence(states, hidden_size)
    has_prefix = image_size is not None and states.ndim == 3
    prefix = _num_prefix_tokens(tokens.shape[1], *image_size) if has_prefix else 0
    reached = tokens[:, prefix:].sum() + (pooled.sum() if uses_pooled and pooled is not None else 0)
    reached.backward()
    unused = tuple(name for name, parameter in encoder.named_parameters() if parameter.grad is None)
    return EncoderOutline(hidden_size, pooled_size, prefix, tokens.shape[1] - prefix, unused, is_feature_map)


def _convolve_anywhere(module: ModuleType) -> None:
    """
    Changes a module of transformers, such as that of LFM2, so that its causal convolutions run on any device. It calls
    the package causal_conv1d, if it is installed, or a kernel of the Hub, with `use_kernels=True`. Both take tensors
    on a GPU and filters of two to four taps only; torch now computes the others.
    """
    fused = getattr(module, "causal_conv1d_fn", None)
    if fused is not None and not isinstance(fused, partial):
        vars(module)["causal_conv1d_fn"] = partial(_convolve, fused)


def _convolve(fused, hidden_states, weight, bias=None, activation=None, **kwargs):
    if hidden_states.is_cuda and 2 <= weight.shape[1] <= 4:
        return fused(hidden_states, weight, bias, activation=activation, **kwargs)
    convolved = F.conv1d(hidden_states, weight[:, None], bias, padding=weight.shape[1] - 1, groups=len(weight))
    convolved = convolved[..., : hidden_states.shape[-1]]
    return convolved if activation is None else ACT2FN[activation](convolved)


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


def _own_size(encoder: PreTrainedModel) -> tuple[int, int]:
    return as_pair(getattr(encoder.config, "image_size", None) or DEFAULT_IMAGE_SIZE)


def _text_inputs(encoder: PreTrainedModel, **inputs: torch.Tensor | None) -> dict[str, Any]:
    """The inputs that the encoder takes, without those that are None. A decoder also gets `use_cache=False`."""
    given = {"use_cache": False, **inputs}
    return {name: value for name, value in given.items() if value is not None and _takes(encoder, name)}


def _takes(encoder: PreTrainedModel, name: str) -> bool:
    return name in inspect.signature(encoder.forward).parameters


def _other(kind: str) -> str:
    return {"vision": "text", "text": "vision"}[kind]


# Fitting in


def fit_encoder(encoder: PreTrainedModel, kind: str, config: PreTrainedConfig, uses_pooled: bool) -> EncoderOutline:
    """
    Makes an encoder part of a model of that config, and returns its outline. What leads nowhere is left out or frozen.

    The layers of an encoder hold its config: the model's becomes the same object, so that a switch of the attention
    implementation reaches them. Being put into a `BDAMConfig` erased its implementation, and a layer without one runs
    eager.

    Raises:
        ValueError: if the pooling of texts does not fit the encoder.
    """
    requested = getattr(config, f"{kind}_config")._attn_implementation or encoder.config._attn_implementation
    encoder.config._attn_implementation = encoder.get_correct_attn_implementation(requested)
    setattr(config, f"{kind}_config", encoder.config)
    outline = outline_encoder(encoder, kind, uses_pooled)
    if kind == "text":
        _check_text_pooling(encoder, outline, config.text_pooling)
    _freeze_unused(encoder, outline, uses_pooled)
    return outline


def _check_text_pooling(encoder: PreTrainedModel, outline: EncoderOutline, text_pooling: str) -> None:
    """
    Raises:
        ValueError: if the state of the first token is to stand for a text, and that token sees no other.
    """
    uses_first_token = text_pooling == "cls" or (text_pooling == "pooler" and outline.pooled_size is None)
    if uses_first_token and any(getattr(module, "is_causal", False) is True for module in encoder.modules()):
        raise ValueError(
            f"`text_pooling={text_pooling!r}` does not fit the causal text encoder {encoder.config.model_type!r}, "
            "whose first token sees no other: use `text_pooling='mean'`."
        )


def _freeze_unused(encoder: PreTrainedModel, outline: EncoderOutline, uses_pooled: bool) -> None:
    """Drops a pooler that may be left out, or freezes what leads nowhere: DDP waits for gradients of all the rest."""
    if not uses_pooled and "add_pooling_layer" in inspect.signature(type(encoder)).parameters:
        encoder.pooler = None
    for name, parameter in encoder.named_parameters():
        if name in outline.unused:
            parameter.requires_grad_(False)


def as_pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
