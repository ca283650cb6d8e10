"""Commands that score, compare and look into models."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bdam.commands.options import ClothingWeight, Precision, Seed, Split, console, writable_file, writable_folder


Data = Annotated[str, typer.Option(help="Folder of a data set, or benchmarks as NAME:ROOT[+NAME:ROOT …].")]


def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINTS",
            help="Folders, or names on the Hub, of models to compare: BDAM, what `bdam export` wrote, or any dual "
            "encoder of transformers, such as openai/clip-vit-base-patch16.",
        ),
    ],
    data: Data,
    split: Split = "test",
    clothing_weight: ClothingWeight = None,
    image_to_text: Annotated[bool, typer.Option("--image-to-text", help="Search captions by picture, too.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    output: Annotated[Path | None, typer.Option(help="JSON file for the records.", callback=writable_file)] = None,
) -> None:
    """
    Score models by the standard, same-clothes and clothes-changed protocols, on three galleries.

    On several GPUs: accelerate launch -m bdam.cli evaluate …. What was embedded is kept, so that an evaluation that
    was interrupted goes on, and one that is repeated is done at once.
    """
    from accelerate import PartialState

    from bdam.data.loading import load_split
    from bdam.encoding.encoders import load_encoder
    from bdam.encoding.extraction import feature_store
    from bdam.encoding.models import fingerprint, training_seed
    from bdam.evaluation import protocols
    from bdam.evaluation.features import extract_features
    from bdam.evaluation.origin import commit, data_source
    from bdam.evaluation.published import TABLE_I
    from bdam.evaluation.report import published_table, results_table, write_results

    dataset, state, records = load_split(data, split), PartialState(), []
    for checkpoint in dict.fromkeys(checkpoints):
        encoder = load_encoder(checkpoint)
        encoder.model.to(state.device)
        settings: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
        store = feature_store(checkpoint, dataset, **settings)
        features = extract_features(encoder, dataset, **settings, store=store)
        own_weight = getattr(encoder.model.config, "clothing_weight", 0.0)
        weights = dict.fromkeys((0.0, own_weight if clothing_weight is None else clothing_weight))
        origin = {
            **{"split": split, "checkpoint": checkpoint, "weights": fingerprint(checkpoint)},
            **{"data": data_source(dataset, data), "seed": training_seed(checkpoint)},
            **{"commit": commit(), "mixed_precision": mixed_precision},
        }
        records += protocols.evaluate(features, tuple(weights), image_to_text, **origin)
    if not state.is_main_process:
        return
    console.print(results_table(records))
    if split == "test" and dataset.info.dataset_name in TABLE_I:
        console.print(published_table(records, dataset.info.dataset_name))
    if output is not None:
        write_results(output, records)


def analyze(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, with model/ and log.jsonl.")],
    data: Annotated[
        str | None, typer.Option(help="Data set, as for evaluate; by default, the one trained on.")
    ] = None,
    split: Split = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; by default, RUN/analysis.", callback=writable_folder)
    ] = None,
    seed: Seed = 0,
) -> None:
    """Look inside a trained model: gates, disentanglement, embeddings, losses, successes and failures."""
    from bdam.data.loading import load_split
    from bdam.encoding.devices import default_device
    from bdam.encoding.encoders import BDAMEncoder
    from bdam.encoding.models import fingerprint, load_model, training_seed
    from bdam.evaluation import analysis, figures
    from bdam.evaluation.features import extract_features
    from bdam.evaluation.report import analysis_table, write_results
    from bdam.recipes.recipe import RECIPE, load_recipe

    model, processor = load_model(run / "model")
    encoder = BDAMEncoder(model.to(default_device()), processor)
    curves = analysis.read_curves(run / "log.jsonl")
    data = data or load_recipe(run / "model" / RECIPE).data
    dataset = load_split(data, split)
    features = extract_features(encoder, dataset)
    parts = analysis.picture_parts(encoder, dataset)
    gates = analysis.gate_values(parts)
    examples = analysis.examples(features, dataset, model.config.clothing_weight, seed)

    output = output or run / "analysis"
    output.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, tuple[Callable, Any]] = {
        "gates.png": (figures.gate_histograms, gates if any(gates.values()) else None),
        "embeddings.png": (figures.embedding_maps, analysis.picture_maps(features, seed)),
        "weights.png": (figures.training_curves, curves),
        "successes.png": (figures.ranked_grid, examples["successes"]),
        "failures.png": (figures.ranked_grid, examples["failures"]),
    }
    for name, (draw, content) in drawings.items():
        (output / name).unlink(missing_ok=True)
        if content:
            draw(content, output / name)
    results = {
        **{"run": str(run), "seed": training_seed(run / "model"), "sampling_seed": seed},
        **{"weights": fingerprint(run / "model"), "clothing_weight": model.config.clothing_weight},
        **{"data": data, "split": split, "num_pictures": len(dataset)},
        **analysis.gate_statistics(parts),
        "probes": analysis.disentanglement(parts, dataset, seed),
        "groups": analysis.recall_by_group(features, dataset, model.config.clothing_weight),
        "logged": list(curves),
        "figures": {name: bool(content) for name, (_, content) in drawings.items()},
    }
    write_results(output / "analysis.json", results)
    console.print(analysis_table(results))
    console.print(f"Wrote {output}.")


def study(
    sources: Annotated[
        list[str], typer.Argument(metavar="RECIPES", help="YAML files to compare, and key=value overrides for all.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the runs and the report; what it holds is not run again.", callback=writable_folder
        ),
    ],
    base: Annotated[
        list[Path] | None, typer.Option(help="Recipe to stack each RECIPE on; may be given again.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of each recipe, between commas.")] = "0,1,2",
    launch: Annotated[str, typer.Option(help='Arguments of accelerate launch: "--multi_gpu --num_processes 8".')] = "",
) -> None:
    """Train and evaluate recipes with several seeds, and report what they score on the test split."""
    from bdam.evaluation.figures import study_figure
    from bdam.evaluation.report import study_table, write_study
    from bdam.evaluation.study import aggregate, describe, plan_study, read_results, run_study

    recipes = [Path(source) for source in sources if "=" not in source]
    overrides = [source for source in sources if "=" in source]
    runs = plan_study(recipes, overrides, base or [], parse_seeds(seeds), output)
    failed = run_study(runs, shlex.split(launch))
    if records := [record for run in runs for record in read_results(run)]:
        rows = aggregate(records)
        write_study(output, rows, describe(runs, records, shlex.join(["bdam", *sys.argv[1:]])))
        study_figure(rows, output / "report.png")
        console.print(study_table(rows))
        console.print(f"Wrote {output}/report.md, .csv, .json and .png.")
    for run in failed:
        console.print(f"[bold red]failed:[/] {escape(run.name)}, seed {run.recipe.seed}: see {escape(str(run.log))}")
    if failed:
        raise typer.Exit(1)


def parse_seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds must be whole numbers between commas, such as 0,1,2, got {text!r}.") from None
