"""The evaluation of an embedded split: protocols × galleries × queries."""

from random import Random
from statistics import mean
from typing import Any

import torch

from bdam.evaluation.features import Features
from bdam.evaluation.metrics import PROTOCOLS, NoPositivesError, retrieval_metrics
from bdam.evaluation.results import Score


def evaluate(
    features: Features, clothing_weights: tuple[float, ...] = (0.0,), image_to_text: bool = False
) -> list[Score]:
    """
    Scores every protocol that the data allows on every gallery, with every kind of query.

    A search scores `(1 - c)·identity + c·clothing`. Queries by identity description say nothing about clothes, so they
    run at c = 0 only, and without the image that they were written for in the gallery, since its own description is
    the very same text. A gallery of descriptions has no clothing either. A setting in which no query has a positive,
    such as same-clothes where each outfit was seen once, is left out.

    Where cameras are known, a person's other images by the same camera count neither way, and where the official
    gallery is one random image per person (PRCC), the metrics are means over several draws.

    Args:
        features: the embedded split.
        clothing_weights: the values of c.
        image_to_text: whether to search captions by gallery entries as well, which are then the `query`, and `caption`
            the `gallery`.
    """
    scores = []
    for protocol in PROTOCOLS if features.outfit_ids is not None else ("standard",):
        for gallery in features.galleries:
            for query in features.queries:
                clothed = features.clothing is not None and gallery != "description" and query == "caption"
                for clothing_weight in clothing_weights if clothed else (0.0,):
                    directions = [score]
                    if image_to_text and query == "caption":
                        directions.append(score_image_to_text)
                    for measure in directions:
                        try:
                            scores.append(measure(features, protocol, gallery, query, clothing_weight))
                        except NoPositivesError:
                            continue
    return scores


def score(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> Score:
    """
    What one search scores; see [`evaluate`].

    Raises:
        NoPositivesError: if no query has a positive.
    """
    query_embeds, gallery_embeds = mix(features, gallery, query, clothing_weight)
    asking = features.query_images[query]
    draws = [
        retrieval_metrics(
            query_embeds,
            gallery_embeds[entries],
            **_ids(features, asking, features.gallery_images[entries]),
            own_images=_places(features, entries)[asking] if query == "identity_description" else None,
            protocol=protocol,
        )
        for entries in _draw_galleries(features)
    ]
    metrics = {name: mean(draw[name] for draw in draws) for name in draws[0]}
    return Score(protocol=protocol, gallery=gallery, query=query, clothing_weight=clothing_weight, **metrics)


def score_image_to_text(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> Score:
    """
    What the same search scores the other way round: gallery entries ask, and all queries of a kind are searched.

    Raises:
        NoPositivesError: if no gallery entry has a positive.
    """
    query_embeds, gallery_embeds = mix(features, gallery, query, clothing_weight)
    ids = _ids(features, features.gallery_images, features.query_images[query])
    metrics = retrieval_metrics(gallery_embeds, query_embeds, **ids, protocol=protocol)
    return Score(protocol=protocol, gallery=query, query=gallery, clothing_weight=clothing_weight, **metrics)


def _ids(features: Features, asking: torch.Tensor, searched: torch.Tensor) -> dict[str, Any]:
    """Person, outfit and camera ids of both sides of a search, as [`retrieval_metrics`] takes them."""
    return {
        f"{side}_{name}_ids": None if ids is None else ids[images]
        for side, images in (("query", asking), ("gallery", searched))
        for name, ids in (
            ("person", features.person_ids),
            ("outfit", features.outfit_ids),
            ("camera", features.camera_ids),
        )
    }


def _draw_galleries(features: Features, seed: int = 3) -> list[torch.Tensor]:
    """Entries of the galleries to average over: all of them, or for each draw one random entry per person."""
    entries = torch.arange(len(features.gallery_images))
    if not features.single_shots:
        return [entries]
    persons = features.person_ids[features.gallery_images].tolist()
    random, draws = Random(seed), []
    for _ in range(features.single_shots):
        shuffled = random.sample(entries.tolist(), len(entries))
        draws.append(torch.tensor(sorted({persons[entry]: entry for entry in shuffled}.values())))
    return draws


def _places(features: Features, entries: torch.Tensor) -> torch.Tensor:
    """Where each image (N,) stands among the entries; -1 for those that do not."""
    places = torch.full_like(features.person_ids, -1)
    places[features.gallery_images[entries]] = torch.arange(len(entries))
    return places


def mix(features: Features, gallery: str, query: str, clothing_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Queries `[(1 - c)·identity ; c·clothing]` and gallery rows `[identity ; clothing]`, whose inner product is the
    score for any c.
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
    """The weight of clothing, in tenths, that gives a validation split the best R-1 by caption and image alone."""
    if features.clothing is None:
        return 0.0
    tenths = [step / 10 for step in range(11)]
    return max(tenths, key=lambda weight: score(features, "standard", "image", "caption", weight).r1)


def selection_score(scores: list[Score]) -> float:
    """The validation score that picks the best epoch: mean R-1 over all settings that search by image alone."""
    of_images = [score.r1 for score in scores if score.gallery == "image"]
    return sum(of_images) / len(of_images)
