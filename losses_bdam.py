# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The losses (§III-E): each by its name in `LOSSES`, all of the global batch and in float32."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import distributed, nn
from torch.autograd.function import once_differentiable


try:
    from .configuration_bdam import BDAMConfig
except ImportError:  # imported as the top-level module `losses_bdam`, not as Hub remote code
    from configuration_bdam import BDAMConfig


# The paper's tasks (Eq. 6), in its order.
TASKS = ("info_nce_loss", "triplet_loss", "alignment_loss", "decoupling_loss")
# The fields of `BDAMLossInputs` that come with the data. The others are features of the model.
LABELS = ("person_ids", "identity_agreement", "clothing_text_ids", "clothing_agreement")


@dataclass
class BDAMLossInputs:
    r"""
    What the losses are computed from: one row per image. What is None is not there, and neither are its losses.

    Args:
        image_embeds, text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`):
            Identity embeddings of the gallery entries and of the queries, L2-normalized.
        identity_features (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
            `f_id` of the images.
        person_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Who is on each image. Without them each image is a person of its own.
        plain_image_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Identity embeddings of the images without their descriptions. None where there are no descriptions.
        identity_text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
            Embeddings of the identity descriptions as queries.
        has_identity_text (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            Which images have an identity description.
        identity_agreement (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            How much each identity description counts, more than 0.
        clothing_features, gate (`torch.FloatTensor` of shape `(batch_size, hidden_size)`, *optional*):
            `f_clo` of the images and the disentanglement gate. None without BDAM.
        fusion_weights (`torch.FloatTensor` of shape `(batch_size, 2)`, *optional*):
            Weight of image and of description. None without fusion.
        clothing_image_embeds, clothing_text_embeds, clothing_query_embeds (`torch.FloatTensor` of shape `(batch_size,
            text_hidden_size)`, *optional*):
            Clothing embeddings of images, clothing descriptions and captions, L2-normalized.
        clothing_text_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Equal numbers for equal clothing descriptions. Without them no two are equal.
        clothing_agreement (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            How much each clothing description counts, more than 0.
    """

    image_embeds: torch.Tensor
    text_embeds: torch.Tensor
    identity_features: torch.Tensor
    person_ids: torch.Tensor | None = None
    plain_image_embeds: torch.Tensor | None = None
    identity_text_embeds: torch.Tensor | None = None
    has_identity_text: torch.Tensor | None = None
    identity_agreement: torch.Tensor | None = None
    clothing_features: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    fusion_weights: torch.Tensor | None = None
    clothing_image_embeds: torch.Tensor | None = None
    clothing_text_embeds: torch.Tensor | None = None
    clothing_query_embeds: torch.Tensor | None = None
    clothing_text_ids: torch.Tensor | None = None
    clothing_agreement: torch.Tensor | None = None

    @property
    def same_person(self) -> torch.Tensor:
        """Which gallery entries (rows) and queries (columns) are of one person, (batch_size, batch_size)."""
        return self.person_ids[:, None] == self.person_ids[None, :]

    @property
    def same_clothing_text(self) -> torch.Tensor:
        """Which images are described in the same words, so that they are no negatives of each other."""
        return self.clothing_text_ids[:, None] == self.clothing_text_ids[None, :]


def loss_features(outputs: Any) -> dict[str, torch.Tensor]:
    """
    The features in a `BDAMOutput` that the losses are computed from, by their names in `BDAMLossInputs`. Each row is
    computed from one image and its texts, so that those of several chunks of a batch can be concatenated.

    Args:
        outputs: those of `BDAMModel` for images and queries.
    """
    image, description = outputs.image_output, outputs.description_output
    features = {
        "image_embeds": outputs.image_embeds,
        "text_embeds": outputs.text_embeds,
        "identity_features": image.identity_features,
        "plain_image_embeds": outputs.plain_image_embeds,
        "identity_text_embeds": outputs.identity_text_embeds,
        "has_identity_text": None if description is None else description.attention_mask.any(dim=1),
        "clothing_features": image.clothing_features,
        "gate": image.gate,
        "fusion_weights": outputs.fusion_weights,
        "clothing_image_embeds": outputs.clothing_image_embeds,
        "clothing_text_embeds": outputs.clothing_text_embeds,
        "clothing_query_embeds": outputs.clothing_query_embeds,
    }
    return {name: values for name, values in features.items() if values is not None}


def losses(inputs: BDAMLossInputs, config: BDAMConfig, gather: bool = True) -> dict[str, torch.Tensor]:
    """
    The unweighted losses by name, in the order of `LOSSES`: those of which the inputs are there.

    Args:
        inputs: the rows of this process.
        config: that of the model.
        gather: whether the losses are those of the global batch, the same on every process, so that N processes with
            B / N samples each learn what one process with B does.
    """
    share = _gather if gather and _num_processes() > 1 else _keep
    rows = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    batch = BDAMLossInputs(**{name: None if value is None else share(value) for name, value in rows.items()})
    own_ids = torch.arange(len(batch.image_embeds), device=batch.image_embeds.device)
    batch.person_ids = own_ids if batch.person_ids is None else batch.person_ids
    batch.clothing_text_ids = own_ids if batch.clothing_text_ids is None else batch.clothing_text_ids
    with torch.autocast(batch.image_embeds.device.type, enabled=False):
        computed = {name: loss(batch, config) for name, loss in LOSSES.items()}
    return {name: loss for name, loss in computed.items() if loss is not None}


# The losses by name. Each is a function of the global batch; None if something that it needs is not there.

Loss = Callable[[BDAMLossInputs, BDAMConfig], torch.Tensor | None]
LOSSES: dict[str, Loss] = {}


def register(name: str) -> Callable[[Loss], Loss]:
    """Makes a function the loss of that name, which `loss_dict` of the model and `loss_weights` of a recipe use."""

    def add(loss: Loss) -> Loss:
        LOSSES[name] = loss
        return loss

    return add


@register("info_nce_loss")
def identity_contrast(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor:
    """Eq. 3: a gallery entry is to find the queries of its person, and with `symmetric_contrast` the reverse."""
    return _contrast(batch.image_embeds, batch.text_embeds, batch.same_person, None, config)


@register("triplet_loss")
def identity_triplet(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor:
    """Eq. 4, of `f_id`."""
    return triplet_loss(batch.identity_features, batch.person_ids, config.triplet_margin, config.triplet_mining)


@register("alignment_loss")
def clothing_contrast(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """Eq. 1: an image is to find its clothing description, and with `symmetric_contrast` the reverse."""
    image_embeds, text_embeds = batch.clothing_image_embeds, batch.clothing_text_embeds
    if image_embeds is None or text_embeds is None:
        return None
    return _contrast(image_embeds, text_embeds, batch.same_clothing_text, batch.clothing_agreement, config)


@register("decoupling_loss")
def decoupling(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """Eq. 2, of `f_id` and `f_clo`."""
    if batch.clothing_features is None:
        return None
    return hsic_loss(batch.identity_features, batch.clothing_features, config.hsic_kernel, config.hsic_normalize)


@register("gate_loss")
def gate_divergence(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """The gate regularizer of Table IV, of both gates."""
    return None if batch.gate is None else gate_regularizer(batch.gate, batch.fusion_weights)


@register("plain_info_nce_loss")
def plain_identity_contrast(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """Not the paper's: Eq. 3 for a gallery of images alone, where `info_nce_loss` sees them with descriptions."""
    if batch.plain_image_embeds is None:
        return None
    return _contrast(batch.plain_image_embeds, batch.text_embeds, batch.same_person, None, config)


@register("identity_query_loss")
def identity_query(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """
    Not the paper's: Eq. 3 with identity descriptions as queries, since captions speak mostly of clothes. It is the
    mean over two galleries: the images alone, and the images fused with their own descriptions. In the second, the
    entry that is fused with the query itself counts neither as positive nor as negative; the first alone is used if an
    image has no other description of its person in the batch.
    """
    there = batch.has_identity_text
    if there is None or not there.any():
        return None
    weights = None if batch.identity_agreement is None else batch.identity_agreement[there]
    texts, same_person = batch.identity_text_embeds[there], batch.same_person[there][:, there]
    plain = _contrast(batch.plain_image_embeds[there], texts, same_person, weights, config)
    own = torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    others = same_person & ~own
    if not others.any(dim=1).all():
        return plain
    fused = _contrast(batch.image_embeds[there], texts, others, weights, config, ignored=own)
    return (plain + fused) / 2


@register("clothing_query_loss")
def clothing_query(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor | None:
    """
    Not the paper's: a caption is to find the images of the clothes that it speaks of. Captions speak of the person
    as well, which `f_clo` is not to learn: the images get no gradient.
    """
    image_embeds, query_embeds = batch.clothing_image_embeds, batch.clothing_query_embeds
    if image_embeds is None or query_embeds is None:
        return None
    return info_nce_loss(query_embeds @ image_embeds.detach().T / config.temperature, batch.same_clothing_text)


@register("sdm_loss")
def similarity_distribution_matching(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor:
    """
    Not the paper's: the similarity distribution matching of IRRA (Jiang and Ye 2023). With `p = softmax(s / 0.02)`
    over the queries, whatever `config.temperature` is, and q uniform over those of the same person, it is the mean
    over gallery entries of `Σ_j p_j log(p_j / (q_j + 1e-8))`, plus the same from queries to gallery entries.
    """
    similarity = batch.image_embeds @ batch.text_embeds.T / 0.02
    target = batch.same_person / batch.same_person.sum(dim=1, keepdim=True)  # symmetric, for both directions
    log_target = (target.to(similarity) + 1e-8).log()
    log_predictions = torch.stack([similarity, similarity.T]).log_softmax(dim=2)
    return (log_predictions.exp() * (log_predictions - log_target)).sum(dim=2).mean(dim=1).sum()


@register("tal_loss")
def triplet_alignment(batch: BDAMLossInputs, config: BDAMConfig) -> torch.Tensor:
    """
    Not the paper's: the triplet alignment loss of RDE (Qin et al. 2024). With similarities s, it is the mean over
    gallery entries of `max(0, 0.1 - Σ_p a_p s_p + τ log Σ_n exp(s_n / τ))`, where p runs over the queries of the same
    person, n over all others, `a = softmax(s_p / τ)` is a constant, and τ = 0.015 whatever `config.temperature` is;
    plus the same from queries to gallery entries. RDE has sums in place of the means.
    """
    similarity = batch.image_embeds @ batch.text_embeds.T
    scaled = torch.stack([similarity, similarity.T]) / 0.015
    lowest = torch.finfo(scaled.dtype).min
    weights = scaled.masked_fill(~batch.same_person, lowest).softmax(dim=2).detach()  # symmetric, for both directions
    hardest = scaled.masked_fill(batch.same_person, lowest).logsumexp(dim=2)
    return (0.1 + 0.015 * (hardest - (weights * scaled).sum(dim=2))).clamp(min=0).mean(dim=1).sum()


def _contrast(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    positives: torch.Tensor,
    weights: torch.Tensor | None,
    config: BDAMConfig,
    ignored: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE between images and texts (B, D). Pairs in `ignored` (B, B) are neither positives nor negatives."""
    similarity = image_embeds @ text_embeds.T / config.temperature
    if ignored is not None:
        similarity = similarity.masked_fill(ignored, torch.finfo(similarity.dtype).min)
    loss = info_nce_loss(similarity, positives, weights)
    return (loss + info_nce_loss(similarity.T, positives.T, weights)) / 2 if config.symmetric_contrast else loss


# What they are made of: plain functions of features and similarities, of any float dtype.


def info_nce_loss(
    similarity: torch.Tensor, positives: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    r"""
    InfoNCE with several positives per row (Eq. 1 and 3): the mean over rows i and their positives p of
    `-log(exp(s_ip) / (exp(s_ip) + Σ_n exp(s_in)))`, where n runs over the negatives alone, so that no positive is ever
    pushed away. With one positive per row this is the usual cross-entropy.

    Args:
        similarity (`torch.Tensor` of shape `(num_rows, num_columns)`): similarities, already divided by τ.
        positives (`torch.BoolTensor` of the same shape): the positive columns; at least one per row.
        weights (`torch.Tensor` of shape `(num_rows,)`, *optional*): how much each row counts in the mean, more than 0.
    """
    negatives = similarity.masked_fill(positives, torch.finfo(similarity.dtype).min).logsumexp(dim=1, keepdim=True)
    terms = nn.functional.softplus(negatives - similarity)
    rows = (terms * positives).sum(dim=1) / positives.sum(dim=1)
    return rows.mean() if weights is None else (weights * rows).sum() / weights.sum()


def triplet_loss(features: torch.Tensor, person_ids: torch.Tensor, margin: float, mining: str = "all") -> torch.Tensor:
    r"""
    Triplet loss on squared Euclidean distances (Eq. 4).

    Args:
        features (`torch.Tensor` of shape `(batch_size, hidden_size)`): identity features `f_id`.
        person_ids (`torch.LongTensor` of shape `(batch_size,)`): who is on each image.
        margin (`float`): m, in squared feature units.
        mining (`str`): `"all"` is the mean over all valid triplets, as Eq. 4 is written; `"hard"` the mean over
            anchors of the triplet of their farthest positive and nearest negative (Hermans et al. 2017).

    Returns:
        The loss; zero (with a graph) if the batch holds no valid triplet.
    """
    squared_norms = features.square().sum(dim=1)
    distances = (squared_norms[:, None] + squared_norms[None, :] - 2 * features @ features.T).clamp(min=0)
    same_person = person_ids[:, None] == person_ids[None, :]
    positives = same_person & ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    if mining == "hard":
        anchors = positives.any(dim=1) & ~same_person.all(dim=1)
        farthest_positive = distances.masked_fill(~positives, 0).amax(dim=1)
        nearest_negative = distances.masked_fill(same_person, torch.finfo(distances.dtype).max).amin(dim=1)
        terms = (farthest_positive - nearest_negative + margin).clamp(min=0)[anchors]
    else:
        anchor_index, positive_index = positives.nonzero(as_tuple=True)
        violations = distances[anchor_index, positive_index, None] - distances[anchor_index] + margin
        terms = violations.clamp(min=0)[~same_person[anchor_index]]
    return terms.sum() / max(terms.numel(), 1)


def hsic_loss(
    identity_features: torch.Tensor, clothing_features: torch.Tensor, kernel: str = "linear", normalize: bool = False
) -> torch.Tensor:
    r"""
    Hilbert-Schmidt independence criterion `tr(K_id H K_clo H) / (N - 1)²` (Eq. 2; Gretton et al. 2005).

    With linear kernels this equals the squared Frobenius norm of the cross-covariance, which is the cheaper of the two
    forms where the batch is larger than the features.

    Args:
        identity_features (`torch.Tensor` of shape `(batch_size, hidden_size)`): gated identity features.
        clothing_features (`torch.Tensor` of shape `(batch_size, hidden_size)`): gated clothing features.
        kernel (`str`): `"linear"` as in the paper, or `"rbf"` with the median squared distance as bandwidth.
        normalize (`bool`): compare correlations, from 0 to 1: `tr(R_id R_clo) / sqrt(tr(R_id²) tr(R_clo²))` with
            `R = K (K + ε tr(K) I)⁻¹` of the centred kernels K (the normalized cross-covariance operator of Fukumizu et
            al. 2007, scaled as an alignment). Covariance sees large directions alone: it vanishes where each stream
            puts its variance into a few of them, and what the other should not tell stays legible in the rest.
    """
    num_samples, hidden_size = identity_features.shape
    if num_samples < 2:
        return (identity_features.sum() + clothing_features.sum()) * 0.0
    if kernel == "linear" and not normalize and num_samples > hidden_size:
        cross_covariance = (identity_features - identity_features.mean(dim=0)).T @ clothing_features
        return cross_covariance.square().sum() / (num_samples - 1) ** 2
    identity_kernel, clothing_kernel = (
        _centered_kernel(features, kernel) for features in (identity_features, clothing_features)
    )
    if normalize:
        whitened = _whiten(identity_kernel).flatten(), _whiten(clothing_kernel).flatten()
        return nn.functional.cosine_similarity(*whitened, dim=0)
    return (identity_kernel * clothing_kernel).sum() / (num_samples - 1) ** 2


def _whiten(kernel: torch.Tensor, epsilon: float = 0.01) -> torch.Tensor:
    """`K (K + ε tr(K) I)⁻¹`: directions with much more than ε of the variance count alike, those with less hardly."""
    kernel = kernel / kernel.trace().clamp(min=torch.finfo(kernel.dtype).eps)
    return torch.linalg.solve(kernel + epsilon * torch.eye(len(kernel)).to(kernel), kernel)


def _centered_kernel(features: torch.Tensor, kernel: str) -> torch.Tensor:
    """`H K H` of shape `(batch_size, batch_size)`."""
    if kernel == "linear":
        centered = features - features.mean(dim=0)
        return centered @ centered.T
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    off_diagonal = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    bandwidth = distances.detach()[off_diagonal].median().clamp(min=torch.finfo(features.dtype).eps)
    gram = torch.exp(-distances / bandwidth)
    gram = gram - gram.mean(dim=0, keepdim=True)
    return gram - gram.mean(dim=1, keepdim=True)


def gate_regularizer(gate: torch.Tensor, fusion_weights: torch.Tensor | None = None) -> torch.Tensor:
    r"""
    Mean `KL(Bernoulli(g) ‖ Bernoulli(½))`, plus the same for the two fusion weights: zero where both gates are
    undecided.

    Table IV has a row "w/o Gate Reg." that the paper never defines; this is our reading of it.

    Args:
        gate (`torch.Tensor` of shape `(batch_size, hidden_size)`): the disentanglement gate.
        fusion_weights (`torch.Tensor` of shape `(batch_size, 2)`, *optional*): image and text weights, summing to 1.
    """
    loss = _divergence_from_half(gate).mean()
    if fusion_weights is None:
        return loss
    both_present = (fusion_weights > 0).all(dim=1)  # where one modality is missing, there is nothing to decide
    return loss + (_divergence_from_half(fusion_weights[:, 0]) * both_present).sum() / both_present.sum().clamp(min=1)


def _divergence_from_half(probability: torch.Tensor) -> torch.Tensor:
    probability = probability.clamp(1e-6, 1 - 1e-6)
    return math.log(2) + torch.xlogy(probability, probability) + torch.xlogy(1 - probability, 1 - probability)


# The global batch


class BDAMGather(torch.autograd.Function):
    """
    Rows of all processes, (B, ...) → (num_processes · B, ...), in the order of the processes.

    The backward adds up what the losses of all processes say about a row and hands it to the process that owns it.
    DistributedDataParallel then averages over processes, which leaves the gradient of the one global loss.
    """

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(distributed.get_world_size())[distributed.get_rank()]


def _gather(rows: torch.Tensor) -> torch.Tensor:
    return BDAMGather.apply(_keep(rows))


def _keep(rows: torch.Tensor) -> torch.Tensor:
    return rows.float() if rows.is_floating_point() else rows


def _num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


__all__ = [
    "LABELS",
    "LOSSES",
    "TASKS",
    "BDAMLossInputs",
    "gate_regularizer",
    "hsic_loss",
    "info_nce_loss",
    "loss_features",
    "losses",
    "register",
    "triplet_loss",
]
