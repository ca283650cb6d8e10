"""The command that exports models for ONNX Runtime."""

from pathlib import Path
from typing import Annotated

import typer

from bdam.commands.options import Checkpoint, console, writable_folder


def export(
    checkpoint: Checkpoint,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder to write; `bdam evaluate` and `bdam index` take it as a checkpoint.", callback=writable_folder
        ),
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize to int8: smaller and faster. Evaluate it, too.")
    ] = False,
) -> None:
    """Export the image and text encoders as ONNX files, and check that they agree with the model."""
    from bdam.encoding.onnx import export_onnx

    export_onnx(checkpoint, folder, quantize=int8)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 2**20:,.1f} MB" for path in sorted(folder.glob("*.onnx*")))
    console.print(f"Wrote {folder}: {sizes}.")
