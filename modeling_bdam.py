# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""PyTorch BDAM model: who a person is, apart from what they wear."""

from collections.abc import Callable
from itertools import pairwise
from os import PathLike

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, is_kernels_available, logging


try:
    from .configuration_bdam import BDAMConfig
    from .encoders_bdam import (
        build_encoder,
        encode_images,
        encode_texts,
        fit_encoder,
        load_dual_encoder,
        load_encoder,
        text_capacity,
    )
    from .losses_bdam import TASKS, BDAMLossInputs, loss_features, losses
    from .mamba_bdam import BDAMMambaMixer
    from .outputs_bdam import BDAMImageOutput, BDAMOutput, BDAMTextOutput
except ImportError:  # imported as the top-level module `modeling_bdam`, not as Hub remote code
    from configuration_bdam import BDAMConfig
    from encoders_bdam import (
        build_encoder,
        encode_images,
        encode_texts,
        fit_encoder,
        load_dual_encoder,
        load_encoder,
        text_capacity,
    )
    from losses_bdam import TASKS, BDAMLossInputs, loss_features, losses
    from mamba_bdam import BDAMMambaMixer
    from outputs_bdam import BDAMImageOutput, BDAMOutput, BDAMTextOutput


logger = logging.get_logger(__name__)


# Attention


class BDAMIdentityLinear(nn.Linear):
    """A linear map that starts as the identity."""


class BDAMZeroLinear(nn.Linear):
    """A linear map that starts at zero: on a residual path, an update that is learned from nothing."""


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    attn_weights = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        attn_weights = attn_weights + attention_mask
    attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)
    attn_output = torch.matmul(attn_weights, value).transpose(1, 2).contiguous()
    return attn_output, attn_weights


class BDAMAttention(nn.Module):
    """Multi-head attention of one token sequence to another, or to itself."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.config = config
        self.head_dim = hidden_size // config.num_branch_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.o_proj = BDAMZeroLinear(hidden_size, hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Queries from `hidden_states` (B, L, D), keys and values from `context` (B, L', D), by default the same."""
        context = hidden_states if context is None else context
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attn_output, _ = attention_interface(
            self,
            self._split_heads(self.q_proj(hidden_states)),
            self._split_heads(self.k_proj(context)),
            self._split_heads(self.v_proj(context)),
            attention_mask=None,
            scaling=self.scaling,
            dropout=self.config.dropout if self.training else 0.0,
            **kwargs,
        )
        return self.o_proj(attn_output.reshape(hidden_states.shape))

    def _split_heads(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class BDAMMLP(nn.Module):
    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(hidden_size, config.branch_intermediate_size)
        self.fc2 = BDAMZeroLinear(config.branch_intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(hidden_states)))


# The bidirectional decoupled alignment module (§III-B)


class BDAMBranchLayer(GradientCheckpointingLayer):
    """One pre-norm self-attention layer of a branch."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.layer_norm1 = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.self_attn = BDAMAttention(config)
        self.layer_norm2 = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = BDAMMLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        hidden_states = hidden_states + self.dropout(self.self_attn(self.layer_norm1(hidden_states), **kwargs))
        return hidden_states + self.dropout(self.mlp(self.layer_norm2(hidden_states)))


class BDAMBranch(nn.Module):
    """Projection of the visual tokens into one stream, and its self-attention layers."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.projection = BDAMIdentityLinear(hidden_size, hidden_size)
        self.layers = nn.ModuleList([BDAMBranchLayer(config) for _ in range(config.num_branch_layers)])

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        hidden_states = self.projection(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states


class BDAMExchange(nn.Module):
    """Cross-attention from one stream to the other, with residual and norm."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.cross_attn = BDAMAttention(config) if config.use_cross_attention else None
        self.dropout = nn.Dropout(config.dropout)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, other_stream: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        if self.cross_attn is not None:
            hidden_states = hidden_states + self.dropout(self.cross_attn(hidden_states, other_stream, **kwargs))
        return self.layer_norm(hidden_states)


class BDAMPooling(nn.Module):
    """
    The tokens of a stream → its feature: their mean or, if `config.token_pooling` says so, a sum weighted by position
    and dimension that starts as the mean.
    """

    def __init__(self, config: BDAMConfig):
        super().__init__()
        self.weight = None
        if config.token_pooling == "weighted":
            self.weight = nn.Parameter(torch.zeros(config.num_image_tokens, config.vision_hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean = hidden_states.mean(dim=1)
        return mean if self.weight is None else mean + (self.weight * hidden_states).sum(dim=1)


class BDAMGate(nn.Module):
    """The disentanglement gate `g = σ(Linear([f̂_id; f̂_clo]))`, one weight per dimension."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        hidden_size = config.vision_hidden_size
        self.projection = BDAMZeroLinear(2 * hidden_size, hidden_size) if config.use_gate else None

    def forward(self, identity: torch.Tensor, clothing: torch.Tensor) -> torch.Tensor:
        if self.projection is None:
            return torch.full_like(identity, 0.5)
        return torch.sigmoid(self.projection(torch.cat([identity, clothing], dim=-1)))


class BDAMDecoupler(nn.Module):
    """
    The bidirectional decoupled alignment module (§III-B): visual tokens in, an identity and a clothing feature out.

    It is initialised so that it starts as the plain encoder: the projections are the identity, every residual update
    is zero and the gate is ½.
    """

    def __init__(self, config: BDAMConfig):
        super().__init__()
        self.identity_branch = BDAMBranch(config)
        self.clothing_branch = BDAMBranch(config)
        self.identity_exchange = BDAMExchange(config)
        self.clothing_exchange = BDAMExchange(config)
        self.identity_pooling = BDAMPooling(config)
        self.clothing_pooling = BDAMPooling(config)
        self.gate = BDAMGate(config)
        if config.use_pooled_image:
            self.identity_update = BDAMZeroLinear(config.vision_hidden_size, config.vision_hidden_size)
            self.clothing_update = BDAMZeroLinear(config.vision_hidden_size, config.vision_hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        pooled: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BDAMImageOutput:
        """Tokens (B, N, D) of an image and, with `use_pooled_image`, the encoder's own vector (B, D) for it."""
        identity_tokens = self.identity_branch(hidden_states, **kwargs)
        clothing_tokens = self.clothing_branch(hidden_states, **kwargs)
        identity_tokens, clothing_tokens = (
            self.identity_exchange(identity_tokens, clothing_tokens, **kwargs),
            self.clothing_exchange(clothing_tokens, identity_tokens, **kwargs),
        )
        pooled_identity = self.identity_pooling(identity_tokens)
        pooled_clothing = self.clothing_pooling(clothing_tokens)
        if pooled is not None:
            pooled_identity = pooled + self.identity_update(pooled_identity)
            pooled_clothing = pooled + self.clothing_update(pooled_clothing)
        gate = self.gate(pooled_identity, pooled_clothing)
        return BDAMImageOutput(
            identity_tokens=gate[:, None] * identity_tokens,
            identity_features=gate * pooled_identity,
            clothing_features=(1 - gate) * pooled_clothing,
            pooled_clothing=pooled_clothing,
            gate=gate,
        )


# Descriptions (§III-C) and their fusion with the image (§III-D)


def masked_mean(hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that `attention_mask` (B, L) keeps: (B, L, D) → (B, D), zero where it keeps none."""
    weights = attention_mask[:, :, None].to(hidden_states.dtype)
    return (hidden_states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class BDAMAlignment(nn.Module):
    """The dimensional alignment before fusion: an FFN from one modality's width to the fusion width."""

    def __init__(self, config: BDAMConfig, input_size: int):
        super().__init__()
        hidden_size = config.fusion_hidden_size
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.dropout)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.fc2(self.dropout(self.activation_fn(self.fc1(hidden_states))))
        return self.layer_norm(hidden_states)


class BDAMFusionGate(nn.Module):
    """`softmax(Linear([f_img; f_txt]))`: how much image and description count. A missing modality weighs nothing."""

    def __init__(self, config: BDAMConfig):
        super().__init__()
        self.projection = BDAMZeroLinear(2 * config.fusion_hidden_size, 2) if config.use_fusion_gate else None

    def forward(self, image_states: torch.Tensor, text_states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """`present` (B, 2) says which of image and description there are; returns weights (B, 2) that sum to 1."""
        if self.projection is None:
            logits = image_states.new_zeros(image_states.shape[0], 2)
        else:
            logits = self.projection(torch.cat([image_states, text_states], dim=-1))
        logits = logits.float().masked_fill(~present, torch.finfo(torch.float32).min)
        return logits.softmax(dim=-1).to(image_states.dtype)


class BDAMFusion(nn.Module):
    """
    The Mamba fusion module (§III-D): identity features of the image and of its description → one vector.

    With `fusion_mode="pooled"` the Mamba stack sees the one vector `W_img f_img + W_txt f_txt`, a sequence of length
    1. With `"tokens"` it scans the weighted identity tokens followed by the weighted description tokens; the means
    over both parts are then added, so that both modes agree where the stack does nothing.
    """

    def __init__(self, config: BDAMConfig):
        super().__init__()
        align = BDAMAlignment if config.use_fusion_alignment else _linear_alignment
        self.mode = config.fusion_mode
        self.image_alignment = align(config, config.vision_hidden_size)
        self.text_alignment = align(config, config.text_hidden_size)
        self.gate = BDAMFusionGate(config)
        self.mamba_layers = nn.ModuleList(
            [
                BDAMMambaMixer(
                    config.fusion_hidden_size,
                    state_size=config.mamba_state_size,
                    conv_kernel=config.mamba_conv_kernel,
                    expand=config.mamba_expand,
                )
                for _ in range(config.num_mamba_layers if config.use_mamba else 0)
            ]
        )
        output_projection = BDAMZeroLinear if config.fusion_update else nn.Linear
        self.output_projection = output_projection(config.fusion_hidden_size, config.projection_dim)

    def forward(
        self, image: BDAMImageOutput | None, description: BDAMTextOutput | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns `f_final` (B, projection_dim), not normalized, and the fusion weights (B, 2)."""
        image_tokens, image_mask = self._image_tokens(image)
        text_tokens, text_mask = self._text_tokens(description)
        if image_tokens is None:
            image_tokens, image_mask = text_tokens[:, :0], text_mask[:, :0]
        if text_tokens is None:
            text_tokens, text_mask = image_tokens[:, :0], image_mask[:, :0]

        # A sum, since `any` over no tokens is true once exported to ONNX.
        present = torch.stack([mask.sum(dim=1) > 0 for mask in (image_mask, text_mask)], dim=1)
        fusion_weights = self.gate(masked_mean(image_tokens, image_mask), masked_mean(text_tokens, text_mask), present)
        image_tokens = image_tokens * fusion_weights[:, :1, None]
        text_tokens = text_tokens * fusion_weights[:, 1:, None]

        if self.mode == "pooled":
            hidden_states = masked_mean(image_tokens, image_mask) + masked_mean(text_tokens, text_mask)
            hidden_states = self._scan(hidden_states[:, None])[:, 0]
        else:
            num_image_tokens = image_tokens.shape[1]
            hidden_states = self._scan(torch.cat([image_tokens, text_tokens], dim=1))
            hidden_states = masked_mean(hidden_states[:, :num_image_tokens], image_mask) + masked_mean(
                hidden_states[:, num_image_tokens:], text_mask
            )
        return self.output_projection(hidden_states), fusion_weights

    def _image_tokens(self, image: BDAMImageOutput | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if image is None:
            return None, None
        states = image.identity_features[:, None] if self.mode == "pooled" else image.identity_tokens
        return self.image_alignment(states), torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)

    def _text_tokens(self, description: BDAMTextOutput | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if description is None:
            return None, None
        mask = description.attention_mask.bool()
        if self.mode == "pooled":
            return self.text_alignment(description.features[:, None]), mask.any(dim=1, keepdim=True)
        return self.text_alignment(description.last_hidden_state), mask

    def _scan(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for layer in self.mamba_layers:
            hidden_states = layer(hidden_states) + hidden_states
        return hidden_states


def _linear_alignment(config: BDAMConfig, input_size: int) -> nn.Linear:
    return nn.Linear(input_size, config.fusion_hidden_size)


# The model, with the losses (§III-E) in `losses_bdam.py`


class BDAMPreTrainedModel(PreTrainedModel):
    config: BDAMConfig
    base_model_prefix = "bdam"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["BDAMBranchLayer", "BDAMMambaMixer"]
    _keep_in_fp32_modules_strict = ["A_log"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, BDAMMambaMixer):
            module.reset_parameters()
        elif isinstance(module, BDAMIdentityLinear):
            init.eye_(module.weight)
        elif isinstance(module, BDAMZeroLinear) or isinstance(module, BDAMPooling) and module.weight is not None:
            init.zeros_(module.weight)
        elif isinstance(module, BDAMModel) and module.config.use_position_embeddings:
            init.normal_(module.position_embeddings, std=self.config.initializer_range)

    def set_use_kernels(self, use_kernels: bool, *args, **kwargs):
        """As that of transformers, but without a kernel that cannot be loaded: that is a warning, not an error."""
        try:
            super().set_use_kernels(use_kernels, *args, **kwargs)
        except Exception as error:  # without a common class: ValueError offline, ConnectError without network
            if not is_kernels_available():
                raise
            logger.warning_once(f"The model runs without the kernels of the Hub, which cannot be loaded: {error}")


# Besides `AutoModel`, which `register_for_auto_class` adds alone.
ZERO_SHOT = {"AutoModelForZeroShotImageClassification": "modeling_bdam.BDAMModel"}


class BDAMModel(BDAMPreTrainedModel):
    r"""
    Text-to-image person retrieval that keeps identity and clothing apart.

    A gallery entry is an image, its MLLM-written identity description, or both; a query is a sentence. Both become
    L2-normalized identity embeddings; images and clothing texts besides become clothing embeddings, so that a search
    can weigh *who* against *what they wear*.

    Args:
        config ([`BDAMConfig`]): the architecture.
        vision_model, text_model (`PreTrainedModel`, *optional*): encoders to take over, e.g. pretrained ones; built
            from `config` otherwise. See [`BDAMModel.from_vision_text_pretrained`].

    Example:

    ```python
    >>> from bdam import BDAMModel, BDAMProcessor, load_data
    >>> model = BDAMModel.from_pretrained("outputs/demo/model")
    >>> processor = BDAMProcessor.from_pretrained("outputs/demo/model")
    >>> images = load_data("outputs/demo/pedestrians")["test"]["image"][:8]
    >>> outputs = model(**processor(images=images, text="A tall man in a red coat.", return_tensors="pt"))
    >>> scores = outputs.text_embeds @ outputs.image_embeds.T
    >>> scores.shape
    torch.Size([1, 8])
    ```"""

    def __init__(
        self,
        config: BDAMConfig,
        vision_model: PreTrainedModel | None = None,
        text_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        vision_model = vision_model or build_encoder(config.vision_config, "vision")
        text_model = text_model or build_encoder(config.text_config, "text")
        uses_text_pooler = config.text_pooling == "pooler"
        vision = fit_encoder(vision_model, "vision", config, config.use_pooled_image)
        text = fit_encoder(text_model, "text", config, uses_text_pooler)
        config.vision_hidden_size = vision.hidden_size
        config.num_image_tokens = vision.num_tokens
        config.text_hidden_size = (uses_text_pooler and text.pooled_size) or text.hidden_size
        config.validate_architecture()
        self.num_prefix_tokens = vision.num_prefix_tokens
        self.vision_model, self.text_model = vision_model, text_model
        self.text_capacity = text_capacity(text_model)

        if config.use_position_embeddings:
            self.position_embeddings = nn.Parameter(torch.zeros(1, vision.num_tokens, vision.hidden_size))
        self.text_projection = nn.Linear(config.text_hidden_size, config.projection_dim)
        if config.use_bdam:
            self.decoupler = BDAMDecoupler(config)
            clothing_size = config.clothing_projection_dim or config.text_hidden_size
            self.clothing_projection = nn.Linear(vision.hidden_size, clothing_size)
            if config.clothing_projection_dim is not None:
                self.clothing_text_projection = nn.Linear(config.text_hidden_size, clothing_size)
        elif not config.use_pooled_image:
            self.pooling = BDAMPooling(config)
        if config.use_fusion:
            self.fusion = BDAMFusion(config)
        if config.fusion_update or not config.use_fusion:
            self.image_projection = nn.Linear(vision.hidden_size, config.projection_dim)

        self.post_init()

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision_model_name_or_path: str,
        text_model_name_or_path: str,
        image_size: int | tuple[int, int] | None = None,
        **config_kwargs,
    ) -> "BDAMModel":
        r"""
        Builds a model from two pretrained encoders; everything else starts from scratch.

        Args:
            vision_model_name_or_path (`str`): Hub id or folder of an image encoder, or of a dual encoder that has
                one.
            text_model_name_or_path (`str`): Hub id or folder of a text encoder, or of a dual encoder that has one.
            image_size (`int` or `tuple[int, int]`, *optional*): height and width of the images to come, e.g.
                `(384, 128)`. A ViT's position embeddings are moved to that grid by bicubic interpolation; other
                architectures interpolate theirs as they run.
            config_kwargs: fields of [`BDAMConfig`], `attn_implementation` among them (SDPA where nothing is given).

        Raises:
            ValueError: if a name leads to no encoder, or to one that lacks weights or fails to load; if no patch fits
                into an image.
        """
        uses_pooled_image = config_kwargs.get("use_pooled_image", False)
        uses_text_pooler = config_kwargs.get("text_pooling") == "pooler"
        vision_model = load_encoder(vision_model_name_or_path, "vision", uses_pooled_image, image_size)
        text_model = load_encoder(text_model_name_or_path, "text", uses_text_pooler)
        config = BDAMConfig(vision_config=vision_model.config, text_config=text_model.config, **config_kwargs)
        return cls(config, vision_model=vision_model, text_model=text_model)

    @classmethod
    def from_dual_encoder_pretrained(
        cls, name_or_path: str, image_size: int | tuple[int, int] | None = None, **config_kwargs
    ) -> "BDAMModel":
        r"""
        Builds a model that starts as a pretrained dual encoder, such as CLIP or SigLIP: until it is trained, identity
        and clothing embeddings of images and texts have that model's own similarities, and its temperature. BDAM and
        fusion start as updates of zero.

        Args:
            name_or_path (`str`): Hub id or folder of a dual encoder.
            image_size (`int` or `tuple[int, int]`, *optional*): height and width of the images to come.
            config_kwargs: fields of [`BDAMConfig`] besides those that make the start that of the dual encoder.

        Raises:
            ValueError: if it is no dual encoder, lacks weights, or has no vectors to start from.
        """
        dual = load_dual_encoder(name_or_path, image_size)
        size = dual.text_projection.out_features
        config = BDAMConfig(
            vision_config=dual.vision_model.config,
            text_config=dual.text_model.config,
            text_pooling=dual.text_pooling,
            use_pooled_image=True,
            fusion_update=True,
            projection_dim=size,
            clothing_projection_dim=size,
            temperature=dual.temperature,
            **config_kwargs,
        )
        model = cls(config, vision_model=dual.vision_model, text_model=dual.text_model)
        starts = {"image_projection": dual.image_projection, "text_projection": dual.text_projection}
        if config.use_bdam:
            starts |= {"clothing_projection": dual.image_projection, "clothing_text_projection": dual.text_projection}
        for name, start in starts.items():
            model.get_submodule(name).load_state_dict(start.state_dict())
        return model

    def save_pretrained(self, save_directory: str | PathLike, *args, **kwargs):
        """As every model; its config says that `AutoModelForZeroShotImageClassification` loads it as well."""
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **ZERO_SHOT}
        super().save_pretrained(save_directory, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        identity_input_ids: torch.Tensor | None = None,
        identity_attention_mask: torch.Tensor | None = None,
        with_clothing: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        r"""
        Identity embeddings of gallery entries: images, descriptions, or images with their descriptions.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`, *optional*): Images.
            identity_input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Identity descriptions of those images.
            identity_attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                A row of zeros marks an image without a description.
            with_clothing (`bool`, *optional*, defaults to `False`):
                Whether the clothing embeddings of the images follow, for queries with a `clothing_weight`.

        Returns:
            The encoder's output; its `pooler_output` are L2-normalized embeddings `(batch_size, projection_dim)`, or
            with clothing `[identity ; clothing]`, each of them L2-normalized.
        """
        if with_clothing:
            self._require_clothing_stream()
            if pixel_values is None:
                raise ValueError("Descriptions of identity alone have no clothing: give `pixel_values`.")
        outputs = self(
            pixel_values=pixel_values,
            identity_input_ids=identity_input_ids,
            identity_attention_mask=identity_attention_mask,
            return_dict=True,
            **kwargs,
        )
        embeds = outputs.image_embeds
        if with_clothing:
            embeds = torch.cat([embeds, outputs.clothing_image_embeds], dim=1)
        return _with_pooling(outputs.vision_model_output or outputs.description_output, embeds)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        clothing_weight: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        r"""
        Identity embeddings of queries.

        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Queries.
            clothing_weight (`float`, *optional*):
                How much clothing counts, c in [0, 1], for a search of images `with_clothing`.

        Returns:
            The encoder's output; its `pooler_output` are L2-normalized embeddings `(batch_size, projection_dim)`, or
            with a clothing weight `[(1 - c)·identity ; c·clothing]`.
        """
        if clothing_weight is not None:
            self._require_clothing_stream()
        outputs = self(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            return_dict=True,
            **kwargs,
        )
        embeds = outputs.text_embeds
        if clothing_weight is not None:
            weighted = (1 - clothing_weight) * embeds, clothing_weight * outputs.clothing_query_embeds
            embeds = torch.cat(weighted, dim=1)
        return _with_pooling(outputs.text_model_output, embeds)

    @can_return_tuple
    def get_clothing_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple | BaseModelOutputWithPooling:
        r"""
        Clothing embeddings of images.

        Returns:
            The encoder's output; its `pooler_output` are L2-normalized embeddings `(batch_size, text_hidden_size)`.
        """
        self._require_clothing_stream()
        outputs = self(pixel_values=pixel_values, return_dict=True, **kwargs)
        return _with_pooling(outputs.vision_model_output, outputs.clothing_image_embeds)

    @can_return_tuple
    def get_clothing_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        r"""
        Clothing embeddings of texts: clothing descriptions, or queries that speak of clothes.

        Returns:
            The encoder's output; its `pooler_output` are L2-normalized embeddings `(batch_size, text_hidden_size)`.
        """
        self._require_clothing_stream()
        outputs = self(
            clothing_input_ids=input_ids, clothing_attention_mask=attention_mask, return_dict=True, **kwargs
        )
        return _with_pooling(outputs.clothing_description_output, outputs.clothing_text_embeds)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        identity_input_ids: torch.Tensor | None = None,
        identity_attention_mask: torch.Tensor | None = None,
        clothing_input_ids: torch.Tensor | None = None,
        clothing_attention_mask: torch.Tensor | None = None,
        person_ids: torch.Tensor | None = None,
        clothing_text_ids: torch.Tensor | None = None,
        identity_agreement: torch.Tensor | None = None,
        clothing_agreement: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BDAMOutput:
        r"""
        Embeds whatever is given: images, descriptions, queries.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`, *optional*): Images.
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`,
                *optional*): Queries: captions by a human.
            identity_input_ids, identity_attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`,
                *optional*): Identity descriptions that belong to the images; a row whose mask is zero is an image
                without one.
            clothing_input_ids, clothing_attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`,
                *optional*): Clothing descriptions of the images.
            person_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                Who is on each image. Without them each image is a person of its own.
            clothing_text_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                Equal numbers for equal clothing descriptions. Without them no two are equal.
            identity_agreement, clothing_agreement (`torch.FloatTensor` of shape `(batch_size,)`, *optional*): With
                `return_loss=True`, how much each identity and clothing description counts in the losses that align
                images with them: how far several descriptions of its image agree, more than 0.
            return_loss (`bool`, *optional*): whether to compute the task losses; needs images and queries.

        Raises:
            ValueError: if nothing is given, batch sizes that must agree do not, or texts have more tokens than the
                text encoder takes.
        """
        if all(given is None for given in (pixel_values, input_ids, identity_input_ids, clothing_input_ids)):
            raise ValueError(
                "Give at least one of `pixel_values`, `input_ids`, `identity_input_ids` and `clothing_input_ids`."
            )
        labels = {
            "person_ids": person_ids,
            "clothing_text_ids": clothing_text_ids,
            "identity_agreement": identity_agreement,
            "clothing_agreement": clothing_agreement,
        }
        _check_batch_sizes(
            {
                "pixel_values": pixel_values,
                "identity_input_ids": identity_input_ids,
                "input_ids": input_ids if return_loss else None,
                "clothing_input_ids": clothing_input_ids if return_loss else None,
                **(labels if return_loss else {}),
            }
        )
        if return_loss and (pixel_values is None or input_ids is None):
            raise ValueError("`return_loss=True` needs `pixel_values` and `input_ids`.")

        vision_outputs = image = None
        if pixel_values is not None:
            vision_outputs = encode_images(self.vision_model, pixel_values, self.config.vision_hidden_size, **kwargs)
            image = self._decouple(vision_outputs, **kwargs)
        caption = self._encode_texts(input_ids, attention_mask, token_type_ids, **kwargs)
        description = self._encode_descriptions(identity_input_ids, identity_attention_mask, **kwargs)
        clothing = self._encode_texts(clothing_input_ids, clothing_attention_mask, **kwargs)
        image_embeds = fusion_weights = None
        if image is not None or description is not None:
            image_embeds, fusion_weights = self.fuse(image, description)
        text_embeds = None if caption is None else _normalize(self.text_projection(caption.features))
        plain_image_embeds = identity_text_embeds = clothing_image_embeds = None
        if image is not None and description is not None:
            plain_image_embeds = self._embed_alone(image)
            identity_text_embeds = _normalize(self.text_projection(description.features))
        if image is not None and image.pooled_clothing is not None:
            clothing_image_embeds = _normalize(self.clothing_projection(image.pooled_clothing))

        logits_per_image = None
        if image_embeds is not None and text_embeds is not None:
            logits_per_image = image_embeds @ text_embeds.T / self.config.temperature
        outputs = BDAMOutput(
            logits_per_image=logits_per_image,
            logits_per_text=None if logits_per_image is None else logits_per_image.T,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            clothing_image_embeds=clothing_image_embeds,
            clothing_text_embeds=self._embed_clothing_texts(clothing),
            clothing_query_embeds=self._embed_clothing_texts(caption),
            plain_image_embeds=plain_image_embeds,
            identity_text_embeds=identity_text_embeds,
            fusion_weights=fusion_weights,
            image_output=image,
            description_output=description,
            clothing_description_output=clothing,
            text_model_output=caption,
            vision_model_output=vision_outputs,
        )
        if return_loss:
            inputs = BDAMLossInputs(**loss_features(outputs), **labels)
            loss_dict = losses(inputs, self.config, gather=self.training)
            loss = sum(loss_dict[name] for name in TASKS if name in loss_dict)
            outputs = BDAMOutput(loss=loss, loss_dict=loss_dict, **outputs)
        return outputs

    def fuse(
        self, image: BDAMImageOutput | None, description: BDAMTextOutput | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """L2-normalized identity embeddings (B, projection_dim) of gallery entries; their fusion weights (B, 2)."""
        if not self.config.use_fusion:
            if image is None:
                raise ValueError(
                    "A model with `use_fusion=False` embeds images only, not descriptions: give `pixel_values`."
                )
            return self._embed_alone(image), None
        fused, fusion_weights = self.fusion(image, description)
        if self.config.fusion_update:
            fused = self._update(image, description, fused)
        return _normalize(fused), fusion_weights

    def _embed_alone(self, image: BDAMImageOutput) -> torch.Tensor:
        """Identity embeddings of images without descriptions, as `fuse` gives; a fusion that adds 0 is left out."""
        if self.config.use_fusion and not self.config.fusion_update:
            return self.fuse(image)[0]
        return _normalize(self.image_projection(image.identity_features))

    def _update(
        self, image: BDAMImageOutput | None, description: BDAMTextOutput | None, fused: torch.Tensor
    ) -> torch.Tensor:
        """The own embedding of the image, or else of its description, to which fusion adds where both are there."""
        if image is None:
            return self.text_projection(description.features) + fused
        own = self.image_projection(image.identity_features)
        if description is None:
            return own + 0 * fused  # as distributed training expects, which counts on a gradient for all
        return own + description.attention_mask.any(dim=1, keepdim=True) * fused

    def _embed_clothing_texts(self, texts: BDAMTextOutput | None) -> torch.Tensor | None:
        """L2-normalized clothing embeddings (B, D) of encoded texts; None if there are none."""
        if texts is None:
            return None
        is_projected = self.config.use_bdam and self.config.clothing_projection_dim is not None
        return _normalize(self.clothing_text_projection(texts.features) if is_projected else texts.features)

    def _decouple(self, vision_outputs: BaseModelOutputWithPooling, **kwargs) -> BDAMImageOutput:
        hidden_states = vision_outputs.last_hidden_state
        pooled = vision_outputs.pooler_output if self.config.use_pooled_image else None
        if self.config.use_patch_tokens_only:
            hidden_states = hidden_states[:, self.num_prefix_tokens :]
        if self.config.use_position_embeddings:
            hidden_states = hidden_states + self.position_embeddings
        if self.config.use_bdam:
            return self.decoupler(hidden_states, pooled, **kwargs)
        identity_features = self.pooling(hidden_states) if pooled is None else pooled
        return BDAMImageOutput(identity_tokens=hidden_states, identity_features=identity_features)

    def _encode_texts(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> BDAMTextOutput | None:
        if input_ids is None:
            return None
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.text_capacity is not None and input_ids.shape[1] > self.text_capacity:
            raise ValueError(
                f"The texts have {input_ids.shape[1]} tokens, but the text encoder "
                f"({self.text_model.config.model_type}) takes {self.text_capacity}: truncate them, as `BDAMProcessor` "
                "does."
            )
        outputs = encode_texts(self.text_model, input_ids, attention_mask, token_type_ids, **kwargs)
        tokens = outputs.last_hidden_state
        if self.config.text_pooling == "mean":
            features = masked_mean(tokens, attention_mask)
        else:
            features = outputs.pooler_output if self.config.text_pooling == "pooler" else tokens[:, 0]
        return BDAMTextOutput(tokens, features, attention_mask, outputs.hidden_states, outputs.attentions)

    def _encode_descriptions(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, **kwargs
    ) -> BDAMTextOutput | None:
        """Zeros for the rows that `attention_mask` says are missing: attention over nothing is undefined."""
        if input_ids is None or attention_mask is None:
            return self._encode_texts(input_ids, attention_mask, **kwargs)
        present = attention_mask.any(dim=1)
        if present.any():
            described = self._encode_texts(input_ids[present], attention_mask[present], **kwargs)
        else:  # nothing to encode; what fuses descriptions still takes part, as distributed training expects
            states = self.text_projection.weight.new_zeros(0, input_ids.shape[1], self.config.text_hidden_size)
            described = BDAMTextOutput(states, states[:, 0], attention_mask[present])
        return _spread(described, present)

    def _require_clothing_stream(self) -> None:
        if not self.config.use_bdam:
            raise ValueError("This model was built with `use_bdam=False`: it has no clothing stream.")


# Small helpers


def _with_pooling(outputs: BaseModelOutput, pooler_output: torch.Tensor) -> BaseModelOutputWithPooling:
    return BaseModelOutputWithPooling(
        last_hidden_state=outputs.last_hidden_state,
        pooler_output=pooler_output,
        hidden_states=outputs.hidden_states,
        attentions=outputs.attentions,
    )


def _check_batch_sizes(inputs: dict[str, torch.Tensor | None]) -> None:
    sizes = {name: value.shape[0] for name, value in inputs.items() if value is not None}
    if any(size != next_size for size, next_size in pairwise(sizes.values())):
        listing = ", ".join(f"`{name}` {size}" for name, size in sizes.items())
        raise ValueError(f"Batch sizes must agree, got {listing}.")


def _normalize(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(features, dim=-1)


def _spread(description: BDAMTextOutput, present: torch.Tensor) -> BDAMTextOutput:
    """From the texts that are present to one row per image, zeros where `present` (B,) says that there is none."""

    def spread(state):
        if isinstance(state, tuple):
            return tuple(layer if layer is None else spread(layer) for layer in state)
        return state.new_zeros(len(present), *state.shape[1:]).index_put((present,), state)

    return BDAMTextOutput(**{name: spread(state) for name, state in description.items()})


BDAMModel.register_for_auto_class("AutoModel")

__all__ = ["BDAMModel", "BDAMOutput", "BDAMImageOutput", "BDAMPreTrainedModel", "BDAMTextOutput"]
