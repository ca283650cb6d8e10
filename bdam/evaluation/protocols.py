"""Scores an embedded split by all protocols, galleries and kinds of queries."""

from random import Random
from statistics import mean
from typing import Any

import torch

from bdam.evaluation.features import COMPOSED, Features
from bdam.evaluation.metrics import PROTOCOLS, NoPositivesError, QueryRanks, rank_queries, retrieval_metrics
from bdam.evaluation.results import Score


# Clothing weights to choose from, and to draw curves over.
TENTHS = tuple(step / 10 for step in range(11))


def evaluate(
    features: Features, clothing_weights: tuple[float, ...] = (0.0,), image_to_text: bool = False
) -> list[Score]:
    """
    The scores of a split, by all protocols that the data allows, on all galleries, with all kinds of queries.

    The score of a pair is `(1 - c)·identity + c·clothing`. Queries by identity description have no clothing, so c is
    0, and the image that they were written for is ignored, because its description is the same text. A gallery of
    descriptions has no clothing either. A setting in which no query has a positive is left out, such as same-clothes
    if there is one image per outfit.

    If cameras are known, a person's images from the query's own camera are ignored. If the official gallery is one
    random image per person (PRCC), the metrics are means over several random galleries.

    Args:
        features: the embedded split.
        clothing_weights: the values of c, in [0, 1].
        image_to_text: whether to search captions by gallery entries as well. Then `query` is the kind of gallery, and
            `gallery` is `caption`.
    """
    scores = []
    for protocol in PROTOCOLS if features.outfit_ids is not None else ("standard",):
        for gallery in features.galleries:
            for query in features.queries:
                weights = weights_of(features, query, clothing_weights) if gallery != "description" else (0.0,)
                for clothing_weight in weights:
                    directions = [score]
                    if image_to_text and query == "caption":
                        directions.append(score_image_to_text)
                    for measure in directions:
                        try:
                            scores.append(measure(features, protocol, gallery, query, clothing_weight))
                        except NoPositivesError:
                            continue
    return scores


def weights_of(features: Features, query: str, clothing_weights: tuple[float, ...]) -> tuple[float, ...]:
    """The clothing weights for a kind of query: those given, or 0 alone if it or the model has no clothing."""
    has_clothing = query in ("caption", COMPOSED) and features.clothing is not None
    return clothing_weights if has_clothing else (0.0,)


def score(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> Score:
    """
    The score of one setting; see [`evaluate`].

    Args:
        features: the embedded split.
        protocol: one of `PROTOCOLS`.
        gallery: one of `features.galleries`.
        query: one of `features.queries`.
        clothing_weight: c, in [0, 1].

    Raises:
        NoPositivesError: if no query has a positive.
    """
    setting = protocol, gallery, query, clothing_weight
    draws = [
        retrieval_metrics(**search_arguments(features, *setting, entries)) for entries in _draw_galleries(features)
    ]
    metrics = {name: mean(draw[name] for draw in draws) for name in draws[0]}
    return Score(protocol=protocol, gallery=gallery, query=query, clothing_weight=clothing_weight, **metrics)


def rank(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> QueryRanks:
    """The ranks of the queries of one setting, in the whole gallery; see [`score`]."""
    entries = torch.arange(len(features.gallery_images))
    return rank_queries(**search_arguments(features, protocol, gallery, query, clothing_weight, entries))


def search_arguments(
    features: Features, protocol: str, gallery: str, query: str, clothing_weight: float, entries: torch.Tensor
) -> dict[str, Any]:
    """The arguments of [`rank_queries`] and [`best_scores`] for one setting; of the gallery, only `entries` count."""
    query_embeds, gallery_embeds = mix(features, gallery, query, clothing_weight)
    query_images = features.query_images[query]
    return {
        "query_embeds": query_embeds,
        "gallery_embeds": gallery_embeds[entries],
        **_ids(features, query_images, features.gallery_images[entries]),
        "own_images": _entry_of_image(features, entries)[query_images] if query == "identity_description" else None,
        "protocol": protocol,
    }


def score_image_to_text(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> Score:
    """
    The score of the opposite search, with gallery entries as queries, and queries as the gallery; see [`score`].

    Raises:
        NoPositivesError: if no gallery entry has a positive.
    """
    query_embeds, gallery_embeds = mix(features, gallery, query, clothing_weight)
    ids = _ids(features, features.gallery_images, features.query_images[query])
    metrics = retrieval_metrics(gallery_embeds, query_embeds, **ids, protocol=protocol)
    return Score(protocol=protocol, gallery=query, query=gallery, clothing_weight=clothing_weight, **metrics)


def _ids(features: Features, query_images: torch.Tensor, gallery_images: torch.Tensor) -> dict[str, Any]:
    """Person, outfit and camera ids of queries and gallery, as arguments of [`retrieval_metrics`]."""
    return {
        f"{side}_{name}_ids": None if ids is None else ids[images]
        for side, images in (("query", query_images), ("gallery", gallery_images))
        for name, ids in (
            ("person", features.person_ids),
            ("outfit", features.outfit_ids),
            ("camera", features.camera_ids),
        )
    }


def _draw_galleries(features: Features, seed: int = 3) -> list[torch.Tensor]:
    """The entries of each gallery to average over: all entries, or one random entry per person, several times."""
    entries = torch.arange(len(features.gallery_images))
    if not features.single_shots:
        return [entries]
    persons = features.person_ids[features.gallery_images].tolist()
    random, draws = Random(seed), []
    for _ in range(features.single_shots):
        shuffled = random.sample(entries.tolist(), len(entries))
        draws.append(torch.tensor(sorted({persons[entry]: entry for entry in shuffled}.values())))
    return draws


def _entry_of_image(features: Features, entries: torch.Tensor) -> torch.Tensor:
    """The index among `entries` of each image (N,); -1 for images that have no entry."""
    indices = torch.full_like(features.person_ids, -1)
    indices[features.gallery_images[entries]] = torch.arange(len(entries))
    return indices


def mix(features: Features, gallery: str, query: str, clothing_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Queries `[(1 - c)·identity ; c·clothing]`, (Q, D), and gallery entries `[identity ; clothing]`, (G, D), whose inner
    products are the scores.

    Args:
        features: the embedded split.
        gallery: one of `features.galleries`.
        query: one of `features.queries`.
        clothing_weight: c, in [0, 1].
    """
    query_embeds, gallery_embeds = features.queries[query], features.galleries[gallery]
    if clothing_weight == 0 or features.clothing is None:
        return query_embeds, gallery_embeds
    clothing_queries = features.clothing_queries[query]
    return (
        torch.cat([(1 - clothing_weight) * query_embeds, clothing_weight * clothing_queries], dim=1),
        torch.cat([gallery_embeds, features.clothing], dim=1),
    )


def best_clothing_weight(features: Features) -> float:
    """The clothing weight 0, 0.1, … or 1 with the best R-1 of a validation split, by caption on images."""
    if features.clothing is None:
        return 0.0
    return max(TENTHS, key=lambda weight: score(features, "standard", "image", "caption", weight).r1)


def selection_score(scores: list[Score]) -> float:
    """The validation score that selects the best epoch: mean R-1 over all settings on the gallery of images."""
    of_images = [score.r1 for score in scores if score.gallery == "image"]
    return sum(of_images) / len(of_images)
