"""The model card of a trained and evaluated run."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from PIL import Image

from bdam.data.benchmarks import BENCHMARKS
from bdam.encoding.models import read_effort
from bdam.evaluation.published import TABLE_I
from bdam.evaluation.report import markdown_table
from bdam.evaluation.results import ANALYSIS, Analysis, Results
from bdam.hub.results import circumstances, eval_results, headlines, name_data, tables
from bdam.recipes.recipe import RECIPE, read_recipe
from bdam.recipes.yaml_text import dump_yaml
from configuration_bdam import BDAMConfig


TEMPLATE = Path(__file__).with_name("model_card.md")
# Figures that a run may have: file → caption.
RANKED = "ranked.png"
FIGURES = {
    RANKED: "People found for sentences",
    "analysis/gates.png": "Distributions of the gates",
    "analysis/successes.png": "Captions whose best image is right",
    "analysis/failures.png": "Captions whose first right image comes latest",
}
# Keys of a recipe that hold paths of the training machine; they are not published.
LOCAL_KEYS = ("output_dir", "data")
# Notes on the results of a split that training used.
CAUTIONS = {
    "train": "The model was trained on this split: these numbers say how well it fits, not how well it finds.",
    "validation": "The checkpoint was selected on this split, so that these numbers are better than those of others.",
}
# Benchmarks with captions in English.
ENGLISH = {"cuhk-pedes", "icfg-pedes", "rstpreid"}


def build_card(run: Path, repo_id: str, results: Results) -> ModelCard:
    """
    The card of a run: its recipe, results and figures and, if it was analyzed on data with attributes of persons, R-1
    by attribute.

    Args:
        run: folder of the run.
        repo_id: of its repository on the Hub.
        results: of [`public_results`].
    """
    recipe = read_recipe(run / "model" / RECIPE)
    config = BDAMConfig.from_pretrained(run / "model")
    analysis = read_analysis(run, results[0].weights)
    trained_on = name_data(recipe["data"])
    return ModelCard.from_template(
        _metadata(repo_id, recipe, results),
        template_path=str(TEMPLATE),
        name=repo_id.partition("/")[2],
        repo_id=repo_id,
        use_bdam=config.use_bdam,
        use_fusion=config.use_fusion,
        clothing_weight=config.clothing_weight,
        num_validations=_num_validations(run, config.clothing_weight),
        headlines=headlines(results, config.clothing_weight),
        results=tables(results),
        cautions=CAUTIONS,
        trained_on={trained_on, *trained_on.split(" + ")},
        published=_published(results),
        galleries={result.gallery for result in results},
        protocols={result.protocol for result in results},
        circumstances=circumstances(results),
        figures=[(caption, Path(file).name) for file, caption in figures(run, results[0].weights).items()],
        analysis=analysis,
        bias=_bias(analysis),
        training=f"Trained on {trained_on} by the recipe below.",
        effort=_effort(run),
        recipe=dump_yaml(public_recipe(recipe)).strip(),
    )


def public_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without local paths: an encoder that was read from a folder has the name of the folder."""
    return {
        name: Path(value).name if isinstance(value, str) and _is_local(value) else value
        for name, value in recipe.items()
        if name not in LOCAL_KEYS
    }


def _is_local(name: str) -> bool:
    """Whether an encoder of a recipe is a folder, given as an absolute path, and not a name on the Hub."""
    return Path(name).is_absolute()


def read_analysis(run: Path, weights: str | None) -> Analysis | None:
    """
    The analysis of a run by `bdam analyze`, with the public name of its data; None if there is none of these weights.

    Args:
        run: folder of the run.
        weights: fingerprint of the weights.
    """
    try:
        analysis = Analysis.from_json(run / "analysis" / ANALYSIS)
    except (FileNotFoundError, ValueError):  # there is none, or it is of another version
        return None
    return analysis.model_copy(update={"data": name_data(analysis.data)}) if analysis.weights == weights else None


def figures(run: Path, weights: str | None) -> dict[str, str]:
    """
    File → caption, of the figures of a run that were made with these weights.

    Args:
        run: folder of the run.
        weights: fingerprint of the weights; figures of an earlier training have another.
    """
    analysis = read_analysis(run, weights)
    found = {}
    for file, caption in FIGURES.items():
        if not (run / file).is_file():
            continue
        if file != RANKED and analysis is not None:
            found[file] = f"{caption}: {analysis.split} split of {analysis.data}"
        elif file == RANKED and _read_weights(run / file) == weights:
            found[file] = caption
    return found


def _read_weights(path: Path) -> str | None:
    """The fingerprint of the weights that `bdam search --grid` wrote into its figure."""
    with Image.open(path) as image:
        return image.info.get("weights")


def _metadata(repo_id: str, recipe: dict[str, Any], results: Results) -> ModelCardData:
    encoders = [recipe[f"{kind}_encoder"] for kind in ("vision", "text")]
    is_english = set(name_data(recipe["data"]).split(" + ")) <= ENGLISH
    return ModelCardData(
        language="en" if is_english else None,
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["person-re-identification", "text-to-image-retrieval", "bdam", "custom_code"],
        base_model=[name for name in encoders if isinstance(name, str) and not _is_local(name)] or None,
        model_name=repo_id.partition("/")[2],
        eval_results=eval_results(results),
    )


def _num_validations(run: Path, clothing_weight: float) -> int:
    """
    The number of validations in the training log of which the checkpoint and its clothing weight are the best; 0
    without a log, or if they are not.
    """
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        validations = [values for values in map(json.loads, lines) if "validation_score" in values]
        best = max(validations, key=lambda values: values["validation_score"])
        return len(validations) if best["clothing_weight"] == clothing_weight else 0
    except (ValueError, KeyError, TypeError):  # there are no validations, or it is no training log
        return 0


def _published(results: Results) -> list[tuple[str, str]]:
    """(benchmark, scores in words) that the paper publishes, for those whose test split was evaluated."""
    found = []
    for result in results:
        search, data = (result.split, result.protocol, result.query, result.gallery), result.data
        if search != ("test", "standard", "caption", "image") or data not in TABLE_I:
            continue
        scores, expected = TABLE_I[data]["BDAM"], BENCHMARKS[data].published["test"].images
        text = f"R-1 {scores.r1:.2f}, R-5 {scores.r5:.2f}, R-10 {scores.r10:.2f}, mAP {scores.map:.2f}"
        if result.num_gallery != expected:
            text += (
                f" (this split has {result.num_gallery:,} images, not the {expected:,} published: the two do not "
                "compare)"
            )
        found.append((data, text))
    return list(dict.fromkeys(found))


def _effort(run: Path) -> str | None:
    """The training time and the hardware, in words; None if the run did not record them."""
    effort = read_effort(run / "model") or {}
    return ", and ".join(f"{_duration(seconds)} with {hardware}" for hardware, seconds in effort.items()) or None


def _duration(seconds: float) -> str:
    """A duration in words, in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _bias(analysis: Analysis | None) -> str | None:
    """R-1 by attribute as a table in Markdown; None if it was not analyzed."""
    if analysis is None or not analysis.groups:
        return None
    lines = [["attribute", "value", "R-1", "captions"]]
    for attribute, values in analysis.groups.items():
        for value, group in values.items():
            lines.append([attribute.replace("_", " "), value, f"{group.r1:.2f}", str(group.num_queries)])
    return markdown_table(lines)
