# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""What the model and its parts return."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput


@dataclass
class BDAMImageOutput(ModelOutput):
    r"""
    What the image says about the person, before any description.

    Args:
        identity_tokens (`torch.FloatTensor` of shape `(batch_size, num_tokens, hidden_size)`):
            Gated identity tokens; their mean is `identity_features`, but with `use_pooled_image`.
        identity_features (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
            `f_id = g ⊙ f̂_id`.
        clothing_features (`torch.FloatTensor` of shape `(batch_size, hidden_size)`, *optional*):
            `f_clo = (1 - g) ⊙ f̂_clo`. None without BDAM, as are the following.
        pooled_clothing (`torch.FloatTensor` of shape `(batch_size, hidden_size)`, *optional*):
            `f̂_clo`, the clothing feature before the gate, which clothing descriptions supervise.
        gate (`torch.FloatTensor` of shape `(batch_size, hidden_size)`, *optional*):
            The disentanglement gate g.
    """

    identity_tokens: torch.Tensor | None = None
    identity_features: torch.Tensor | None = None
    clothing_features: torch.Tensor | None = None
    pooled_clothing: torch.Tensor | None = None
    gate: torch.Tensor | None = None


@dataclass
class BDAMTextOutput(ModelOutput):
    r"""
    What the text encoder makes of a batch of texts.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, sequence_length, text_hidden_size)`):
            Token states.
        features (`torch.FloatTensor` of shape `(batch_size, text_hidden_size)`):
            Sentence vectors.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            1 for tokens, 0 for padding; a row of zeros is a text that is missing.
        hidden_states, attentions (`tuple[torch.Tensor, ...]`, *optional*):
            The encoder's, returned with `output_hidden_states=True` and `output_attentions=True`.
    """

    last_hidden_state: torch.Tensor | None = None
    features: torch.Tensor | None = None
    attention_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class BDAMOutput(ModelOutput):
    r"""
    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned with `return_loss=True`):
            Sum of the four task losses of the paper (Eq. 6 with all weights 1). Training balances them instead.
        loss_dict (`dict[str, torch.FloatTensor]`, *optional*, returned with `return_loss=True`):
            The unweighted losses that this model and batch have, by their names in `LOSSES` of `losses_bdam.py`.
        logits_per_image (`torch.FloatTensor` of shape `(image_batch_size, text_batch_size)`, *optional*):
            Similarities of gallery entries and queries, divided by τ.
        logits_per_text (`torch.FloatTensor` of shape `(text_batch_size, image_batch_size)`, *optional*):
            Its transpose.
        image_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Identity embeddings of the gallery entries: image, description, or both fused. L2-normalized.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Identity embeddings of the queries. L2-normalized.
        clothing_image_embeds (`torch.FloatTensor` of shape `(batch_size, text_hidden_size)`, *optional*):
            Clothing embeddings of the images. L2-normalized.
        clothing_text_embeds (`torch.FloatTensor` of shape `(batch_size, text_hidden_size)`, *optional*):
            Clothing embeddings of the clothing descriptions. L2-normalized.
        clothing_query_embeds (`torch.FloatTensor` of shape `(batch_size, text_hidden_size)`, *optional*):
            Clothing embeddings of the queries. L2-normalized.
        plain_image_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Identity embeddings of the images without their descriptions, where these are given. L2-normalized.
        identity_text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Embeddings of the identity descriptions as queries, where images are given. L2-normalized.
        fusion_weights (`torch.FloatTensor` of shape `(batch_size, 2)`, *optional*):
            Weight of image and of description in each gallery entry.
        image_output (`BDAMImageOutput`, *optional*):
            Identity and clothing features, and the gate.
        description_output (`BDAMTextOutput`, *optional*):
            Output of the text encoder for the identity descriptions.
        clothing_description_output (`BDAMTextOutput`, *optional*):
            Output of the text encoder for the clothing descriptions.
        text_model_output (`BDAMTextOutput`, *optional*):
            Output of the text encoder for the queries.
        vision_model_output (`BaseModelOutputWithPooling`, *optional*):
            Output of the image encoder.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    clothing_image_embeds: torch.Tensor | None = None
    clothing_text_embeds: torch.Tensor | None = None
    clothing_query_embeds: torch.Tensor | None = None
    plain_image_embeds: torch.Tensor | None = None
    identity_text_embeds: torch.Tensor | None = None
    fusion_weights: torch.Tensor | None = None
    image_output: BDAMImageOutput | None = None
    description_output: BDAMTextOutput | None = None
    clothing_description_output: BDAMTextOutput | None = None
    text_model_output: BDAMTextOutput | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


__all__ = ["BDAMImageOutput", "BDAMOutput", "BDAMTextOutput"]
