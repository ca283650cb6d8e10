"""The types of results of evaluations, studies and analyses, and their files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bdam.data.writing import write_json
from bdam.evaluation.metrics import PROTOCOLS


RESULTS = "results.json"
ANALYSIS = "analysis.json"
# The metrics of a score, in percent, with their printed names.
METRICS = {"r1": "R-1", "r5": "R-5", "r10": "R-10", "map": "mAP", "minp": "mINP"}


class Score(BaseModel, frozen=True, strict=True, extra="forbid"):
    """
    The metrics of one setting; see [`bdam.evaluation.metrics.retrieval_metrics`].

    Args:
        protocol: `standard`, `same-clothes` or `clothes-changed`.
        gallery: `image`, `image+description`, `description` or, image-to-text, `caption`.
        query: `caption`, `identity_description` or, image-to-text, a kind of gallery.
        clothing_weight: how much clothing counts, c in `(1 - c)·identity + c·clothing`.
        r1, r5, r10, map, minp: percentages, 0 to 100.
        chance: the `r1` of a random order, in percent.
        num_queries: the number of queries with a positive.
        num_gallery: the number of gallery entries. Both are means if the protocol averages over several galleries.
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
    The origin of a score.

    Args:
        split: `train`, `validation` or `test`.
        checkpoint: the folder of the model, or its name on the Hub.
        weights: the fingerprint of the weights; None for a model of the Hub.
        data: the data set; see [`bdam.evaluation.origin.data_source`].
        seed: the seed of the training; None if it is not known.
        commit: the commit of the code that evaluated the model.
        mixed_precision: `no`, `fp16` or `bf16`.
        recipe: the name of the recipe in a study; None elsewhere, as is the following.
        machine: the machine that the study ran on.
        seconds: the duration of the training; None if it is not known.
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
        """Writes the results as a list of flat JSON objects, completely or not at all."""
        write_json(path, [result.model_dump(exclude_unset=True) for result in self])

    @classmethod
    def from_json(cls, path: Path) -> "Results":
        """
        The results in a file that [`to_json`] wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if its content is not valid.
        """
        return cls(_read(path, TypeAdapter(list[Result]), "results"))


@dataclass(frozen=True)
class StudyRow:
    """
    The metrics of a recipe in one setting: means and standard deviations (n − 1) over its runs.

    Args:
        recipe, protocol, gallery, query: the setting.
        clothing: `identity alone`, or `mix` for the clothing weight that validation chose for each run.
        clothing_weight: the mean clothing weight.
        seeds: those of its runs; if there is one, the standard deviations are None.
        minutes: the mean duration of the trainings; None if one of them is not known.
        chance: the `r1` of a random order, in percent.
        r1, r1_std, r5, …, map_std: percentages.
        published_r1, …, published_map: the results of the recipe in the paper; None if it has no such row.
    """

    recipe: str
    protocol: str
    gallery: str
    query: str
    clothing: str
    clothing_weight: float
    seeds: tuple[int | None, ...]
    minutes: float | None
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
    """A mean, and a standard deviation; None if the paper does not give it."""

    mean: float
    std: float | None = None


class GateStatistics(MeanStd, frozen=True, extra="forbid"):
    """Mean and standard deviation over images and channels, and those of the paper."""

    paper: MeanStd


class Probes(BaseModel, frozen=True, extra="forbid"):
    """
    The areas under the ROC curves of linear probes.

    Args:
        areas: means over the terms, by feature, `f_id` and `f_clo`.
        terms: `{"term": term, "f_id": area, "f_clo": area}` for each term; without features that the model lacks.
    """

    areas: dict[str, float]
    terms: list[dict[str, str | float]]


class GroupRecall(BaseModel, frozen=True, extra="forbid"):
    """R-1, in percent, of the queries for persons of one group, and the number of these queries."""

    r1: float
    num_queries: int


class Analysis(BaseModel, frozen=True, extra="forbid"):
    """
    The analysis of a run, as `bdam analyze` writes it to `analysis.json`.

    Args:
        run: the folder of the run.
        seed: the seed of the training; None if it is not known.
        sampling_seed: the seed of the examples, maps and probes.
        weights: the fingerprint of the weights.
        clothing_weight: the model's own.
        data: the data set; see [`bdam.data.loading.load_data`].
        split: `train`, `validation` or `test`.
        num_images: the number of images in the split.
        gates: statistics by stream, `identity` and `clothing`; empty if the model has no gate.
        fusion_weights: statistics by input, `image` and `description`; empty if the model has no fusion.
        probes: by kind of term, `identity` and `clothing`; only kinds that have terms.
        groups: by attribute and value; empty if the data has no attributes.
        logged: the quantities of the training log.
        figures: whether each figure was drawn, by file name.
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
        """Writes the analysis as JSON, completely or not at all."""
        write_json(path, self.model_dump(exclude_unset=True))

    @classmethod
    def from_json(cls, path: Path) -> "Analysis":
        """The analysis in a file that [`to_json`] wrote. Errors are those of [`Results.from_json`]."""
        return _read(path, TypeAdapter(cls), "analysis")


def _read(path: Path, adapter: TypeAdapter, name: str) -> Any:
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ", ".join(map(str, first["loc"]))
        raise ValueError(f"{path} holds no {name}: {where + ': ' if where else ''}{first['msg']}.") from None
