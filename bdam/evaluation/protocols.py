"""The evaluation of a split: protocols × galleries × queries, as flat records."""

import torch

from bdam.evaluation.features import Features
from bdam.evaluation.metrics import PROTOCOLS, NoPositivesError, retrieval_metrics


def evaluate(features: Features, clothing_weights: tuple[float, ...] = (0.0,), **origin) -> list[dict]:
    """
    Scores every protocol that the data allows on every gallery, with every kind of query.

    A search scores `(1 - c)·identity + c·clothing`. Queries by identity description say nothing about clothes, so they
    run at c = 0 only, and without the picture that they were written for in the gallery, since its own description is
    the very same text. A gallery of descriptions has no clothing either. A setting in which no query has a positive,
    such as same-clothes where each outfit was seen once, is left out.

    Args:
        features: the embedded split.
        clothing_weights: the values of c.
        origin: `split`, `checkpoint`, `seed`, … of the records.

    Returns:
        Records `{protocol, gallery, query, clothing_weight, r1, r5, r10, map, minp, num_queries, num_gallery,
        **origin}`, percentages as numbers 0–100.
    """
    records = []
    for protocol in PROTOCOLS if features.outfit_ids is not None else ("standard",):
        for gallery in features.galleries:
            for query in features.queries:
                clothed = features.clothing is not None and gallery != "description" and query == "caption"
                for clothing_weight in clothing_weights if clothed else (0.0,):
                    try:
                        metrics = score(features, protocol, gallery, query, clothing_weight)
                    except NoPositivesError:
                        continue
                    setting = {"protocol": protocol, "gallery": gallery, "query": query}
                    records.append({**setting, "clothing_weight": clothing_weight, **metrics, **origin})
    return records


def score(features: Features, protocol: str, gallery: str, query: str, clothing_weight: float) -> dict[str, float]:
    """The retrieval metrics of one setting; see [`evaluate`]."""
    query_embeds, gallery_embeds = mix(features, gallery, query, clothing_weight)
    pictures = features.query_pictures[query]
    outfits = features.outfit_ids
    return retrieval_metrics(
        query_embeds,
        gallery_embeds,
        features.person_ids[pictures],
        features.person_ids,
        query_outfit_ids=None if outfits is None else outfits[pictures],
        gallery_outfit_ids=outfits,
        own_pictures=pictures if query == "identity_description" else None,
        protocol=protocol,
    )


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
    """The weight of clothing, in tenths, that gives a validation split the best R-1 by caption and picture alone."""
    if features.clothing is None:
        return 0.0
    tenths = [step / 10 for step in range(11)]
    return max(tenths, key=lambda weight: score(features, "standard", "picture", "caption", weight)["r1"])


def selection_score(records: list[dict]) -> float:
    """The validation score that picks the best epoch: mean R-1 over all settings that search by picture alone."""
    scores = [record["r1"] for record in records if record["gallery"] == "picture"]
    return sum(scores) / len(scores)
