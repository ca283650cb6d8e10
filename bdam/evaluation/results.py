"""Results of evaluations, studies and analyses: their types, their files, and what must hold of these."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bdam.data.writing import write_json
from bdam.evaluation.metrics import PROTOCOLS


RESULTS = "results.json"
ANALYSIS = "analysis.json"
# The metrics of a score, percentages, under their names in print.
METRICS = {"r1": "R-1", "r5": "R-5", "r10": "R-10", "map": "mAP", "minp": "mINP"}


class Score(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    What one search of a split scored; see [`bdam.evaluation.metrics.retrieval_metrics`].

    Args:
        protocol: which images of the query's person count as right.
        gallery: what is searched: `image`, `image+description`, `description` or, image-to-text, `caption`.
        query: what it is searched by: `caption`, `identity_description` or, image-to-text, a kind of gallery.
        clothing_weight: how much clothing counts, c in `(1 - c)·identity + c·clothing`.
        r1, r5, r10, map, minp: percentages, 0 to 100.
        chance: the `r1` of a random order, a percentage.
        num_queries, num_gallery: how many; means where the protocol averages over several galleries.
    """

    protocol: str = Field(pattern=f"^({'|'.join(PROTOCOLS)})$")
    gallery: str
    query: str
    clothing_weight: float
    r1: float
    r5: float
    r10: float
    map: float
    minp: float
    chance: float
    num_queries: int | float
    num_gallery: int | float


class Origin(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    Where a score comes from.

    Args:
        split: `train`, `validation` or `test`.
        checkpoint: the folder of the model, or its name on the Hub.
        weights: the fingerprint of the weights; None for a model of the Hub.
        data: what the split was read from.
        seed: what the model was trained with; None where it does not say.
        commit: the code that evaluated.
        mixed_precision: `no`, `fp16` or `bf16`.
        recipe: the name of the recipe in a study; None elsewhere, as are the following.
        machine: what the study ran on.
        seconds: how long training and evaluation took.
    """

    split: str
    checkpoint: str
    weights: str | None
    data: str
    seed: int | None
    commit: str
    mixed_precision: str
    recipe: str | None = None
    machine: str | None = None
    seconds: float | None = None


class Result(Origin, Score, frozen=True, strict=True, extra="forbid"):
    """A [`Score`] with its [`Origin`]: one record of `results.json`."""


class Results(list[Result]):
    """
    The results of one or several checkpoints.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from bdam.evaluation.results import Results
    >>> results = Results.from_json(Path("docs/results/demo.json"))
    >>> results[0].protocol, results[0].query, results[0].gallery
    ('standard', 'caption', 'image')
    ```
    """

    def to_json(self, path: Path) -> None:
        """Writes the results as a list of flat records, whole or not at all."""
        write_json(path, [result.model_dump(exclude_unset=True) for result in self])

    @classmethod
    def from_json(cls, path: Path) -> "Results":
        """
        Reads what [`to_json`] wrote.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it holds anything else.
        """
        return cls(_read(path, TypeAdapter(list[Result]), "results"))


@dataclass(frozen=True)
class StudyRow:
    """
    What the runs of one recipe score in one setting: means, and standard deviations over the seeds (n − 1).

    Args:
        recipe, protocol, gallery, query: the setting.
        clothing: `identity alone`, or `mix` for as much clothing as validation chose for each run.
        clothing_weight: how much that was, a mean.
        runs: how many; of one alone, the deviations are None.
        chance: the `r1` of a random order, a percentage.
        r1, r1_std, r5, …, map_std: percentages.
        published_r1, …, published_map: what the paper publishes of the recipe; None where it has no such row.
    """

    recipe: str
    protocol: str
    gallery: str
    query: str
    clothing: str
    clothing_weight: float
    runs: int
    chance: float
    r1: float
    r1_std: float | None
    r5: float
    r5_std: float | None
    r10: float
    r10_std: float | None
    map: float
    map_std: float | None
    published_r1: float | None
    published_r5: float | None
    published_r10: float | None
    published_map: float | None


class MeanStd(BaseModel, frozen=True, extra="forbid"):
    """A mean and its standard deviation; None where the paper does not give it."""

    mean: float
    std: float | None = None


class GateStatistics(MeanStd, frozen=True, extra="forbid"):
    """Mean and standard deviation over images and channels, and the paper's."""

    paper: MeanStd


class Probes(BaseModel, frozen=True, extra="forbid"):
    """
    What linear probes read from features.

    Args:
        areas: areas under the ROC curve by feature, `f_id` or `f_clo`: means over the terms.
        terms: `{"term": term, "f_id": area, "f_clo": area}` for each term, without the features that there are not.
    """

    areas: dict[str, float]
    terms: list[dict[str, str | float]]


class GroupRecall(BaseModel, frozen=True, extra="forbid"):
    """R-1 of the queries that ask for people of one group, in percent, and how many queries these are."""

    r1: float
    num_queries: int


class Analysis(BaseModel, frozen=True, extra="forbid"):
    """
    What `bdam analyze` finds in a run: `analysis.json`.

    Args:
        run: the folder of the run.
        seed: what it was trained with; None where it does not say.
        sampling_seed: what examples, maps and probes were drawn with.
        weights: the fingerprint of the weights.
        clothing_weight: the model's own.
        data, split, num_images: what it was analyzed on.
        gates, fusion_weights: by stream; empty where the model has none.
        probes: by kind of description, `identity` and `clothing`; only kinds with terms to ask for.
        groups: by attribute and value; empty where the data knows none.
        logged: the quantities of the training log.
        figures: whether there was anything to draw, by name of the file.
    """

    run: str
    seed: int | None
    sampling_seed: int
    weights: str | None
    clothing_weight: float
    data: str
    split: str
    num_images: int
    gates: dict[str, GateStatistics]
    fusion_weights: dict[str, GateStatistics]
    probes: dict[str, Probes]
    groups: dict[str, dict[str, GroupRecall]]
    logged: list[str]
    figures: dict[str, bool]

    def to_json(self, path: Path) -> None:
        """Writes the analysis, whole or not at all."""
        write_json(path, self.model_dump(exclude_unset=True))

    @classmethod
    def from_json(cls, path: Path) -> "Analysis":
        """Reads what [`to_json`] wrote; raises what [`Results.from_json`] does."""
        return _read(path, TypeAdapter(cls), "analysis")


def _read(path: Path, adapter: TypeAdapter, name: str) -> Any:
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ", ".join(map(str, first["loc"]))
        raise ValueError(f"{path} holds no {name}: {where + ': ' if where else ''}{first['msg']}.") from None
