"""Records of an evaluation as a card gives them: each once, and under its own setting."""

import json
from collections import Counter
from itertools import groupby
from pathlib import Path

from huggingface_hub import EvalResult

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.loading import split_source
from bdam.evaluation.metrics import PROTOCOLS
from bdam.evaluation.report import METRICS, markdown_table


# What a record measures; whatever else it holds says of what it was measured, and how.
MEASURED = {*METRICS, "chance", "num_queries", "num_gallery", "seconds"}
SEARCH = ("protocol", "query", "gallery", "clothing_weight")
ORIGIN = ("data", "split", "checkpoint", "weights")
# What else `bdam evaluate` says of each of its numbers.
CIRCUMSTANCES = ("mixed_precision", "seed", "commit")
PRECISIONS = {"no": "full precision"}


def is_record(record: object) -> bool:
    """Whether this is a record as `bdam evaluate` and `bdam study` write it."""
    names = (*SEARCH, *ORIGIN, *CIRCUMSTANCES)
    numbers = ("clothing_weight", *METRICS, "num_queries", "num_gallery")
    return (
        isinstance(record, dict)
        and record.keys() >= {*names, *numbers}
        and all(isinstance(record[name], int | float) for name in numbers)
        and all(isinstance(record[name], str) for name in ("query", "gallery", "data", "split"))
        and record["protocol"] in PROTOCOLS
    )


def public_records(records: list[dict], repo_id: str) -> list[dict]:
    """
    The records as they are published: of the model by its name on the Hub, of data sets by theirs, each once.

    Raises:
        ValueError: if two data sets have the same name, or one setting has different numbers.
    """
    names = {record["data"]: name_data(record["data"]) for record in records}
    if repeated := [source for source, name in names.items() if Counter(names.values())[name] > 1]:
        raise ValueError(
            f"{' and '.join(repeated)} would both be called {names[repeated[0]]!r} on the card: evaluate on one of "
            "them, or rename its folder and evaluate again."
        )
    public: list[dict] = []
    for record in records:
        weight = float(record["clothing_weight"])
        record = {**record, "checkpoint": repo_id, "data": names[record["data"]], "clothing_weight": weight}
        if record not in public:
            public.append(record)
    differences = differing(public)
    settings = Counter((record["data"], record["split"], name_setting(record, differences)) for record in public)
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


def setting_of(record: dict) -> dict:
    """All that a record says beside what it measured."""
    return {name: value for name, value in record.items() if name not in MEASURED}


def differing(records: list[dict]) -> list[str]:
    """What the records differ in, beside the search and the data: nothing, if one evaluation wrote them."""
    names = dict.fromkeys([*CIRCUMSTANCES, *(name for record in records for name in setting_of(record))])
    return [
        name
        for name in names
        if name not in (*SEARCH, *ORIGIN) and len({json.dumps(record.get(name)) for record in records}) > 1
    ]


def name_setting(record: dict, differences: list[str]) -> str:
    """The search that a record measured, with whatever else tells it from the others."""
    search = f"{_words(record['query'])} → {record['gallery']}, clothing {record['clothing_weight']}"
    others = (f", {_words(name)} {record.get(name)}" for name in differences)
    return f"{record['protocol']} protocol, {search}{''.join(others)}"


def eval_results(records: list[dict]) -> list[EvalResult]:
    """
    The metrics of all records for the metadata of a card. The Hub merges results that agree in task, data set,
    config, split and revision, whatever their names, so the setting is the config.
    """
    differences = differing(records)
    results = []
    for record in records:
        setting = name_setting(record, differences)
        task = f"{_modality(record['query'])}-to-{_modality(record['gallery'])}"
        for metric, label in METRICS.items():
            results.append(
                EvalResult(
                    task_type=f"{task}-retrieval",
                    task_name=f"{task.capitalize()} person retrieval",
                    dataset_type=record["data"],
                    dataset_name=f"{record['data']}, {setting}",
                    dataset_config=setting,
                    dataset_split=record["split"],
                    dataset_args={name: value for name, value in setting_of(record).items() if name not in ORIGIN},
                    metric_type=metric,
                    metric_name=f"{label} (%)",
                    metric_value=round(record[metric], 2),
                )
            )
    return results


def headlines(records: list[dict], clothing_weight: float) -> str | None:
    """
    The few numbers that lead a card, of galleries of pictures alone on the test split: by caption as the model
    searches unless told otherwise, and by identity description for people who changed clothes.
    """
    chosen = (
        ("standard", "caption", "picture", clothing_weight),
        ("clothes-changed", "identity_description", "picture", 0.0),
    )
    differences = differing(records)
    lines = [
        [f"{record['data']}, {name_setting(record, differences)}", f"{record['r1']:.2f}", f"{record['map']:.2f}"]
        for search in chosen
        for record in records
        if record["split"] == "test" and tuple(record[name] for name in SEARCH) == search
    ]
    return markdown_table([["test split", "R-1 (%)", "mAP (%)"], *lines]) if lines else None


def tables(records: list[dict]) -> list[tuple[str, str, str]]:
    """Data set, split and the table of all records of each; the galleries of a search stand together."""
    differences = differing(records)
    header = ["protocol", "query", "c", "gallery", *METRICS.values(), "queries", "among", *map(_words, differences)]
    # Equal sources stand together in the order in which they were evaluated.
    sources = list(dict.fromkeys((record["data"], record["split"]) for record in records))

    def place(record: dict) -> tuple:
        source = sources.index((record["data"], record["split"]))
        return source, PROTOCOLS.index(record["protocol"]), record["query"], record["clothing_weight"]

    found = []
    for source, group in groupby(sorted(records, key=place), lambda record: (record["data"], record["split"])):
        lines = [
            [
                *(record["protocol"], _words(record["query"]), f"{record['clothing_weight']}", record["gallery"]),
                *(f"{record[metric]:.2f}" for metric in METRICS),
                *(f"{record.get(name, '–')}" for name in ("num_queries", "num_gallery", *differences)),
            ]
            for record in group
        ]
        found.append((*source, markdown_table([header, *lines])))
    return found


def circumstances(records: list[dict]) -> str:
    """How the numbers came about, as far as it is the same for all: the tables tell the rest."""
    first, differences = records[0], differing(records)
    texts = {
        "commit": f"commit {first['commit']}",
        "seed": None if first["seed"] is None else f"a model trained with seed {first['seed']}",
        "mixed_precision": PRECISIONS.get(first["mixed_precision"], first["mixed_precision"]),
    }
    return ", ".join(text for name, text in texts.items() if text and name not in differences)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _modality(side: str) -> str:
    """What one side of a search is made of."""
    return "image" if side.startswith("picture") else "text"
