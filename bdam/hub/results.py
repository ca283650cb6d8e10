"""Results as a card gives them: each once, and under its own setting."""

from collections import Counter
from pathlib import Path

from huggingface_hub import EvalResult

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.loading import split_source
from bdam.evaluation.report import markdown_results, markdown_table
from bdam.evaluation.results import METRICS, Origin, Result, Results, Score


SEARCH = ("protocol", "query", "gallery", "clothing_weight")
# What a result measured; all its other fields say of what it was measured, and how.
MEASURED = {*Score.model_fields, "seconds"} - {*SEARCH}
SOURCE = ("data", "split", "checkpoint", "weights")
# What the other fields of an origin are, those first that every evaluation has.
CIRCUMSTANCES = dict.fromkeys(["mixed_precision", "seed", "commit", *Origin.model_fields])
PRECISIONS = {"no": "full precision"}


def public_results(results: Results, repo_id: str) -> Results:
    """
    The results as they are published: of the model by its name on the Hub, of data sets by theirs, each once.

    Raises:
        ValueError: if two data sets have the same name, or one setting has different numbers.
    """
    names = {result.data: name_data(result.data) for result in results}
    if repeated := [source for source, name in names.items() if Counter(names.values())[name] > 1]:
        raise ValueError(
            f"{' and '.join(repeated)} would both be called {names[repeated[0]]!r} on the card: evaluate on one of "
            "them, or rename its folder and evaluate again."
        )
    renamed = (one.model_copy(update={"checkpoint": repo_id, "data": names[one.data]}) for one in results)
    public = Results(dict.fromkeys(renamed))
    differences = differing(public)
    settings = Counter((result.data, result.split, name_setting(result, differences)) for result in public)
    (setting, count), *_ = settings.most_common(1)
    if count > 1:
        raise ValueError(f"There are {count} different results of {', '.join(setting)}: evaluate again.")
    return public


def name_data(source: str) -> str:
    """What a data set is called, without where it lies: benchmarks by name, a folder by its own."""
    return " + ".join(map(_name_part, split_source(source)))


def _name_part(part: str) -> str:
    name, _, root = part.partition(":")
    if name == "own":
        return Path(root.partition(", ")[0]).name  # after the comma stands who was held out
    return name if name in BENCHMARKS else Path(part).name


def differing(results: Results) -> list[str]:
    """What the results differ in, beside the search and the data: nothing, if one evaluation made them."""
    names = [name for name in CIRCUMSTANCES if name not in (*SOURCE, *MEASURED)]
    return [name for name in names if len({getattr(result, name) for result in results}) > 1]


def name_setting(result: Result, differences: list[str]) -> str:
    """The search that a result measured, with whatever else tells it from the others."""
    search = f"{_words(result.query)} → {result.gallery}, clothing {result.clothing_weight}"
    others = (f", {_words(name)} {getattr(result, name)}" for name in differences)
    return f"{result.protocol} protocol, {search}{''.join(others)}"


def eval_results(results: Results) -> list[EvalResult]:
    """
    The metrics of all results for the metadata of a card. The Hub merges results that agree in task, data set,
    config, split and revision, whatever their names, so the setting is the config.
    """
    differences = differing(results)
    found = []
    for result in results:
        setting = name_setting(result, differences)
        task = f"{_modality(result.query)}-to-{_modality(result.gallery)}"
        for metric, label in METRICS.items():
            found.append(
                EvalResult(
                    task_type=f"{task}-retrieval",
                    task_name=f"{task.capitalize()} person retrieval",
                    dataset_type=result.data,
                    dataset_name=f"{result.data}, {setting}",
                    dataset_config=setting,
                    dataset_split=result.split,
                    dataset_args=result.model_dump(exclude_unset=True, exclude={*MEASURED, *SOURCE}),
                    metric_type=metric,
                    metric_name=f"{label} (%)",
                    metric_value=round(getattr(result, metric), 2),
                )
            )
    return found


def headlines(results: Results, clothing_weight: float) -> str | None:
    """
    The few numbers that lead a card, of galleries of images alone on the test split: by caption as the model
    searches unless told otherwise, and by identity description for people who changed clothes.
    """
    chosen = (
        ("standard", "caption", "image", clothing_weight),
        ("clothes-changed", "identity_description", "image", 0.0),
    )
    differences = differing(results)
    lines = [
        [f"{result.data}, {name_setting(result, differences)}", f"{result.r1:.2f}", f"{result.map:.2f}"]
        for search in chosen
        for result in results
        if result.split == "test" and tuple(getattr(result, name) for name in SEARCH) == search
    ]
    return markdown_table([["test split", "R-1 (%)", "mAP (%)"], *lines]) if lines else None


def tables(results: Results) -> list[tuple[str, str, str]]:
    """Data set, split and the table of all results of each, in the order in which they were evaluated."""
    differences = differing(results)
    groups: dict[tuple[str, str], Results] = {}
    for result in results:
        groups.setdefault((result.data, result.split), Results()).append(result)
    return [(*source, markdown_results(group, differences)) for source, group in groups.items()]


def circumstances(results: Results) -> str:
    """How the numbers came about, as far as it is the same for all: the tables tell the rest."""
    first, differences = results[0], differing(results)
    texts = {
        "commit": f"commit {first.commit}",
        "seed": None if first.seed is None else f"a model trained with seed {first.seed}",
        "mixed_precision": PRECISIONS.get(first.mixed_precision, first.mixed_precision),
    }
    return ", ".join(text for name, text in texts.items() if text and name not in differences)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _modality(side: str) -> str:
    """What one side of a search is made of."""
    return "image" if side.startswith("image") else "text"
