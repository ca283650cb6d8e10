"""What the scores of a search mean, by the calibration of its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bdam.evaluation.calibration import Calibration, ExpectedScores, UncalibratedError


if TYPE_CHECKING:
    from bdam.retrieval.hits import Hit

COVERAGE = 0.9
# Where "probably not in this gallery" would be wrong more often, it is not said.
MAX_ABSENCE_ERROR = 0.25
# The arguments of a search that are calibrated, each by itself, and the kinds of queries of evaluations.
KINDS = {"text": "caption", "identity": "identity_description"}


@dataclass(frozen=True)
class Confidence:
    """
    What the scores of a search mean, fitted on a validation split: it holds for sentences and images like those.

    Args:
        num_likely: in 9 of 10 searches for persons who are in the gallery, they are among as many first hits.
        has_more: whether these are all hits of the search, so that images beyond them may belong to them.
        probability: that the first hit shows the person, if they are in the gallery.
        is_probably_absent: whether the best score is so low that the person is probably not in the gallery.
        absence_error: the share of the searches for persons in the gallery in which `is_probably_absent` is true all
            the same, and of those for others in which it is not. It grows with the gallery. Above 0.25,
            `is_probably_absent` is never true.
    """

    num_likely: int
    has_more: bool
    probability: float
    is_probably_absent: bool
    absence_error: float

    def __str__(self) -> str:
        likely = "the first hit" if self.num_likely == 1 else f"among the first {self.num_likely} hits"
        if self.has_more:
            likely = "among these hits and perhaps more"
        here = (
            f"the first hit is right in {self.probability:.0%} of searches with such a score, and in 9 of 10 searches"
        )
        if not self.is_probably_absent:
            return f"If the person is in this gallery, {here} they are {likely}."
        absent = f"Probably not in this gallery: that is wrong in {self.absence_error:.0%} of searches."
        return f"{absent} If the person is in it after all, {here} they are {likely}."


def check_query(calibration: Calibration, asked: Mapping[str, Any], hits: "Sequence[Hit]") -> str:
    """
    The kind of query of a search, as evaluations call it.

    Args:
        calibration: that of the model.
        asked: the arguments of [`Gallery.search`] that say whom to look for.
        hits: that were found.

    Raises:
        UncalibratedError: if it is not known what the scores of such a search mean; the message says why.
    """
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1 or given[0] not in KINDS:
        raise UncalibratedError("What scores mean is known for one sentence about a person, and nothing else.")
    if not hits:
        raise UncalibratedError("There are no images to search.")
    if any(hit.row.get("identity_description") for hit in hits):
        raise UncalibratedError("What scores mean is not known for images that are fused with descriptions.")
    calibration.check_length(KINDS[given[0]], asked[given[0]])
    return KINDS[given[0]]


def judge(expected: ExpectedScores, hits: "Sequence[Hit]", has_others: bool) -> Confidence:
    """
    What the scores of hits mean.

    Args:
        expected: the scores of validation in a gallery of this size.
        hits: the hits, best first, at least one.
        has_others: whether there are more images than these hits.
    """
    best = hits[0].score
    margin = expected.margin(COVERAGE)
    num_likely = sum(hit.score >= best - margin for hit in hits)
    threshold, error = expected.absence()
    return Confidence(
        num_likely=num_likely,
        has_more=has_others and num_likely == len(hits),
        probability=expected.probability_of_right(torch.tensor([best])).item(),
        is_probably_absent=best < threshold and error <= MAX_ABSENCE_ERROR,
        absence_error=error,
    )
