"""What several commands share: their options, where they print, and their exit codes."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from bdam.data.writing import check_writable


# Tables keep their columns where the output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)
# Exit code of a command that did some of what it was asked, and left out what could not be done.
IN_PART = 3

Checkpoint = Annotated[str, typer.Argument(help="A trained BDAM: its folder, or its name on the Hub.")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
ClothingWeight = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="0: the person alone; 1: the clothes alone. By default the model's own choice."),
]
Precision = Literal["no", "fp16", "bf16"]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]


def writable_file(path: Path | None) -> Path | None:
    """An option that names a file to write is checked before the work that fills it."""
    if path is not None:
        check_writable(path)
    return path


def writable_folder(path: Path | None) -> Path | None:
    if path is not None:
        check_writable(path / "file")
    return path


def exit_by(done: int, failed: int) -> None:
    if failed:
        raise typer.Exit(IN_PART if done else 1)
