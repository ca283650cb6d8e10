"""What the scores of a search mean, by the searches of a validation split; it is kept with the model."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from transformers.utils import cached_file

from bdam.data.writing import written_whole
from bdam.encoding.models import CALIBRATION
from bdam.evaluation.features import Features
from bdam.evaluation.metrics import BestScores, best_scores
from bdam.evaluation.protocols import TENTHS, search_arguments, weights_of


# Times that a gallery may be as large as that of the validation split: as far as was measured.
MAX_GROWTH = 25
# With fewer, the stated shares are off by more than they say: by 7 points at 90 % (standard deviation).
MIN_PERSONS = 20
# More only make the file larger: the precision is limited by the number of persons.
MAX_QUERIES = 2000
# Validation searches with the nearest best scores, whose share of right first hits is the probability of one.
NEIGHBORS = 100


class UncalibratedError(ValueError):
    """Raised when it is not known what the scores of a search mean; the message says why."""


class SearchScores(BaseModel, frozen=True, extra="forbid"):
    """
    The best scores of Q validation queries, for one clothing weight.

    Args:
        clothing_weight: c, in [0, 1].
        right: (Q,), of the images of the person.
        wrong: (Q,), of the images of other persons.
    """

    clothing_weight: float
    right: list[float]
    wrong: list[float]


class QueryCalibration(BaseModel, frozen=True, extra="forbid"):
    """
    The validation searches by one kind of query.

    Args:
        shortest: the characters of the shortest query.
        scores: the best scores of the queries, by ascending clothing weight.
    """

    shortest: int
    scores: list[SearchScores]


@dataclass(frozen=True)
class ExpectedScores:
    """
    The best scores that Q validation queries would have in a gallery of another size.

    Args:
        right: (Q,), of the images of the person.
        wrong: (Q,), of the images of other persons: the best score, if the person is not in the gallery.
    """

    right: torch.Tensor
    wrong: torch.Tensor

    @property
    def best(self) -> torch.Tensor:
        """(Q,), the best score, if the person is in the gallery."""
        return self.right.maximum(self.wrong)

    def margin(self, coverage: float) -> float:
        """
        The margin of the best score within which the person is in this share of the searches: split conformal
        prediction (Vovk et al., "Algorithmic Learning in a Random World", 2005).

        Args:
            coverage: in (0, 1).
        """
        margins = (self.best - self.right).sort().values
        rank = math.ceil((len(margins) + 1) * coverage)
        return margins[rank - 1].item() if rank <= len(margins) else math.inf

    def probability_of_right(self, scores: torch.Tensor) -> torch.Tensor:
        """
        The probabilities (S,) that the first hits are right, by their scores (S,), if the persons are in the gallery:
        the share of right first hits among the searches with the nearest best scores, by Laplace's rule of succession.
        """
        distances = (self.best - scores[:, None]).abs()
        nearest = distances.topk(min(NEIGHBORS, len(self.best)), largest=False).indices
        return ((self.right > self.wrong)[nearest].sum(1) + 1) / (nearest.shape[1] + 2)

    def absence(self) -> tuple[float, float]:
        """
        The best score below which a person is probably not in the gallery, and the error of saying so: of the searches
        for persons who are in it, this share stays below, and of those for persons who are not, as many reach it.
        """
        thresholds = torch.cat([self.best, self.wrong]).unique()
        missed = torch.searchsorted(self.best.sort().values, thresholds) / len(self.best)
        passing = 1 - torch.searchsorted(self.wrong.sort().values, thresholds) / len(self.wrong)
        errors = missed.maximum(passing)
        return thresholds[errors.argmin()].item(), errors.min().item()


class Calibration(BaseModel, frozen=True, extra="forbid"):
    """
    What the scores of a model mean in a gallery of images alone.

    Args:
        num_images: the images of the validation gallery.
        num_persons: the persons in them.
        queries: the validation searches, by kind of query.
    """

    num_images: int
    num_persons: int
    queries: dict[str, QueryCalibration]

    @classmethod
    def fit(cls, features: Features) -> "Calibration":
        """
        The calibration by a validation split, whose persons the model was not trained on.

        Raises:
            UncalibratedError: if fewer than `MIN_PERSONS` are searched for and in the gallery.
        """
        queries = {}
        for query in features.queries:
            usable = _usable_queries(features, query)
            if len(features.person_ids[features.query_images[query][usable]].unique()) >= MIN_PERSONS:
                weights = weights_of(features, query, TENTHS)
                scores = [_score_queries(features, query, usable, weight) for weight in weights]
                queries[query] = QueryCalibration(shortest=int(features.query_lengths[query].min()), scores=scores)
        if not queries:
            raise UncalibratedError(
                f"The split cannot tell what scores mean: it takes {MIN_PERSONS} persons or more who are searched for "
                "and in the gallery, and better hundreds."
            )
        persons = features.person_ids[features.gallery_images]
        return cls(num_images=len(persons), num_persons=len(persons.unique()), queries=queries)

    @classmethod
    def load(cls, checkpoint: str | Path) -> "Calibration | None":
        """
        The calibration that is kept with a model; None if there is none.

        Args:
            checkpoint: the folder of the model, or its name on the Hub.

        Raises:
            ValueError: if the file is broken.
        """
        if Path(checkpoint).is_dir():
            path = Path(checkpoint) / CALIBRATION
        else:
            optional = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
            path = Path(cached_file(str(checkpoint), CALIBRATION, **optional) or "")
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{path} is broken ({reason}): remove it, or run `bdam calibrate` again.") from None

    def save(self, folder: Path) -> None:
        """Writes the calibration to the folder of its model, completely or not at all."""
        with written_whole(folder / CALIBRATION) as path:
            path.write_text(self.model_dump_json() + "\n", encoding="utf-8")

    def check_length(self, query: str, sentence: str) -> None:
        """
        Checks that a sentence is not shorter than all of validation, since short sentences score lower.

        Raises:
            UncalibratedError: if it is.
        """
        if query in self.queries and len(sentence) < (shortest := self.queries[query].shortest):
            raise UncalibratedError(
                f"What scores mean is not known for a sentence of {len(sentence)} characters: those of validation "
                f"have {shortest} or more."
            )

    def expect(self, query: str, clothing_weight: float, num_images: int) -> ExpectedScores:
        """
        The best scores that the validation queries would have in a gallery of another size.

        The best of N wrong scores exceeds t with probability `1 - (1 - p)^N`, if one does with probability p. So in a
        gallery r times as large, its distribution is the r-th power of that of validation, and a query keeps its
        rank. In a smaller gallery, the scores of validation are taken as they are, so that no more is promised.
        Between two clothing weights, scores are interpolated.

        Args:
            query: `caption` or `identity_description`.
            clothing_weight: c, in [0, 1].
            num_images: the size of the gallery.

        Raises:
            UncalibratedError: if validation has no such queries, or the gallery is more than `MAX_GROWTH` times as
                large.
        """
        if query not in self.queries:
            raise UncalibratedError(
                f"What scores mean is not known for queries by {query.replace('_', ' ')}: validation has none."
            )
        growth = max(num_images / self.num_images, 1.0)
        if growth > MAX_GROWTH:
            raise UncalibratedError(
                f"What scores mean is not known among {num_images:,} images, more than {MAX_GROWTH} times the "
                f"{self.num_images:,} of validation: calibrate with more of them."
            )
        scores = self.queries[query].scores
        weights = torch.tensor([one.clothing_weight for one in scores], dtype=torch.float64)
        above = int((weights < clothing_weight).sum().clamp(max=len(scores) - 1))
        below = max(above - 1, 0)
        share = (
            1.0 if above == below else float((clothing_weight - weights[below]) / (weights[above] - weights[below]))
        )
        right, wrong = (
            torch.tensor(getattr(scores[below], side)).lerp(torch.tensor(getattr(scores[above], side)), share)
            for side in ("right", "wrong")
        )
        return ExpectedScores(right, _maximum_of_more(wrong, growth))


def _usable_queries(features: Features, query: str) -> torch.Tensor:
    """The indices of the queries that have both a right and a wrong image, at most `MAX_QUERIES` of them."""
    right, wrong, _ = _best_scores(features, query, 0.0)
    usable = (right.isfinite() & wrong.isfinite()).nonzero()[:, 0]
    return usable[:: max(math.ceil(len(usable) / MAX_QUERIES), 1)]


def _score_queries(features: Features, query: str, usable: torch.Tensor, clothing_weight: float) -> SearchScores:
    right, wrong, _ = _best_scores(features, query, clothing_weight)
    rounded = {
        side: [round(score, 5) for score in scores[usable].tolist()]
        for side, scores in (("right", right), ("wrong", wrong))
    }
    return SearchScores(clothing_weight=clothing_weight, **rounded)


def _best_scores(features: Features, query: str, clothing_weight: float) -> BestScores:
    entries = torch.arange(len(features.gallery_images))
    return best_scores(**search_arguments(features, "standard", "image", query, clothing_weight, entries))


def _maximum_of_more(maxima: torch.Tensor, growth: float) -> torch.Tensor:
    """Maxima (Q,) of N draws each → the maxima of `growth · N` draws, at equal ranks."""
    number = len(maxima)
    ordered, order = maxima.sort()
    levels = (torch.arange(number, dtype=torch.float64) + 1) / (number + 1)
    positions = (levels ** (1 / growth) * (number + 1) - 1).clamp(0, number - 1)
    lower = positions.long()
    grown = ordered[lower].lerp(ordered[(lower + 1).clamp(max=number - 1)], (positions - lower).to(maxima.dtype))
    return torch.empty_like(maxima).scatter_(0, order, grown)
