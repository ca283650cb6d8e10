"""The command that trains models; `train_accelerate.py` runs it, too."""

import argparse
from itertools import pairwise

import typer


DESCRIPTION = """
Trains BDAM by a recipe, on one device or many:

    bdam train recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]
    accelerate launch train_accelerate.py recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]

RUN then holds `model/` (weights, code, processor and recipe of the best epoch on the validation split), `checkpoints/`
for --resume, and `log.jsonl`. --estimate N prints what RUN would take by N of its batches, and writes nothing.
"""
# Arguments are parsed by argparse: Typer has no options with an optional value.
UNPARSED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def train(context: typer.Context) -> None:
    """Train a model by a recipe: bdam train recipes/demo.yaml data=DATA output_dir=RUN [--resume]."""
    run(context.args, "bdam train")


def run(words: list[str], program: str | None = None) -> None:
    """
    Trains a model by the arguments of a command line.

    Args:
        words: the arguments.
        program: name of the program, for the help text. Default: that of the process.

    Raises:
        SystemExit: with exit code 128 + signal if a signal stopped the training; with a message if it failed.
    """
    arguments = parse_arguments(words, program)
    from bdam.recipes.recipe import load_recipe
    from bdam.training.loop import train

    try:
        recipe = load_recipe(*arguments.recipe)
        if arguments.estimate:
            from bdam.training.estimating import estimate

            print(estimate(recipe, arguments.estimate, arguments.cpu))
            return
        stopped_by = train(recipe, arguments.resume, arguments.keep_checkpoints, arguments.cpu)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    if stopped_by:
        print(f"Stopped by signal {stopped_by}; --resume continues.")
        raise SystemExit(128 + stopped_by)


def parse_arguments(words: list[str], program: str | None = None) -> argparse.Namespace:
    """
    The recipes and overrides, in their order, and the options, which may stand anywhere.

    Args:
        words: the arguments.
        program: name of the program, for the help text.

    Raises:
        SystemExit: if an option is unknown, or its value is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="+",
        help="YAML files and overrides, of which later ones win: recipes/demo.yaml learning_rate=5e-5 model.dropout=0",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="latest",
        metavar="CHECKPOINT",
        help="continue from a checkpoint, by default the newest in RUN; start if there is none",
    )
    parser.add_argument(
        "--keep-checkpoints", type=positive, default=2, metavar="N", help="number of checkpoints to keep (default 2)"
    )
    parser.add_argument("--cpu", action="store_true", help="train on the CPU even where there is a GPU")
    parser.add_argument(
        "--estimate",
        type=positive,
        metavar="N",
        help="train N batches and print the memory and the time that the run would take; nothing is written",
    )
    # A recipe or an override after --resume is not its checkpoint.
    for index, (word, following) in enumerate(pairwise(words)):
        if word == "--resume" and ("=" in following or following.endswith((".yaml", ".yml"))):
            words = [*words[:index], "--resume=latest", *words[index + 1 :]]
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if options := [word for word in unknown if word.startswith("-")]:
        parser.error(
            f"unknown: {' '.join(options)}. There are --resume [CHECKPOINT], --keep-checkpoints N, --estimate N and "
            "--cpu; keys of the recipe are written without dashes, as in learning_rate=5e-5."
        )
    if arguments.estimate and arguments.resume:
        parser.error("--estimate measures a new run, and --resume continues one: give one of them.")
    return arguments


def positive(word: str) -> int:
    """
    A whole number from 1.

    Raises:
        argparse.ArgumentTypeError: if the word is none.
    """
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {word!r}")
    return int(word)
