"""Studies: trains and evaluates several recipes with several seeds, and averages over the seeds."""

import os
import shutil
import statistics
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm.auto import tqdm

from bdam.data.loading import load_data
from bdam.evaluation.evaluate import evaluate_checkpoint
from bdam.evaluation.launching import run_launcher
from bdam.evaluation.origin import commit, machine
from bdam.evaluation.published import ABLATION_TABLES
from bdam.evaluation.results import RESULTS, Result, Results, StudyRow
from bdam.recipes.recipe import RECIPE, Recipe, changed_keys, load_recipe
from configuration_bdam import BDAMConfig


# Arguments of `accelerate launch` for one process, and of `bdam train`.
LAUNCH = (
    "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no "
    f"--num_cpu_threads_per_process {os.cpu_count()}"
).split()
TRAINING = ["--keep-checkpoints", "1", "--resume"]
# The two clothing weights of a result: 0, and the one that validation chose for the run.
CLOTHING = ("identity alone", "mix")
METRICS = ("r1", "r5", "r10", "map")


@dataclass(frozen=True)
class Run:
    """One recipe with one seed; `sources` are the files and overrides of `recipe`."""

    name: str
    recipe: Recipe
    sources: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(self.recipe.output_dir)

    @property
    def log(self) -> Path:
        """The file with the output of training and evaluation."""
        return self.folder / "train.log"

    @property
    def results(self) -> Path:
        """The file with the results. A run is finished if it exists, since it is written completely or not at all."""
        return self.folder / RESULTS


def plan_study(
    recipes: list[Path], overrides: list[str], base: list[Path], seeds: list[int], output: Path
) -> list[Run]:
    """
    The runs of a study, recipe by recipe.

    Args:
        recipes: YAML files.
        overrides: `KEY=VALUE` for all recipes.
        base: YAML files that all recipes override.
        seeds: the seeds of each recipe.
        output: the folder of the study; a run is in `output/<stem of its recipe>/seed-<seed>`.

    Raises:
        FileNotFoundError: if a recipe or the data does not exist.
        ValueError: if two recipes have the same name; if a recipe, an override or the data is not valid; or if a
            folder has files of another study.
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
            folder = output / path.stem / f"seed-{seed}"
            sources = (*map(str, base), str(path), *overrides, f"output_dir={folder}", f"seed={seed}")
            runs.append(Run(path.stem, load_recipe(*sources), sources))
    _check_data({run.recipe.data for run in runs})
    for run in runs:
        _check_folder(run)
    return runs


def run_study(runs: list[Run], launch: list[str]) -> list[Run]:
    """
    Trains and evaluates the runs that are not finished, seed by seed, so that a stopped study has all recipes with the
    same seeds. Interrupted runs resume from their last checkpoint. A signal that stops the study also stops the
    training, which writes a checkpoint; see [`run_launcher`].

    Args:
        runs: the runs of the study.
        launch: arguments of `accelerate launch`, which override those for one process.

    Returns:
        The runs that failed. Their logs have the errors.

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
                if stopped_by := _train(run, launch, log):
                    progress.close()
                    print(f"Stopped by signal {stopped_by}; the same command resumes the study.", file=sys.stderr)
                    raise SystemExit(128 + stopped_by)
                stamp = {"recipe": run.name, **origin}
                results = Results(result.model_copy(update=stamp) for result in _evaluate(run))
                results.to_json(run.results)
                shutil.rmtree(run.folder / "checkpoints")  # a finished run is not resumed
            except Exception:  # the other runs continue after any error
                traceback.print_exc(file=log)
                failed.append(run)
    return failed


def read_results(run: Run) -> Results:
    """
    The results of a run, with recipe and machine; empty if it is not finished.

    Raises:
        ValueError: if they were not written by a study.
    """
    if not run.results.is_file():
        return Results()
    remedy = "remove it, and run the study again."
    try:
        results = Results.from_json(run.results)
    except ValueError as error:
        raise ValueError(f"{run.results} was not written by a study: {remedy} {error}") from None
    if not results or any(None in (result.recipe, result.machine) for result in results):
        raise ValueError(f"{run.results} was not written by a study: {remedy}")
    return results


def aggregate(results: Iterable[Result]) -> list[StudyRow]:
    """
    Means and standard deviations over the seeds, in the order of the results.

    Args:
        results: results of studies; each setting has first the clothing weight 0, then the model's own.
    """
    by_run: dict[tuple, list[Result]] = defaultdict(list)
    for result in results:
        by_run[result.recipe, result.protocol, result.gallery, result.query, result.seed].append(result)
    groups: dict[tuple, list[Result]] = defaultdict(list)
    for (*setting, _), weighed in by_run.items():
        # By order, since the model's own weight may be 0 too; without clothing there is only one result.
        for clothing, result in zip(CLOTHING, weighed, strict=False):
            groups[(*setting, clothing)].append(result)
    return [_row(setting, group) for setting, group in groups.items()]


def describe(runs: list[Run], results: Results, command: str) -> dict[str, str]:
    """The circumstances of a study for its report, by name; if the runs differ in one, all its values."""

    def values(name: str) -> str:
        return "; ".join(sorted({str(getattr(result, name)) for result in results}))

    header = {
        "command": f"`{command}`",
        "data": f"{values('data')}, test split, gallery of {values('num_gallery')} images",
        "commit": values("commit"),
        "seeds": values("seed"),
        "machine": values("machine"),
        "selection": "epochs and clothing weights were chosen on the validation split",
    }
    if missing := [f"{run.name} seed {run.recipe.seed}" for run in runs if not run.results.is_file()]:
        header["missing"] = ", ".join(missing)
    if groups := _equal_recipes(runs):
        header["equal on this base"] = "; ".join(" = ".join(names) for names in groups)
    return header


def _row(setting: tuple, group: list[Result]) -> StudyRow:
    recipe, protocol, gallery, query, clothing = setting

    def values(name: str) -> list[float]:
        return [getattr(result, name) for result in group]

    is_published = protocol == "standard" and query == "caption" and recipe in ABLATION_TABLES
    numbers: dict[str, Any] = {}
    for name in METRICS:
        numbers[name] = statistics.mean(values(name))
        numbers[f"{name}_std"] = statistics.stdev(values(name)) if len(group) > 1 else None
        numbers[f"published_{name}"] = getattr(ABLATION_TABLES[recipe], name) if is_published else None
    return StudyRow(
        recipe=recipe,
        protocol=protocol,
        gallery=gallery,
        query=query,
        clothing=clothing,
        clothing_weight=statistics.mean(values("clothing_weight")),
        seeds=tuple(result.seed for result in group),
        minutes=None if None in values("seconds") else statistics.mean(values("seconds")) / 60,
        chance=statistics.mean(values("chance")),
        **numbers,
    )


def _equal_recipes(runs: list[Run]) -> list[list[str]]:
    """Groups of names of equal recipes, such as one that removes a loss which its base does not have."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        names[run.recipe.model_dump_json(exclude={"output_dir", "seed"})][run.name] = None
    return [list(group) for group in names.values() if len(group) > 1]


def _train(run: Run, launch: list[str], log: TextIO) -> int:
    """Trains in other processes, whose errors do not end this one; returns the signal that stopped it, or 0."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, *launch]
    return run_launcher([*launcher, "-m", "bdam.cli", "train", *run.sources, *TRAINING], log.buffer)


def _evaluate(run: Run) -> Results:
    checkpoint = run.folder / "model"
    weights = (0.0, BDAMConfig.from_pretrained(checkpoint).clothing_weight)
    return evaluate_checkpoint(
        checkpoint,
        run.recipe.data,
        clothing_weights=weights,
        batch_size=run.recipe.eval_batch_size,
        use_cache=False,
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
    """Checks that the folder of a run has no results or model of another recipe."""
    read_results(run)
    model = run.folder / "model"
    if (model / RECIPE).is_file() and (changed := changed_keys(model, run.recipe)):
        keys = ", ".join(f"`{key}`" for key in changed)
        raise ValueError(f"{run.folder} was trained with another {keys}: remove it, or give another --output.")


def _repeated(values: Iterable) -> list:
    return [value for value, count in Counter(values).items() if count > 1]
