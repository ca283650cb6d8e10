"""Retrieval metrics of text-to-image person search: R-1, R-5, R-10, mAP and mINP.

The gallery is never sorted. The rank of a positive follows from the number of negatives that score at least as much,
so the cost is one matrix product and one comparison of its result per positive of a query.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import TypedDict, Unpack


PROTOCOLS = ("standard", "same-clothes", "clothes-changed")


class NoPositivesError(ValueError):
    """Raised when no query has a positive in the gallery."""


class QueryRanks(NamedTuple):
    """The ranks of Q queries: (Q,) tensors on the CPU, 0 for a query that has no positive.

    Attributes:
        first_rank: Rank of the best positive, counted from 1 (int64).
        average_precision: Mean over the positives of the precision at the positive, not interpolated (float64).
        inverse_negative_penalty: Number of positives over the rank of the last of them (float64).
        chance: Share of positives among the images that count, the R-1 of a random order (float64).
    """

    first_rank: Tensor
    average_precision: Tensor
    inverse_negative_penalty: Tensor
    chance: Tensor

    @property
    def is_first_right(self) -> Tensor:
        """(Q,), float64: 1 if the best image shows the person, 0 if not, NaN for a query that has no positive."""
        return torch.where(self.first_rank > 0, (self.first_rank == 1).double(), torch.nan)


class BestScores(NamedTuple):
    """The best scores of Q queries: tensors on the CPU.

    Attributes:
        right: (Q,) best score of the positives; -inf for a query that has none.
        wrong: (Q,) best score of the negatives, the images of other persons; -inf for a query that has none.
        num_within: (Q, M) number of images that count and score within each of M margins of the best one (int64).
    """

    right: Tensor
    wrong: Tensor
    num_within: Tensor


class RankingOptions(TypedDict, total=False):
    """The optional arguments of [`rank_queries`] and [`best_scores`]."""

    query_outfit_ids: Tensor | None
    gallery_outfit_ids: Tensor | None
    query_camera_ids: Tensor | None
    gallery_camera_ids: Tensor | None
    own_images: Tensor | None
    protocol: str
    chunk_size: int


def retrieval_metrics(
    query_embeds: Tensor,
    gallery_embeds: Tensor,
    query_person_ids: Tensor,
    gallery_person_ids: Tensor,
    **options: Unpack[RankingOptions],
) -> dict[str, float | int]:
    """R-k, mAP and mINP (Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", 2021).

    The gallery is ranked by inner product for each query. A tie is a miss: a negative that scores exactly as much as a
    positive ranks before it, so that a collapsed model, whose scores are all equal, finds nobody. Scores are compared
    as the matrix product rounds them.

    Args:
        query_embeds: (Q, D) vectors of the queries; half precision is computed in float32.
        gallery_embeds: (G, D) vectors of the gallery images, on the same device.
        query_person_ids: (Q,) person each query describes.
        gallery_person_ids: (G,) person in each image.
        query_outfit_ids: (Q,) outfit each query describes; needed by the two protocols about clothes.
        gallery_outfit_ids: (G,) outfit in each image; needed by the two protocols about clothes.
        query_camera_ids: (Q,) camera of the image behind each query. Given for both sides, the person's images
            from the query's own camera are ignored too: the rule of image re-identification and, beside the two
            protocols about clothes, of LTCC (Qian et al., "Long-Term Cloth-Changing Person Re-identification", 2020).
        gallery_camera_ids: (G,) camera of each image; given with `query_camera_ids` or not at all.
        own_images: (Q,) index in the gallery of the image each query was written for, which is then ignored;
            -1 where there is none.
        protocol: Which images of the query's person are positives: `"standard"` all of them, `"same-clothes"` those
            in the query's outfit, `"clothes-changed"` those in another one. The person's other images are ignored,
            neither right nor wrong.
        chunk_size: Number of queries scored at once; the largest buffers are two of `chunk_size` x G scores.

    Returns:
        `r1`, `r5`, `r10`, `map` and `minp` as percentages, means over the queries that have a positive; `chance`, the
        `r1` of a random order; `num_queries`, the number of those queries; `num_gallery`, the number of images in
        the gallery.

    Raises:
        ValueError: Unknown protocol, shapes that do not match, missing outfit or camera ids, an own image that does
            not show the query's person, or a score that is not finite.
        NoPositivesError: No query has a positive.
        ValueError: An argument does not fit; see [`rank_queries`].

    Example:

    ```python
    >>> import torch
    >>> from bdam import retrieval_metrics
    >>> persons = torch.tensor([0, 1])
    >>> retrieval_metrics(torch.eye(2), torch.eye(2), persons, persons)["r1"]
    100.0
    ```"""
    queries = rank_queries(query_embeds, gallery_embeds, query_person_ids, gallery_person_ids, **options)
    counted = queries.first_rank > 0
    if not counted.any():
        raise NoPositivesError(
            f"none of the {len(counted)} queries has a positive among {len(gallery_embeds)} gallery images under "
            f"the {options.get('protocol', 'standard')!r} protocol: check that both sides use the same person and "
            "outfit ids"
        )

    def percentage(values: Tensor) -> float:
        return 100 * values[counted].double().mean().item()

    return {
        "r1": percentage(queries.first_rank <= 1),
        "r5": percentage(queries.first_rank <= 5),
        "r10": percentage(queries.first_rank <= 10),
        "map": percentage(queries.average_precision),
        "minp": percentage(queries.inverse_negative_penalty),
        "chance": percentage(queries.chance),
        "num_queries": int(counted.sum()),
        "num_gallery": len(gallery_embeds),
    }


@torch.no_grad()
def rank_queries(
    query_embeds: Tensor,
    gallery_embeds: Tensor,
    query_person_ids: Tensor,
    gallery_person_ids: Tensor,
    **options: Unpack[RankingOptions],
) -> QueryRanks:
    """How the gallery ranks for every query; arguments, ties and errors are those of [`retrieval_metrics`]."""
    query, gallery, own_images = _sides(query_embeds, gallery_embeds, query_person_ids, gallery_person_ids, **options)
    protocol, chunk_size = options.get("protocol", "standard"), options.get("chunk_size", 256)
    return _rank(query, gallery, own_images, protocol, chunk_size)


@torch.no_grad()
def best_scores(
    query_embeds: Tensor,
    gallery_embeds: Tensor,
    query_person_ids: Tensor,
    gallery_person_ids: Tensor,
    margins: tuple[float, ...] = (),
    **options: Unpack[RankingOptions],
) -> BestScores:
    """The best scores of every query; other arguments and errors are those of [`retrieval_metrics`].

    Args:
        margins: M differences from the best score, to count the images within each.
    """
    query, gallery, own_images = _sides(query_embeds, gallery_embeds, query_person_ids, gallery_person_ids, **options)
    protocol, chunk_size = options.get("protocol", "standard"), options.get("chunk_size", 256)
    images = torch.arange(len(gallery.embeds), device=gallery.embeds.device)
    chunks = []
    for rows in torch.arange(len(query.embeds), device=query.embeds.device).split(chunk_size):
        scores = _finite_scores(query.embeds, gallery.embeds, rows)
        is_person = query.persons[rows, None] == gallery.persons
        is_positive = is_person & _is_counted(query, gallery, rows, images.expand_as(scores), protocol)
        if own_images is not None:
            is_positive &= images != own_images[rows, None]
        scores.masked_fill_(is_person & ~is_positive, -torch.inf)
        right, wrong = (scores.masked_fill(hidden, -torch.inf).amax(1) for hidden in (~is_positive, is_person))
        floors = right.maximum(wrong)[:, None] - scores.new_tensor(margins)
        num_within = (scores[:, :, None] >= floors[:, None]).sum(1)
        chunks.append((right.cpu(), wrong.cpu(), num_within.cpu()))
    return BestScores(*map(torch.cat, zip(*chunks, strict=True)))


class _Side(NamedTuple):
    """Embeddings (N, D) of queries or gallery, with the (N,) ids that the protocol uses."""

    embeds: Tensor
    persons: Tensor
    outfits: Tensor | None
    cameras: Tensor | None


def _sides(
    query_embeds: Tensor,
    gallery_embeds: Tensor,
    query_person_ids: Tensor,
    gallery_person_ids: Tensor,
    **options: Unpack[RankingOptions],
) -> tuple[_Side, _Side, Tensor | None]:
    """Queries, gallery and `own_images`, checked; scores are computed in the precision of the gallery."""
    protocol, own_images = options.get("protocol", "standard"), options.get("own_images")
    query_camera_ids, gallery_camera_ids = options.get("query_camera_ids"), options.get("gallery_camera_ids")
    _check_arguments(query_embeds, gallery_embeds, protocol)
    by_camera = query_camera_ids is not None or gallery_camera_ids is not None
    by_outfit = protocol != "standard"
    query_ids = (query_person_ids, options.get("query_outfit_ids"), query_camera_ids)
    gallery_ids = (gallery_person_ids, options.get("gallery_outfit_ids"), gallery_camera_ids)
    query = _side("query", query_embeds, query_ids, by_outfit, by_camera)
    gallery = _side("gallery", gallery_embeds, gallery_ids, by_outfit, by_camera)
    if own_images is not None:
        own_images = _one_per_row("own_images", own_images, query_embeds)
        _check_own_images(own_images, query.persons, gallery.persons)
    dtype = torch.promote_types(torch.result_type(query_embeds, gallery_embeds), torch.float32)
    return query, gallery._replace(embeds=gallery.embeds.to(dtype)), own_images


def _check_arguments(query_embeds: Tensor, gallery_embeds: Tensor, protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if query_embeds.ndim != 2 or gallery_embeds.ndim != 2 or query_embeds.shape[1] != gallery_embeds.shape[1]:
        raise ValueError(
            "query_embeds and gallery_embeds must be (Q, D) and (G, D) with the same D, "
            f"got {tuple(query_embeds.shape)} and {tuple(gallery_embeds.shape)}"
        )


def _side(name: str, embeds: Tensor, ids: tuple[Tensor | None, ...], by_outfit: bool, by_camera: bool) -> _Side:
    """Embeddings with those of their person, outfit and camera ids that the protocol uses."""
    persons, outfits, cameras = ids
    return _Side(
        embeds,
        _one_per_row(f"{name}_person_ids", persons, embeds),
        _one_per_row(f"{name}_outfit_ids", outfits, embeds) if by_outfit else None,
        _one_per_row(f"{name}_camera_ids", cameras, embeds) if by_camera else None,
    )


def _rank(query: _Side, gallery: _Side, own_images: Tensor | None, protocol: str, chunk_size: int) -> QueryRanks:
    # Sorted by person, the images of one person are one slice of the gallery.
    sorted_persons, by_person = gallery.persons.sort()
    start = torch.searchsorted(sorted_persons, query.persons)
    length = torch.searchsorted(sorted_persons, query.persons, right=True) - start
    # Queries whose persons have about as many images share a chunk, which keeps its padding short.
    by_length = length.argsort()
    by_length = by_length[length[by_length] > 0]

    num_queries = len(query.embeds)
    queries = QueryRanks(
        first_rank=torch.zeros(num_queries, dtype=torch.int64),
        average_precision=torch.zeros(num_queries, dtype=torch.float64),
        inverse_negative_penalty=torch.zeros(num_queries, dtype=torch.float64),
        chance=torch.zeros(num_queries, dtype=torch.float64),
    )
    for begin in range(0, len(by_length), chunk_size):
        rows = by_length[begin : begin + chunk_size]
        last = length[rows, None] - 1
        offsets = torch.arange(int(last.max()) + 1, device=rows.device)
        images = by_person[start[rows, None] + offsets.minimum(last)]
        is_positive = (offsets <= last) & _is_counted(query, gallery, rows, images, protocol)
        if own_images is not None:
            is_positive &= images != own_images[rows, None]

        scores = _finite_scores(query.embeds, gallery.embeds, rows)
        ranks = _positive_ranks(scores, images, is_positive)
        num_negatives = len(gallery.embeds) - length[rows]
        for values, chunk_values in zip(queries, _summarize(ranks.cpu(), num_negatives.cpu()), strict=True):
            values[rows.cpu()] = chunk_values
    return queries


def _is_counted(query: _Side, gallery: _Side, rows: Tensor, images: Tensor, protocol: str) -> Tensor:
    """Which of the images (B, P) of the queries' persons the protocol and the cameras count."""
    counts = torch.ones_like(images, dtype=torch.bool)
    if query.outfits is not None and gallery.outfits is not None:
        same_outfit = gallery.outfits[images] == query.outfits[rows, None]
        counts &= same_outfit if protocol == "same-clothes" else ~same_outfit
    if query.cameras is not None and gallery.cameras is not None:
        counts &= gallery.cameras[images] != query.cameras[rows, None]
    return counts


def _finite_scores(query_embeds: Tensor, gallery_embeds: Tensor, rows: Tensor) -> Tensor:
    """Inner products (B, G) of B queries with the gallery, in the precision of the gallery."""
    with torch.autocast(rows.device.type, enabled=False):
        scores = query_embeds[rows].to(gallery_embeds.dtype) @ gallery_embeds.T
    if not torch.stack(scores.aminmax()).isfinite().all():
        query = int(rows[~scores.isfinite().all(1)][0])
        raise ValueError(f"scores of query {query} are not finite: look for NaN or infinity in the embeddings")
    return scores


def _positive_ranks(scores: Tensor, images: Tensor, is_positive: Tensor) -> Tensor:
    """Ranks (B, P) of the positives of each query, best first and then zeros, from its scores (B, G), overwritten.

    `images` (B, P) are all images of the query's person, the last one repeated as padding.
    """
    num_positives = is_positive.sum(1)
    thresholds = scores.gather(1, images).masked_fill(~is_positive, -torch.inf).sort(1, descending=True).values
    # Only the negatives, the images of other persons, keep their scores.
    scores.scatter_(1, images, -torch.inf)
    ranks = torch.zeros_like(images)
    # Ones and zeros in the dtype of the scores are summed several times faster than booleans, exactly up to 2**24.
    ahead = torch.empty_like(scores)
    for index in range(int(num_positives.max())):
        torch.ge(scores, thresholds[:, index, None], out=ahead)
        ranks[:, index] = (index + 1 + ahead.sum(1)) * (index < num_positives)
    return ranks


def _summarize(ranks: Tensor, num_negatives: Tensor) -> QueryRanks:
    """The result for queries whose positives have the ranks (B, P), padded with zeros, among (B,) negatives."""
    found = ranks > 0
    num_positives = found.sum(1).double()
    precision = torch.where(found, found.cumsum(1).double() / ranks, 0.0)
    return QueryRanks(
        first_rank=ranks[:, 0],
        average_precision=precision.sum(1) / num_positives.clamp(min=1),
        inverse_negative_penalty=num_positives / ranks.amax(1).clamp(min=1),
        chance=num_positives / (num_positives + num_negatives).clamp(min=1),
    )


def _one_per_row(name: str, values: Tensor | None, embeds: Tensor) -> Tensor:
    """The ids on the device of the embeddings, after a check that there is one per embedding."""
    if values is None:
        raise ValueError(
            f"{name} is missing: the protocols about clothes need the outfit, and the rule about cameras the camera, "
            "of every query and image"
        )
    values = torch.as_tensor(values, dtype=torch.int64, device=embeds.device)
    if values.shape != embeds.shape[:1]:
        raise ValueError(f"{name} must have one id per embedding, ({len(embeds)},), got {tuple(values.shape)}")
    return values.contiguous()


def _check_own_images(own_images: Tensor, query_persons: Tensor, gallery_persons: Tensor) -> None:
    if ((own_images < -1) | (own_images >= len(gallery_persons))).any():
        raise ValueError(f"own_images must be -1 or an index below {len(gallery_persons)}, the size of the gallery")
    queries = (own_images >= 0).nonzero()[:, 0]
    wrong = queries[gallery_persons[own_images[queries]] != query_persons[queries]]
    if len(wrong):
        raise ValueError(f"own_images: the image of query {int(wrong[0])} shows another person than the query")
