"""Options, consoles and exit codes that several commands share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from bdam.data.writing import check_writable


if TYPE_CHECKING:
    from bdam.retrieval.reranking import Reranker

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
Rerank = Annotated[
    str | None,
    typer.Option(
        help="Look at the first images again: by the MLLM of this name on the server at --base-url; without a server, "
        "by a cross-encoder of sentence-transformers, a folder or a name on the Hub."
    ),
]
BaseURL = Annotated[
    str | None, typer.Option("--base-url", help="Any OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.")
]
RerankTop = Annotated[int, typer.Option(min=1, help="Images of each search that --rerank looks at.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]


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


def open_reranker(
    rerank: str | None, base_url: str | None, top: int, concurrency: int, max_requests: int | None = None
) -> "Reranker | None":
    """The reranker of `--rerank`; None without it."""
    if rerank is None:
        if base_url is not None:
            raise ValueError("--base-url needs --rerank, the name of the MLLM on that server.")
        return None
    from bdam.retrieval.reranking import load_reranker

    return load_reranker(rerank, base_url, top, concurrency, max_requests)


def exit_by(done: int, failed: int) -> None:
    """Ends the command: with exit code 0 if nothing failed, `IN_PART` if some things did, 1 if all did."""
    if failed:
        raise typer.Exit(IN_PART if done else 1)
