"""Open-set search: half of the persons that are searched for are not in the gallery."""

from contextlib import suppress
from statistics import mean

import torch
from pydantic import BaseModel

from bdam.evaluation.calibration import Calibration, ExpectedScores, UncalibratedError
from bdam.evaluation.features import Features
from bdam.evaluation.metrics import NoPositivesError, best_scores
from bdam.evaluation.protocols import search_arguments, weights_of
from bdam.evaluation.results import Origin


# The random halves of the persons that scores are means over.
NUM_DRAWS = 10
COVERAGES = (0.8, 0.9)


class CalibrationScore(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    How far the calibration of a model holds, in percent.

    Args:
        coverage_80, coverage_90: the share of the searches for enrolled persons whose conformal set, at 80 and 90 %,
            holds one of their images.
        size_80, size_90: the median number of images in the set.
        probability: the mean probability of a right first hit; it should be the R-1.
        absence_error: the error that is stated for "probably not in this gallery".
        called_absent: the share of the searches for enrolled persons of which it is said.
        not_called_absent: the share of the searches for other persons of which it is not.
    """

    coverage_80: float
    size_80: float
    coverage_90: float
    size_90: float
    probability: float
    absence_error: float
    called_absent: float
    not_called_absent: float


class OpenSetScore(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    The metrics of open-set search for one kind of query, on a gallery of images: means over `NUM_DRAWS` random halves.

    Args:
        query: the kind of query.
        clothing_weight: c, in [0, 1].
        r1: R-1 of the searches for enrolled persons, in percent.
        dir_1, dir_10: detection and identification rate (DIR) in percent: the share of the searches for enrolled
            persons with a right image at rank 1 and above the threshold that 1 or 10 % of the others exceed (FAR).
        auroc: area under the ROC curve of the best score, which tells enrolled persons from others, in percent.
        num_queries: the mean number of searches for enrolled persons.
        num_gallery: the mean number of gallery images.
        calibration: how far the calibration of the model holds; None if it has none.
    """

    query: str
    clothing_weight: float
    r1: float
    dir_1: float
    dir_10: float
    auroc: float
    num_queries: float
    num_gallery: float
    calibration: CalibrationScore | None = None


class OpenSetResult(Origin, OpenSetScore, frozen=True, strict=True, extra="forbid"):
    """An [`OpenSetScore`] with its [`Origin`]."""


def evaluate_open_set(
    features: Features, calibration: Calibration | None, clothing_weights: tuple[float, ...]
) -> list[OpenSetScore]:
    """
    The open-set scores of a split, by all kinds of queries.

    Args:
        features: the embedded split.
        calibration: that of the model, to be checked; None for none.
        clothing_weights: the values of c, in [0, 1].

    Raises:
        NoPositivesError: if there are fewer than two persons to search for.
    """
    scores = []
    for query in features.queries:
        for weight in weights_of(features, query, clothing_weights):
            with suppress(NoPositivesError):  # of kinds of queries that only some splits have
                scores.append(score_open_set(features, calibration, query, weight))
    if not scores:
        raise NoPositivesError("An open-set search takes two persons or more with images that are searched for.")
    return scores


def score_open_set(
    features: Features, calibration: Calibration | None, query: str, clothing_weight: float
) -> OpenSetScore:
    """
    The open-set score of one kind of query; see [`evaluate_open_set`].

    Raises:
        NoPositivesError: if a half has no queries for enrolled persons, or none for others.
    """
    draws = [_score_draw(features, calibration, query, clothing_weight, seed) for seed in range(NUM_DRAWS)]
    means = {name: mean(draw[name] for draw in draws) for name in draws[0]}
    checks = {name: means.pop(name) for name in CalibrationScore.model_fields if name in means}
    checked = CalibrationScore(**checks) if checks else None
    return OpenSetScore(query=query, clothing_weight=clothing_weight, calibration=checked, **means)


def detection_rate(right: torch.Tensor, wrong: torch.Tensor, absent: torch.Tensor, far: float) -> float:
    """
    The detection and identification rate (DIR, or TPIR) at a false alarm rate (FAR, or FPIR), in [0, 1]. Of equal
    scores, the wrong one ranks first, and none exceeds a threshold.

    Args:
        right: (Q,) best scores of right images, in searches for enrolled persons.
        wrong: (Q,) best scores of wrong images in these searches.
        absent: (A,) best scores in searches for persons who are not enrolled, at least one.
        far: the share of these that may exceed the threshold, in [0, 1).
    """
    threshold = absent.sort(descending=True).values[int(far * len(absent))]
    return (right > wrong.maximum(threshold)).double().mean().item()


def area_under_roc(positives: torch.Tensor, negatives: torch.Tensor) -> float:
    """The probability that a positive (P,) scores more than a negative (N,), where a tie counts half."""
    ordered = negatives.sort().values
    below, up_to = (torch.searchsorted(ordered, positives, right=right) for right in (False, True))
    return ((below + up_to).double() / (2 * len(negatives))).mean().item()


def _score_draw(
    features: Features, calibration: Calibration | None, query: str, clothing_weight: float, seed: int
) -> dict[str, float]:
    """The scores of one random half: field of [`OpenSetScore`] or [`CalibrationScore`] → its value."""
    is_enrolled = _draw_enrolled(features, query, seed)
    entries = is_enrolled[features.gallery_images].nonzero()[:, 0]
    expected = None
    if calibration is not None:
        with suppress(UncalibratedError):
            expected = calibration.expect(query, clothing_weight, len(entries))
    margins = () if expected is None else tuple(map(expected.margin, COVERAGES))
    arguments = search_arguments(features, "standard", "image", query, clothing_weight, entries)
    scores = best_scores(**arguments, margins=margins)
    of_enrolled = is_enrolled[features.query_images[query]]
    found = of_enrolled & scores.right.isfinite()
    (right, wrong, num_within), absent = (values[found] for values in scores), scores.wrong[~of_enrolled]
    if not len(right) or not len(absent) or not len(entries):
        raise NoPositivesError(f"seed {seed} leaves no queries by {query} for enrolled, or none for other persons")
    values = {
        "r1": (right > wrong).double().mean().item(),
        "dir_1": detection_rate(right, wrong, absent, 0.01),
        "dir_10": detection_rate(right, wrong, absent, 0.1),
        "auroc": area_under_roc(right.maximum(wrong), absent),
    }
    sizes = {"num_queries": float(len(right)), "num_gallery": float(len(entries))}
    if expected is not None:
        values |= _check(expected, right, wrong, absent)
        sizes |= dict(zip(("size_80", "size_90"), num_within.double().quantile(0.5, dim=0).tolist(), strict=True))
    return {name: 100 * value for name, value in values.items()} | sizes


def _check(
    expected: ExpectedScores, right: torch.Tensor, wrong: torch.Tensor, absent: torch.Tensor
) -> dict[str, float]:
    """What is expected of scores, and what they are, in [0, 1], by the names of the fields of [`CalibrationScore`]."""
    best = right.maximum(wrong)
    covered = [(best - right <= expected.margin(coverage)).double().mean().item() for coverage in COVERAGES]
    threshold, error = expected.absence()
    return {
        **dict(zip(("coverage_80", "coverage_90"), covered, strict=True)),
        "probability": expected.probability_of_right(best).double().mean().item(),
        "absence_error": error,
        "called_absent": (best < threshold).double().mean().item(),
        "not_called_absent": (absent >= threshold).double().mean().item(),
    }


def _draw_enrolled(features: Features, query: str, seed: int) -> torch.Tensor:
    """Whether the person in each image (N,) is in the gallery: not if in a random half of those searched for."""
    persons = features.person_ids[features.query_images[query]].unique()
    shuffled = persons[torch.randperm(len(persons), generator=torch.Generator().manual_seed(seed))]
    return ~torch.isin(features.person_ids, shuffled[: len(persons) // 2])
