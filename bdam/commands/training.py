"""The command that trains models, which `train_accelerate.py` runs, too."""

import argparse
from itertools import pairwise

import typer


DESCRIPTION = """
Trains BDAM by a recipe, on one device or many:

    bdam train recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]
    accelerate launch train_accelerate.py recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]

RUN then holds `model/` (weights, code, processor and recipe of the best epoch by validation), `checkpoints/` to go on
from, and `log.jsonl`.
"""
# Typer hands over all arguments as they are: it knows neither overrides nor options with an optional value.
UNPARSED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def train(context: typer.Context) -> None:
    """Train a model by a recipe: bdam train recipes/demo.yaml data=DATA output_dir=RUN [--resume]."""
    run(context.args, "bdam train")


def run(words: list[str], program: str | None = None) -> None:
    """
    Trains as the arguments of a command line say.

    Raises:
        SystemExit: with 128 + signal, if a signal stopped training; with a message, if it failed.
    """
    arguments = parse_arguments(words, program)
    from bdam.recipes.recipe import load_recipe
    from bdam.training.loop import train

    try:
        recipe = load_recipe(*arguments.recipe)
        stopped_by = train(recipe, arguments.resume, arguments.keep_checkpoints, arguments.cpu)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    if stopped_by:
        print(f"Stopped by signal {stopped_by}; --resume goes on.")
        raise SystemExit(128 + stopped_by)


def parse_arguments(words: list[str], program: str | None = None) -> argparse.Namespace:
    """Recipes and overrides in their order, and options anywhere among them; what is unknown ends the process."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="+",
        help="YAML files and overrides, of which the later win: recipes/demo.yaml learning_rate=5e-5 model.dropout=0",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="latest",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, by default the newest in RUN; without any, start",
    )
    parser.add_argument(
        "--keep-checkpoints", type=positive, default=2, metavar="N", help="how many to keep (default 2)"
    )
    parser.add_argument("--cpu", action="store_true", help="train on the CPU even where there is a GPU")
    # What follows a --resume without a checkpoint is a recipe or an override of its own.
    for index, (word, following) in enumerate(pairwise(words)):
        if word == "--resume" and ("=" in following or following.endswith((".yaml", ".yml"))):
            words = [*words[:index], "--resume=latest", *words[index + 1 :]]
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if options := [word for word in unknown if word.startswith("-")]:
        parser.error(
            f"unknown: {' '.join(options)}. There are --resume [CHECKPOINT], --keep-checkpoints N and --cpu; keys of "
            "the recipe are written without dashes, as in learning_rate=5e-5."
        )
    return arguments


def positive(word: str) -> int:
    """A whole number from 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {word!r}")
    return int(word)
