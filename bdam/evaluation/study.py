"""Studies: recipes × seeds, each trained and evaluated once, and what the seeds say together."""

import json
import os
import shutil
import statistics
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm.auto import tqdm

from bdam.data.loading import load_data, load_split
from bdam.encoding.devices import default_device
from bdam.encoding.encoders import load_encoder
from bdam.encoding.models import fingerprint
from bdam.evaluation.features import extract_features
from bdam.evaluation.launching import run_launcher
from bdam.evaluation.origin import commit, data_source, machine
from bdam.evaluation.protocols import evaluate
from bdam.evaluation.published import ABLATION_TABLES
from bdam.evaluation.report import write_results
from bdam.recipes.recipe import RECIPE, Recipe, changed_keys, load_recipe


# Arguments of `accelerate launch` for one process, as in the Makefile, and of `bdam train`.
LAUNCH = (
    "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no "
    f"--num_cpu_threads_per_process {os.cpu_count()}"
).split()
TRAINING = ["--keep-checkpoints", "1", "--resume"]
# What a study writes into every record of a run, beside the setting and its metrics.
ORIGIN = {"recipe", "seed", "split", "checkpoint", "data", "commit", "machine", "seconds"}
# How much clothing counts: not at all, or as much as validation chose for the run.
CLOTHING = ("identity alone", "mix")
METRICS = ("r1", "r5", "r10", "map")


@dataclass(frozen=True)
class Run:
    """One recipe with one seed; `sources` are what `recipe` was loaded from."""

    name: str
    recipe: Recipe
    sources: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(self.recipe.output_dir)

    @property
    def log(self) -> Path:
        """What training and evaluation said."""
        return self.folder / "train.log"

    @property
    def results(self) -> Path:
        """The records; written whole or not at all, so that a run is done once they are there."""
        return self.folder / "results.json"


def plan_study(
    recipes: list[Path], overrides: list[str], base: list[Path], seeds: list[int], output: Path
) -> list[Run]:
    """
    The runs of a study, recipe by recipe: each recipe is stacked on `base`, and the overrides on both. A run lives in
    `output/<stem of its recipe>/seed-<seed>`.

    Raises:
        FileNotFoundError: if a recipe or the data is not there.
        ValueError: if two recipes have the same name, a recipe, an override or the data is not valid, or a folder
            holds what this study did not make.
    """
    if not recipes:
        raise ValueError("A study needs a recipe at least: give YAML files, such as recipes/ablations/*.yaml.")
    if repeated := _repeated(path.stem for path in recipes):
        raise ValueError(f"A recipe gives its runs their name, and several are called {repeated}: rename them.")
    if repeated := _repeated(seeds):
        raise ValueError(f"Seeds must differ, and {repeated} are given more than once.")
    for override in overrides:
        if override.partition("=")[0] in ("output_dir", "seed"):
            raise ValueError(f"The study sets `output_dir` and `seed`, got {override}: use --output and --seeds.")
    runs = []
    for path in recipes:
        for seed in seeds:
            place = f"output_dir={output / path.stem / f'seed-{seed}'}"
            sources = (*map(str, base), str(path), *overrides, place, f"seed={seed}")
            runs.append(Run(path.stem, load_recipe(*sources), sources))
    _check_data({run.recipe.data for run in runs})
    for run in runs:
        _check_folder(run)
    return runs


def run_study(runs: list[Run], launch: list[str]) -> list[Run]:
    """
    Trains and evaluates the runs that are not done, seed by seed, so that a study that is stopped compares all its
    recipes by the seeds it has. What was interrupted goes on from its last checkpoint. A signal that asks the study to
    stop ends the training process too, which writes a checkpoint; see [`run_launcher`].

    Args:
        launch: arguments of `accelerate launch`, which win over those for one process.

    Returns:
        The runs that failed; their logs say why.

    Raises:
        SystemExit: with 128 + signal, if a signal stopped a training.
    """
    failed = []
    origin = {"commit": commit(), "machine": machine()}
    pending = sorted((run for run in runs if not run.results.is_file()), key=lambda run: run.recipe.seed)
    progress = tqdm(pending, desc="Study", unit="run", total=len(runs), initial=len(runs) - len(pending))
    for run in progress:
        progress.set_postfix_str(f"{run.name}, seed {run.recipe.seed}")
        run.folder.mkdir(parents=True, exist_ok=True)
        with run.log.open("a", encoding="utf-8") as log:
            try:
                start = time.perf_counter()
                if stopped_by := _train(run, launch, log):
                    progress.close()
                    print(f"Stopped by signal {stopped_by}; the same command goes on.", file=sys.stderr)
                    raise SystemExit(128 + stopped_by)
                records = _evaluate(run)
                seconds = time.perf_counter() - start
                write_results(run.results, [{**record, **origin, "seconds": seconds} for record in records])
                shutil.rmtree(run.folder / "checkpoints")  # a run that is done does not go on
            except Exception:  # whatever it is, it must not cost the other runs
                traceback.print_exc(file=log)
                failed.append(run)
    return failed


def read_results(run: Run) -> list[dict]:
    """The records of a run; none if it is not done."""
    if not run.results.is_file():
        return []
    try:
        records = json.loads(run.results.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        records = []
    if not records or not records[0].keys() >= ORIGIN:
        raise ValueError(f"{run.results} was not written by a study: remove it, and run the study again.")
    return records


def aggregate(records: list[dict]) -> list[dict]:
    """
    Mean and standard deviation (n − 1; None for a single run) over the seeds.

    Args:
        records: those of [`evaluate`] for the clothing weights 0 and the model's own, in this order, with `recipe` and
            `seed`.

    Returns:
        Rows `{recipe, protocol, gallery, query, clothing, clothing_weight, runs, chance, r1, r1_std, …, map_std,
        published_r1, …, published_map}`, in the order of the records. `clothing` is one of `CLOTHING`;
        `clothing_weight` is a mean, too, since each run chooses its own; `published_…` is None where the paper has no
        such row.
    """
    of_run: dict[tuple, list[dict]] = defaultdict(list)
    for record in records:
        of_run[tuple(record[key] for key in ("recipe", "protocol", "gallery", "query", "seed"))].append(record)
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for (*setting, _), weighed in of_run.items():
        # The order tells the two apart even where the model's own weight is 0; without clothing there is but one.
        for clothing, record in zip(CLOTHING, weighed, strict=False):
            groups[(*setting, clothing)].append(record)
    return [_row(setting, group) for setting, group in groups.items()]


def describe(runs: list[Run], records: list[dict], command: str) -> dict[str, str]:
    """The circumstances of a study, for its report; where the runs differ in one, all its values."""

    def values(name: str) -> str:
        return "; ".join(sorted({str(record[name]) for record in records}))

    seconds = {(record["recipe"], record["seed"]): record["seconds"] for record in records}
    header = {
        "command": f"`{command}`",
        "data": f"{values('data')}, test split, gallery of {values('num_gallery')} pictures",
        "commit": values("commit"),
        "seeds": values("seed"),
        "machine": values("machine"),
        "wall time": f"{statistics.mean(seconds.values()) / 60:.1f} min per run since its last start, "
        f"mean of {len(seconds)}",
        "selection": "epochs and clothing weights were chosen on the validation split",
    }
    if missing := [f"{run.name} seed {run.recipe.seed}" for run in runs if not run.results.is_file()]:
        header["missing"] = ", ".join(missing)
    if twins := _twins(runs):
        header["one and the same on this base"] = "; ".join(" = ".join(names) for names in twins)
    return header


def _row(setting: tuple, group: list[dict]) -> dict:
    def mean(name: str) -> float:
        return statistics.mean(record[name] for record in group)

    row = dict(zip(("recipe", "protocol", "gallery", "query", "clothing"), setting, strict=True))
    row |= {"clothing_weight": mean("clothing_weight"), "runs": len(group), "chance": mean("chance")}
    for name in METRICS:
        row[name] = mean(name)
        row[f"{name}_std"] = statistics.stdev(record[name] for record in group) if len(group) > 1 else None
    is_published = row["protocol"] == "standard" and row["query"] == "caption" and row["recipe"] in ABLATION_TABLES
    published = ABLATION_TABLES[row["recipe"]] if is_published else [None] * len(METRICS)
    return row | {f"published_{name}": value for name, value in zip(METRICS, published, strict=True)}


def _twins(runs: list[Run]) -> list[list[str]]:
    """Names of recipes that differ in name only, such as one that drops a loss which its base does not have."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        names[run.recipe.model_dump_json(exclude={"output_dir", "seed"})][run.name] = None
    return [list(group) for group in names.values() if len(group) > 1]


def _train(run: Run, launch: list[str], log: TextIO) -> int:
    """Returns the signal that stopped it, 0 if none. In processes of its own: it may use several, and die alone."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, *launch]
    return run_launcher([*launcher, "-m", "bdam.cli", "train", *run.sources, *TRAINING], log.buffer)


def _evaluate(run: Run) -> list[dict]:
    checkpoint = run.folder / "model"
    encoder = load_encoder(str(checkpoint))
    encoder.model.to(default_device())
    dataset = load_split(run.recipe.data, "test")
    features = extract_features(encoder, dataset, run.recipe.eval_batch_size)
    return evaluate(
        features,
        (0.0, encoder.model.config.clothing_weight),
        recipe=run.name,
        seed=run.recipe.seed,
        split="test",
        checkpoint=str(checkpoint),
        weights=fingerprint(checkpoint),
        data=data_source(dataset, run.recipe.data),
        mixed_precision="no",
    )


def _check_data(folders: set[str]) -> None:
    if len(folders) > 1:
        raise ValueError(f"A study compares recipes on the same `data`, got {sorted(folders)}.")
    (folder,) = folders
    data = load_data(folder)
    for split in ("train", "validation", "test"):
        if not len(data.get(split, ())):
            raise ValueError(f"{folder}: the split {split!r} is missing or empty, and a study needs it.")


def _check_folder(run: Run) -> None:
    """What is there must be the work of the same recipe: otherwise a report would mix two studies."""
    read_results(run)
    model = run.folder / "model"
    if (model / RECIPE).is_file() and (changed := changed_keys(model, run.recipe)):
        keys = ", ".join(f"`{key}`" for key in changed)
        raise ValueError(f"{run.folder} was trained with another {keys}: remove it, or give another --output.")


def _repeated(values: Iterable) -> list:
    return [value for value, count in Counter(values).items() if count > 1]
