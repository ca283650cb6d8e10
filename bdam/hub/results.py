"""Results for a model card: each once, with the setting that it was measured in."""

from collections import Counter
from pathlib import Path

from huggingface_hub import EvalResult, EvalResultEntry

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.hub import ADDRESS, HUB
from bdam.data.loading import split_source
from bdam.evaluation.report import markdown_results, markdown_table
from bdam.evaluation.results import METRICS, Origin, Result, Results, Score


# What a search of each protocol is best made by: captions, with the default clothing weight of the model, or where
# clothes have changed descriptions of identity, without clothing.
FITTING_QUERIES = {"standard": "caption", "clothes-changed": "identity_description"}
SEARCH = ("protocol", "query", "gallery", "clothing_weight")
# Fields of a result that are measured; the others describe the setting.
MEASURED = {*Score.model_fields, "seconds"} - {*SEARCH}
SOURCE = ("data", "split", "checkpoint", "weights")
# Fields of a setting, those first that every evaluation has.
CIRCUMSTANCES = dict.fromkeys(["mixed_precision", "seed", "commit", *Origin.model_fields])
PRECISIONS = {"no": "full precision"}


def public_results(results: Results, repo_id: str) -> Results:
    """
    The results with public names of the model and the data sets, each once.

    Args:
        results: of one model.
        repo_id: name of the model on the Hub.

    Raises:
        ValueError: if two data sets would have the same name, or one setting has different results.
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
    """The public name of a data set, without its path: that of a benchmark, or of a folder."""
    return " + ".join(map(_name_part, split_source(source)))


def _name_part(part: str) -> str:
    name, _, root = part.partition(":")
    if name == HUB:
        return root
    if name == "own":
        return Path(root.partition(", ")[0]).name  # after the comma: which persons were held out
    return name if name in BENCHMARKS else Path(part).name


def differing(results: Results) -> list[str]:
    """The fields in which results differ, apart from the search and the data; none if one evaluation made them."""
    names = [name for name in CIRCUMSTANCES if name not in (*SOURCE, *MEASURED)]
    return [name for name in names if len({getattr(result, name) for result in results}) > 1]


def name_setting(result: Result, differences: list[str]) -> str:
    """
    The setting of a result, in words.

    Args:
        result: to name.
        differences: fields to include, see [`differing`].
    """
    search = f"{_words(result.query)} → {result.gallery}, clothing {result.clothing_weight}"
    others = (f", {_words(name)} {getattr(result, name)}" for name in differences)
    return f"{result.protocol} protocol, {search}{''.join(others)}"


def eval_results(results: Results) -> list[EvalResult]:
    """
    The metrics of all results, for the metadata of a card.

    The Hub merges results of equal task, data set, config, split and revision, so the config is the setting.
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
    The table at the head of a card; None if there are no such results.

    It has the searches of [`FITTING_QUERIES`] of images alone, on the test split.

    Args:
        results: of [`public_results`].
        clothing_weight: the default of the model, in [0, 1].
    """
    differences = differing(results)
    lines = [
        [f"{result.data}, {name_setting(result, differences)}", f"{result.r1:.2f}", f"{result.map:.2f}"]
        for result in _of_fitting_queries(results, clothing_weight)
    ]
    return markdown_table([["test split", "R-1 (%)", "mAP (%)"], *lines]) if lines else None


def leaderboard_entries(results: Results, clothing_weight: float) -> list[EvalResultEntry]:
    """
    R-1 of the searches of [`headlines`] on data sets of the Hub, for `.eval_results` of the repository. The task is
    the protocol, with the config of the data set before it, if it has one; see [`bdam.hub.data.benchmark_tasks`].

    Args:
        results: of [`public_results`].
        clothing_weight: the default of the model, in [0, 1].
    """
    differences = differing(results)
    entries = []
    for result in _of_fitting_queries(results, clothing_weight):
        if match := ADDRESS.fullmatch(result.data):
            entry = EvalResultEntry(
                dataset_id=match["repo_id"],
                task_id="_".join(filter(None, (match["config"], result.protocol))),
                value=round(result.r1, 2),
                dataset_revision=match["revision"],
                notes=f"R-1 (%), {name_setting(result, differences)}",
            )
            entries.append(entry)
    return entries


def _of_fitting_queries(results: Results, clothing_weight: float) -> list[Result]:
    return [
        result
        for protocol, query in FITTING_QUERIES.items()
        for result in results
        if (result.split, result.gallery, result.protocol, result.query) == ("test", "image", protocol, query)
        and result.clothing_weight == (clothing_weight if query == "caption" else 0.0)
    ]


def tables(results: Results) -> list[tuple[str, str, str]]:
    """(data set, split, table of all its results in Markdown), in the order of evaluation."""
    differences = differing(results)
    groups: dict[tuple[str, str], Results] = {}
    for result in results:
        groups.setdefault((result.data, result.split), Results()).append(result)
    return [(*source, markdown_results(group, differences)) for source, group in groups.items()]


def circumstances(results: Results) -> str:
    """Commit, seed and precision of the results, in words, as far as they are the same for all."""
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
    """`"image"` or `"text"`, of one side of a search."""
    return "image" if side.startswith("image") else "text"
