# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""BDAM model configuration."""

from collections.abc import Sequence
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


_POSITIVE_FIELDS = (
    "num_branch_heads",
    "branch_intermediate_size",
    "fusion_hidden_size",
    "num_mamba_layers",
    "mamba_state_size",
    "mamba_conv_kernel",
    "mamba_expand",
    "projection_dim",
    "temperature",
    "layer_norm_eps",
    "initializer_range",
)
_CAUSAL_TEXT_MODELS = ("clip_text_model", "clipseg_text_model", "metaclip_2_text_model")


@strict
class BDAMConfig(PreTrainedConfig):
    r"""
    Configuration of a [`BDAMModel`]. The defaults are the paper's (§IV-A); the switches are the rows of its ablation
    tables. Two encoders of any `AutoModel` architecture are described by `vision_config` and `text_config`.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*, defaults to ViT-B/16 at 224 x 224):
            The image encoder. Any architecture whose model returns patch tokens as `last_hidden_state`.
        text_config (`dict` or `PreTrainedConfig`, *optional*, defaults to BERT-base):
            The text encoder, shared by captions, identity descriptions and clothing descriptions.
        vision_hidden_size, num_image_tokens, text_hidden_size (`int`, *optional*):
            Width of the image encoder's tokens, how many patches an image has, and width of the sentence vectors.
            Found by the model, and saved.
        text_pooling (`str`, *optional*, defaults to `"cls"`):
            The sentence vector: the state of the first token (`"cls"`), the mean over the tokens (`"mean"`), or the
            encoder's own pooled vector (`"pooler"`), as dual encoders were trained with.
        use_pooled_image (`bool`, *optional*, defaults to `False`):
            Whether both streams start from the image encoder's own pooled vector, to which the mean of their tokens
            is an update that starts at zero. The paper takes the mean of the tokens alone.
        token_pooling (`str`, *optional*, defaults to `"mean"`):
            How the tokens of a stream become one feature: their mean, as in the paper, or a sum weighted by position
            and dimension that starts as the mean (`"weighted"`), which can tell the hat from the shoes.
        use_position_embeddings (`bool`, *optional*, defaults to `False`):
            Whether tokens get learned position embeddings before they are split, for convolutional encoders, whose
            tokens do not know where they are.
        use_patch_tokens_only (`bool`, *optional*, defaults to `True`):
            Whether to drop the [CLS] and register tokens of the image encoder, as the paper does.
        use_bdam (`bool`, *optional*, defaults to `True`):
            Whether to split the visual tokens into identity and clothing (Table II, "w/o BDAM"). Without it the model
            has no clothing stream, and the identity feature is the mean of the encoder's tokens.
        num_branch_layers (`int`, *optional*, defaults to 6):
            Self-attention layers per branch (Table II, "Shallow (3-layer)"). With 0, a branch is a linear map.
        num_branch_heads (`int`, *optional*, defaults to 12):
            Attention heads in the branches and in the exchange between them.
        branch_intermediate_size (`int`, *optional*, defaults to 3072):
            Width of the MLPs in the branches.
        use_cross_attention (`bool`, *optional*, defaults to `True`):
            Whether the branches exchange information (Table II, "w/o Cross-Attn").
        use_gate (`bool`, *optional*, defaults to `True`):
            Whether the disentanglement gate is learned; otherwise it is ½ (Table II, "w/o Gate").
        use_fusion (`bool`, *optional*, defaults to `True`):
            Whether image and identity description are fused (Table III, "w/o Fusion"). Without it a gallery entry is
            a linear projection of the image's identity feature.
        fusion_mode (`str`, *optional*, defaults to `"pooled"`):
            What the Mamba stack scans: the one fused vector, to the letter of the paper (`"pooled"`), or the sequence
            of identity tokens followed by description tokens (`"tokens"`).
        fusion_update (`bool`, *optional*, defaults to `False`):
            Whether fusion is an update, which starts at zero, of the image's own embedding: an image without a
            description is then embedded as without fusion. In the paper fusion makes the embedding.
        use_fusion_alignment (`bool`, *optional*, defaults to `True`):
            Whether each modality passes an FFN before fusion; otherwise one linear map (Table III, "w/o Alignment").
        use_fusion_gate (`bool`, *optional*, defaults to `True`):
            Whether the two modality weights are learned; otherwise they are ½, ½ (Table III, "w/o Gate").
        use_mamba (`bool`, *optional*, defaults to `True`):
            Whether the Mamba stack is there (Table III, "w/o Mamba").
        fusion_hidden_size (`int`, *optional*, defaults to 256):
            Width of the fusion module.
        num_mamba_layers (`int`, *optional*, defaults to 2):
            Mamba layers in the fusion module.
        mamba_state_size (`int`, *optional*, defaults to 16):
            Size of the state of the selective scan.
        mamba_conv_kernel (`int`, *optional*, defaults to 4):
            Taps of the causal convolution before the scan.
        mamba_expand (`int`, *optional*, defaults to 2):
            Factor between the width of the fusion module and the inner width of a Mamba layer.
        projection_dim (`int`, *optional*, defaults to 256):
            Size of the identity embeddings of gallery entries and queries.
        clothing_projection_dim (`int`, *optional*):
            Size of the clothing embeddings of images and texts, if both are projected; by default the sentence vector
            is the clothing embedding of a text, as in Eq. 1.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the MLPs in the branches and in the fusion module.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the branches and the fusion module. The encoders have their own.
        temperature (`float`, *optional*, defaults to 0.07):
            τ of the contrastive losses (Eq. 1 and 3).
        symmetric_contrast (`bool`, *optional*, defaults to `False`):
            Whether the contrastive losses also run from text to image; Eq. 1 and 3 run from image to text.
        triplet_margin (`float`, *optional*, defaults to 0.3):
            Margin m of the triplet loss (Eq. 4).
        triplet_mining (`str`, *optional*, defaults to `"all"`):
            The expectation over all valid triplets, as written in Eq. 4 (`"all"`), or each anchor's hardest
            (`"hard"`).
        hsic_kernel (`str`, *optional*, defaults to `"linear"`):
            Kernel of the decoupling loss: `"linear"` as in Eq. 2, or `"rbf"` with the median distance as bandwidth.
        hsic_normalize (`bool`, *optional*, defaults to `False`):
            Whether the decoupling loss compares correlations in place of covariances, so that it lies in [0, 1], and
            small directions of the features count as well (Fukumizu et al. 2007).
        clothing_weight (`float`, *optional*, defaults to 0.5):
            How much clothing counts in a search by default: `score = (1 - c)·identity + c·clothing`. Training chooses
            it on the validation split.
        layer_norm_eps (`float`, *optional*, defaults to 1e-06):
            Epsilon of the layer norms.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the initial weights.

    Raises:
        StrictDataclassError: of `huggingface_hub.errors`, if a field has another type, is out of bounds, or does not
            fit the others.

    Example:

    ```python
    >>> from bdam import BDAMConfig, BDAMModel
    >>> BDAMConfig().num_branch_layers
    6
    >>> model = BDAMModel(BDAMConfig(vision_config={"model_type": "vit", "num_hidden_layers": 2}, num_branch_layers=1))
    ```"""

    model_type = "bdam"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="vit"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    vision_hidden_size: int | None = None
    num_image_tokens: int | None = None
    text_hidden_size: int | None = None
    text_pooling: Literal["cls", "mean", "pooler"] = "cls"
    use_pooled_image: bool = False
    token_pooling: Literal["mean", "weighted"] = "mean"
    use_position_embeddings: bool = False
    use_patch_tokens_only: bool = True
    use_bdam: bool = True
    num_branch_layers: int = 6
    num_branch_heads: int = 12
    branch_intermediate_size: int = 3072
    use_cross_attention: bool = True
    use_gate: bool = True
    use_fusion: bool = True
    fusion_mode: Literal["pooled", "tokens"] = "pooled"
    fusion_update: bool = False
    use_fusion_alignment: bool = True
    use_fusion_gate: bool = True
    use_mamba: bool = True
    fusion_hidden_size: int = 256
    num_mamba_layers: int = 2
    mamba_state_size: int = 16
    mamba_conv_kernel: int = 4
    mamba_expand: int = 2
    projection_dim: int = 256
    clothing_projection_dim: int | None = None
    hidden_act: str = "gelu"
    dropout: float | int = 0.1
    temperature: float | int = 0.07
    symmetric_contrast: bool = False
    triplet_margin: float | int = 0.3
    triplet_mining: Literal["all", "hard"] = "all"
    hsic_kernel: Literal["linear", "rbf"] = "linear"
    hsic_normalize: bool = False
    clothing_weight: float | int = 0.5
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def validate_architecture(self):
        """Checks the bounds of fields, and that they fit each other. `@strict` calls it."""
        for name in _POSITIVE_FIELDS:
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        if self.num_branch_layers < 0:
            raise ValueError(f"`num_branch_layers` must not be negative, got {self.num_branch_layers}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got {self.dropout}.")
        if not 0 <= self.clothing_weight <= 1:
            raise ValueError(f"`clothing_weight` must lie in [0, 1], got {self.clothing_weight}.")
        if self.triplet_margin < 0:
            raise ValueError(f"`triplet_margin` must not be negative, got {self.triplet_margin}.")
        vision_hidden_size = self.vision_hidden_size or getattr(self.vision_config, "hidden_size", None)
        if self.use_bdam and vision_hidden_size is not None and vision_hidden_size % self.num_branch_heads != 0:
            raise ValueError(
                f"`num_branch_heads` ({self.num_branch_heads}) must divide the hidden size of the vision encoder "
                f"({vision_hidden_size})."
            )
        check_image_size(self.vision_config, getattr(self.vision_config, "image_size", None))
        if self.text_pooling == "cls" and self.text_config.model_type in _CAUSAL_TEXT_MODELS:
            raise ValueError(
                f"`text_pooling='cls'` does not fit the causal text encoder {self.text_config.model_type!r}, whose "
                "first token sees no other: use `text_pooling='mean'`."
            )


def check_image_size(vision_config: PreTrainedConfig, image_size: int | Sequence[int] | None) -> None:
    """
    Checks that an image has at least one patch.

    Args:
        vision_config (`PreTrainedConfig`): The config of the image encoder.
        image_size (`int` or `Sequence[int]`, *optional*): Height and width, or both as one number, in pixels.

    Raises:
        ValueError: if the image is smaller than a patch.
    """
    patch_size = getattr(vision_config, "patch_size", None)
    if image_size is None or patch_size is None:
        return
    sizes, patch = ([size, size] if isinstance(size, int) else list(size) for size in (image_size, patch_size))
    if any(side < of_patch for side, of_patch in zip(sizes, patch, strict=False)):
        raise ValueError(
            f"`image_size` {sizes} must be at least the `patch_size` {patch} of the vision encoder: no patch fits."
        )


BDAMConfig.register_for_auto_class()

__all__ = ["BDAMConfig"]
