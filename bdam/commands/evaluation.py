"""The commands that evaluate, compare and analyze models."""

import shlex
import sys
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bdam.commands.options import (
    DATA,
    BaseURL,
    ClothingWeight,
    Concurrency,
    Precision,
    Rerank,
    RerankTop,
    Seed,
    Split,
    console,
    errors,
    open_reranker,
    writable_file,
    writable_folder,
)


if TYPE_CHECKING:
    from bdam.evaluation.open_set import OpenSetResult
    from bdam.retrieval.reranking import Reranker

Data = Annotated[
    list[str],
    typer.Option(help=f"{DATA} Given again, for a table of models across data sets."),
]


def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINTS",
            help="Folders, or names on the Hub, of models to compare: BDAM, an export of `bdam export`, or any dual "
            "encoder of transformers, such as openai/clip-vit-base-patch16.",
        ),
    ],
    data: Data,
    split: Split = "test",
    clothing_weight: ClothingWeight = None,
    image_to_text: Annotated[bool, typer.Option("--image-to-text", help="Search captions by image, too.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    output: Annotated[Path | None, typer.Option(help="JSON file for the records.", callback=writable_file)] = None,
    trade_off: Annotated[
        Path | None,
        typer.Option(
            help="PNG file for R-1 of the standard against the clothes-changed protocol, with c from 0 to 1.",
            callback=writable_file,
        ),
    ] = None,
    open_set: Annotated[
        bool,
        typer.Option(
            "--open-set",
            help="Instead, remove half of the persons from the gallery, and score how well models tell who is in it.",
        ),
    ] = False,
    rerank: Rerank = None,
    base_url: BaseURL = None,
    rerank_top: RerankTop = 20,
    concurrency: Concurrency = 16,
    max_requests: Annotated[
        int | None,
        typer.Option(min=1, help="Budget of --rerank for a model and data set: it looks for fewer sentences."),
    ] = None,
) -> None:
    """
    Score models by the standard, same-clothes and clothes-changed protocols, on three galleries.

    On several GPUs: accelerate launch -m bdam.cli evaluate …. Embeddings are cached, so that an evaluation that was
    interrupted continues where it stopped, and one that is repeated is fast.
    """
    from accelerate import PartialState

    from bdam.evaluation.evaluate import evaluate_checkpoint, evaluate_checkpoint_open_set
    from bdam.evaluation.origin import benchmark_of
    from bdam.evaluation.protocols import TENTHS
    from bdam.evaluation.published import TABLE_I
    from bdam.evaluation.report import domains_table, published_table, results_table
    from bdam.evaluation.results import Results

    settings: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
    if trade_off is not None and len(data) > 1:
        raise ValueError("--trade-off draws one data set: give --data once.")
    if rerank is not None and (open_set or PartialState().num_processes > 1):
        raise ValueError("--rerank is measured by one process, and without --open-set.")
    reranker = open_reranker(rerank, base_url, rerank_top, concurrency)
    weights = None if clothing_weight is None else tuple(dict.fromkeys((0.0, clothing_weight)))
    sides = dict.fromkeys(checkpoints), dict.fromkeys(data), split
    if open_set:
        print_open_set(evaluate_checkpoint_open_set(*sides, clothing_weights=weights, **settings), output)
        return
    measure = partial(evaluate_checkpoint, *sides, **settings)
    results = measure(clothing_weights=weights, image_to_text=image_to_text)
    curves = None if trade_off is None else measure(clothing_weights=TENTHS)
    if not PartialState().is_main_process:
        return
    sources = dict.fromkeys(result.data for result in results)
    for source in sources:
        of_source = Results(result for result in results if result.data == source)
        console.print(results_table(of_source))
        benchmark = benchmark_of(source)
        if split == "test" and benchmark in TABLE_I:
            console.print(published_table(of_source, benchmark))
    if len(sources) > 1:
        console.print(domains_table(results))
    if output is not None:
        results.to_json(output)
    if trade_off is not None and curves is not None:
        from bdam.evaluation.figures import trade_off_figure

        trade_off_figure(curves, trade_off)
    if reranker is not None:
        for name, source in product(dict.fromkeys(checkpoints), dict.fromkeys(data)):
            print_second_look(name, source, reranker, split, clothing_weight, max_requests, **settings)


def print_second_look(checkpoint: str, data: str, reranker: "Reranker", *options, **settings) -> None:
    """Prints R-1 before and after a second look, and why images have no answer; see [`evaluate_reranking`]."""
    from bdam.retrieval.reranking_evaluation import evaluate_reranking, reranking_table

    results = evaluate_reranking(checkpoint, data, reranker, *options, **settings)
    title = f"Second look of {checkpoint} at the first {reranker.top} images of {data} (%, 95 % intervals)"
    console.print(reranking_table(escape(title), results))
    for reason, count in sum((result.reasons for result in results), Counter()).most_common(3):
        errors.print(f"[yellow]no answer[/] about {count:,} images: {escape(reason)}", soft_wrap=True)


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the model, which then holds calibration.json.")],
    data: Annotated[str, typer.Option(help=DATA)],
    split: Annotated[str, typer.Option(help="With persons that the model was not trained on.")] = "validation",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
) -> None:
    """
    Fit what the scores of a model mean: how many hits to look at, and whether the person is in the gallery at all.

    Training does the same with its validation split. Half a thousand persons or more are better, from cameras like
    those of the galleries, described as they will be searched for.
    """
    from bdam.evaluation.evaluate import calibrate_checkpoint

    calibration = calibrate_checkpoint(checkpoint, data, split, batch_size, mixed_precision)
    counts = f"{calibration.num_persons:,} persons in {calibration.num_images:,} images"
    console.print(f"{escape(str(checkpoint))}: calibrated by {counts}.")


def analyze(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, with model/ and log.jsonl.")],
    data: Annotated[str | None, typer.Option(help="Data set, as for evaluate. Default: the one trained on.")] = None,
    split: Split = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: RUN/analysis.", callback=writable_folder)
    ] = None,
    seed: Seed = 0,
) -> None:
    """Analyze a trained model: gates, disentanglement, embeddings, losses, successes and failures."""
    from bdam.evaluation.analysis import analyze_run
    from bdam.evaluation.report import analysis_table

    output = output or run / "analysis"
    console.print(analysis_table(analyze_run(run, data, split, output, seed)))
    console.print(f"Wrote {output}.")


def study(
    sources: Annotated[
        list[str], typer.Argument(metavar="RECIPES", help="YAML files to compare, and key=value overrides for all.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the runs and the report; runs that it holds are not repeated.", callback=writable_folder
        ),
    ],
    base: Annotated[
        list[Path] | None, typer.Option(help="Recipe that each RECIPE extends; may be given again.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of each recipe, separated by commas.")] = "0,1,2",
    launch: Annotated[str, typer.Option(help='Arguments of accelerate launch: "--multi_gpu --num_processes 8".')] = "",
) -> None:
    """Train and evaluate recipes with several seeds, and report their scores on the test split."""
    from bdam.evaluation.figures import study_figure
    from bdam.evaluation.report import study_table, write_study
    from bdam.evaluation.results import Results
    from bdam.evaluation.study import aggregate, describe, plan_study, read_results, run_study

    recipes = [Path(source) for source in sources if "=" not in source]
    overrides = [source for source in sources if "=" in source]
    runs = plan_study(recipes, overrides, base or [], parse_seeds(seeds), output)
    failed = run_study(runs, shlex.split(launch))
    if results := Results(result for run in runs for result in read_results(run)):
        rows = aggregate(results)
        write_study(output, rows, describe(runs, results, shlex.join(["bdam", *sys.argv[1:]])))
        study_figure(rows, output / "report.png")
        console.print(study_table(rows))
        console.print(f"Wrote {output}/report.md, .csv, .json and .png.")
    for run in failed:
        console.print(f"[bold red]failed:[/] {escape(run.name)}, seed {run.recipe.seed}: see {escape(str(run.log))}")
    if failed:
        raise typer.Exit(1)


def print_open_set(results: "list[OpenSetResult]", output: Path | None) -> None:
    """Prints the tables of open-set results, and writes the results as JSON."""
    from accelerate import PartialState

    from bdam.data.writing import write_json
    from bdam.evaluation.report import calibration_table, open_set_table

    if PartialState().is_main_process:
        console.print(open_set_table(results))
        if any(result.calibration for result in results):
            console.print(calibration_table(results))
        if output is not None:
            write_json(output, [result.model_dump(exclude_unset=True) for result in results])


def parse_seeds(text: str) -> list[int]:
    """
    The seeds of `--seeds`: `"0,1"` → `[0, 1]`.

    Raises:
        ValueError: if one is no whole number.
    """
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds must be whole numbers between commas, such as 0,1,2, got {text!r}.") from None
