"""What a second look brings: R-1 before and after, and its cost."""

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from rich.box import SIMPLE_HEAD
from rich.table import Table
from tqdm.auto import tqdm

from bdam.data.loading import load_split
from bdam.encoding.encoders import load_encoder
from bdam.encoding.extraction import feature_store
from bdam.evaluation.features import Features, extract_features, query_sentences
from bdam.evaluation.intervals import Interval, interval
from bdam.evaluation.protocols import mix, rank
from bdam.retrieval.reranking import Answers, Reranker, reorder


@dataclass(frozen=True)
class Setting:
    """A search that sentences are compared with images in: protocol, kind of query, and clothing weight."""

    protocol: str
    query: str
    clothing_weight: float


@dataclass(frozen=True)
class RerankingResult:
    """
    R-1 on the gallery of images before and after a second look, in percent, with 95 % intervals over persons.

    Args:
        setting: the search.
        num_queries: how many sentences were looked for.
        before, after, gain: R-1, and the paired difference.
        pairs: sentences × images that the reranker was given, of which the answers in a cache cost nothing.
        reasons: how many of the pairs have no answer for each reason.
        requests, tokens: sent to a server in this call.
        seconds: that the second look took.
    """

    setting: Setting
    num_queries: int
    before: Interval
    after: Interval
    gain: Interval
    pairs: int
    requests: int
    tokens: int
    seconds: float
    reasons: Counter[str] = field(default_factory=Counter)


def evaluate_reranking(
    checkpoint: str,
    data: str,
    reranker: Reranker,
    split: str = "test",
    clothing_weight: float | None = None,
    max_pairs: int | None = None,
    batch_size: int = 64,
    mixed_precision: str = "no",
) -> list[RerankingResult]:
    """
    R-1 before and after a second look: by caption under the standard protocol with the model's own clothing weight,
    and by identity description under changed clothes, or under the standard protocol if there are no outfits.

    Args:
        checkpoint: folder of a model, or its name on the Hub.
        data: a data set; see [`load_data`].
        reranker: looks at the first `reranker.top` images of each search.
        split: `train`, `validation` or `test` (default).
        clothing_weight: of the search by caption; by default the model's own.
        max_pairs: the most sentences × images, for which fewer sentences are looked for, evenly spaced among all;
            None (default) for all.
        batch_size, mixed_precision: as for [`bdam.evaluation.evaluate.evaluate_checkpoint`].

    Raises:
        ServerError: if the reranker's server cannot answer.
        ValueError: if no search of the data is by a sentence alone, or `max_pairs` is too few for one of each.
    """
    dataset = load_split(data, split)
    encoder = load_encoder(checkpoint)
    encoder.model.to(PartialState().device)
    options: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
    features = extract_features(encoder, dataset, **options, store=feature_store(checkpoint, dataset, **options))
    if clothing_weight is None:
        clothing_weight = getattr(encoder.model.config, "clothing_weight", 0.0)
    settings = fitting_settings(features, clothing_weight)
    if not settings:
        raise ValueError(f"{data} is searched by images and sentences together, which a second look does not compare.")
    num_queries = None if max_pairs is None else max_pairs // len(settings) // reranker.top
    if num_queries == 0:
        least = len(settings) * reranker.top
        raise ValueError(f"--max-requests must be {least} or more, for one sentence of each search.")
    return [_evaluate(features, dataset, setting, reranker, num_queries) for setting in settings]


def reranking_table(title: str, results: list[RerankingResult]) -> Table:
    """A terminal table with a line per search, and what they cost together."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("protocol", "query", "c"):
        table.add_column(name)
    for name in ("queries", "R-1 before", "after", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        setting, intervals = result.setting, (result.before, result.after, result.gain)
        search = (setting.protocol, setting.query.replace("_", " "), f"{setting.clothing_weight:g}")
        table.add_row(*search, str(result.num_queries), *map(str, intervals))
    counts = {name: sum(getattr(result, name) for result in results) for name in ("pairs", "requests", "tokens")}
    seconds = sum(result.seconds for result in results)
    table.caption = f"{', '.join(f'{count:,} {name}' for name, count in counts.items())}, {seconds:.0f} seconds"
    return table


def fitting_settings(features: Features, clothing_weight: float) -> list[Setting]:
    """The searches that [`evaluate_reranking`] measures."""
    changed = "standard" if features.outfit_ids is None else "clothes-changed"
    settings = [Setting("standard", "caption", clothing_weight), Setting(changed, "identity_description", 0.0)]
    return [setting for setting in settings if setting.query in features.queries]


def _evaluate(
    features: Features, dataset: Dataset, setting: Setting, reranker: Reranker, num_queries: int | None
) -> RerankingResult:
    chosen = choose_queries(features, setting, num_queries)
    scores = score_queries(features, setting, chosen)
    start = time.perf_counter()
    sentences = [sentence for _, sentence in query_sentences(dataset)[setting.query]]
    reranked, answers = _rerank(scores, [sentences[query] for query in chosen], features, dataset, reranker)
    seconds = time.perf_counter() - start
    images = features.query_images[setting.query][chosen]
    before, after = (find_hits(features, setting, images, of_time) for of_time in (scores, reranked))
    persons = features.person_ids[images].numpy()
    return RerankingResult(
        setting,
        len(chosen),
        interval(before, persons),
        interval(after, persons),
        interval(after - before, persons),
        len(answers.probabilities),
        answers.requests,
        answers.tokens,
        seconds,
        answers.reasons,
    )


def choose_queries(features: Features, setting: Setting, num_queries: int | None) -> torch.Tensor:
    """The positions of so many queries, evenly spaced among all; of all, if there are no more, or for None."""
    count = len(features.query_images[setting.query])
    num_queries = min(num_queries or count, count)
    return torch.arange(num_queries) * count // num_queries


def score_queries(features: Features, setting: Setting, chosen: torch.Tensor) -> torch.Tensor:
    """The scores (Q, G) of the chosen queries with the gallery of images."""
    query_embeds, gallery_embeds = mix(features, "image", setting.query, setting.clothing_weight)
    return query_embeds[chosen] @ gallery_embeds.T


def _rerank(
    scores: torch.Tensor, sentences: list[str], features: Features, dataset: Dataset, reranker: Reranker
) -> tuple[torch.Tensor, Answers]:
    """The scores (Q, G), of which the first `top` of each query have changed places; and all answers."""
    reranked, total = scores.clone(), Answers([])
    best, entries = scores.topk(min(reranker.top, scores.shape[1]))
    for query, sentence in enumerate(tqdm(sentences, desc="Re-ranking")):
        rows = features.gallery_images[entries[query]].tolist()
        answers = reranker(sentence, dataset[rows]["image"])
        order = reorder(best[query].tolist(), answers.probabilities)
        reranked[query, entries[query][order]] = best[query]
        total.probabilities += answers.probabilities
        total.reasons += answers.reasons
        total.requests += answers.requests
        total.tokens += answers.tokens
    return reranked, total


def find_hits(features: Features, setting: Setting, images: torch.Tensor, scores: torch.Tensor) -> np.ndarray:
    """Whether each query (Q,) finds its person first by its scores (Q, G); NaN where it has nobody to find."""
    scored = replace(
        features,
        galleries={"image": torch.eye(scores.shape[1])},
        clothing=None,
        queries={setting.query: scores},
        query_images={setting.query: images},
    )
    return rank(scored, setting.protocol, "image", setting.query, 0.0).is_first_right.numpy()
