"""The model card: what was measured, and nothing else."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bdam.data.benchmarks import BENCHMARKS
from bdam.evaluation.metrics import PROTOCOLS
from bdam.evaluation.published import TABLE_I
from bdam.evaluation.report import METRICS, markdown_table
from bdam.training.models import RECIPE
from bdam.training.recipes import read_recipe
from bdam.training.yaml_text import dump_yaml


TEMPLATE = Path(__file__).with_name("model_card.md")
# Figures that a run may have, and what they show.
FIGURES = {
    "ranked.png": "People found for sentences",
    "analysis/gates.png": "Distributions of the gates",
    "analysis/successes.png": "Captions whose best picture is right",
    "analysis/failures.png": "Captions whose first right picture comes latest",
}
# What a run says of the machine that it was made on, and of nothing else.
LOCAL_KEYS = ("output_dir", "data")


def build_card(run: Path, repo_id: str, records: list[dict]) -> ModelCard:
    """
    The card of a run: its recipe, its records of the test split, its figures and, where the run was analysed on data
    that knows attributes, how well it finds whom.
    """
    recipe = read_recipe(run / "model" / RECIPE)
    config = json.loads((run / "model/config.json").read_text(encoding="utf-8"))
    first = records[0]
    data = name_data(first["data"])
    return ModelCard.from_template(
        _metadata(repo_id, data, recipe, records),
        template_path=str(TEMPLATE),
        name=repo_id.partition("/")[2],
        repo_id=repo_id,
        clothing_weight=config["clothing_weight"],
        split=first["split"],
        data=data,
        results=_results(records),
        commit=first["commit"],
        seed=first["seed"],
        precision={"no": "full precision"}.get(first["mixed_precision"], first["mixed_precision"]),
        published=_published(data),
        figures=[(caption, Path(file).name) for file, caption in FIGURES.items() if (run / file).is_file()],
        bias=_bias(run),
        training=f"Trained on {name_data(recipe['data'])} by this recipe:",
        recipe=dump_yaml(public_recipe(recipe)).strip(),
    )


def public_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without the places of one machine."""
    return {name: value for name, value in recipe.items() if name not in LOCAL_KEYS}


def name_data(source: str) -> str:
    """What a data set is called, without where it lies: benchmarks by name, a folder by its own."""
    parts = [part.split(":", 1)[0] for part in source.split("+") if part.split(":", 1)[0] in BENCHMARKS]
    return " + ".join(parts) if parts else Path(source).name


def _metadata(repo_id: str, data: str, recipe: dict[str, Any], records: list[dict]) -> ModelCardData:
    encoders = [recipe[f"{kind}_encoder"] for kind in ("vision", "text")]
    results = [
        EvalResult(
            task_type="text-to-image-retrieval",
            task_name="Text-to-image person retrieval",
            dataset_type=data,
            dataset_name=f"{data}, {record['protocol']} protocol, gallery of {record['gallery']}",
            dataset_split=record["split"],
            metric_type=metric,
            metric_name=f"{label} by {record['query'].replace('_', ' ')}, clothing {record['clothing_weight']}",
            metric_value=round(record[metric], 2),
        )
        for record in records
        for metric, label in METRICS.items()
    ]
    return ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["person-re-identification", "text-to-image-retrieval", "bdam", "custom_code"],
        base_model=[encoder for encoder in encoders if isinstance(encoder, str)] or None,
        model_name=repo_id.partition("/")[2],
        eval_results=results,
    )


def _results(records: list[dict]) -> str:
    lines = [["protocol", "query", "c", "gallery", *METRICS.values(), "queries", "among"]]
    # The three galleries of a search stand together.
    for record in sorted(records, key=_setting):
        setting = (record["protocol"], record["query"].replace("_", " "), f"{record['clothing_weight']}")
        values = (f"{record[metric]:.2f}" for metric in METRICS)
        lines.append([*setting, record["gallery"], *values, str(record["num_queries"]), str(record["num_gallery"])])
    return markdown_table(lines)


def _setting(record: dict) -> tuple:
    return PROTOCOLS.index(record["protocol"]), record["query"], record["clothing_weight"]


def _published(data: str) -> str | None:
    if data not in TABLE_I:
        return None
    scores = TABLE_I[data]["BDAM"]
    return f"R-1 {scores.r1:.2f}, R-5 {scores.r5:.2f}, R-10 {scores.r10:.2f}, mAP {scores.map:.2f}"


def _bias(run: Path) -> str | None:
    path = run / "analysis/analysis.json"
    groups = json.loads(path.read_text(encoding="utf-8")).get("groups") if path.is_file() else None
    if not groups:
        return None
    lines = [["attribute", "value", "R-1", "captions"]]
    for attribute, values in groups.items():
        for value, group in values.items():
            lines.append([attribute.replace("_", " "), value, f"{group['r1']:.2f}", str(group["num_queries"])])
    return markdown_table(lines)
