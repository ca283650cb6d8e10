"""Options, consoles and exit codes that several commands share."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from bdam.data.writing import check_writable


# 120 characters where the output is no terminal, so that tables keep their columns.
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)
# Exit code of a command that could process only some of its input.
IN_PART = 3

Checkpoint = Annotated[str, typer.Argument(help="A trained BDAM: its folder, or its name on the Hub.")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
ClothingWeight = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="0: the person alone; 1: the clothes alone. Default: the model's own weight."),
]
# What names a data set on the command line.
DATA = "Folder of a data set, a benchmark as NAME:ROOT, hf:USER/NAME, or several of them joined by +."
Precision = Literal["no", "fp16", "bf16"]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]


def writable_file(path: Path | None) -> Path | None:
    """The path of a file to write, checked before the command starts its work."""
    if path is not None:
        check_writable(path)
    return path


def writable_folder(path: Path | None) -> Path | None:
    """The path of a folder to write, checked before the command starts its work."""
    if path is not None:
        check_writable(path / "file")
    return path


def exit_by(done: int, failed: int) -> None:
    """Ends the command: with exit code 0 if nothing failed, `IN_PART` if some things did, 1 if all did."""
    if failed:
        raise typer.Exit(IN_PART if done else 1)
