"""The command that writes models for ONNX Runtime."""

from pathlib import Path
from typing import Annotated

import typer

from bdam.commands.options import Checkpoint, console, writable_folder


def export(
    checkpoint: Checkpoint,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder to write; `bdam evaluate` takes it as it does a checkpoint.", callback=writable_folder
        ),
    ],
    int8: Annotated[bool, typer.Option("--int8", help="Smaller and faster; evaluate it beside the model.")] = False,
) -> None:
    """Write the image and the query encoder as ONNX files that agree with the model."""
    from bdam.encoding.onnx import export_onnx

    export_onnx(checkpoint, folder, quantize=int8)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 2**20:,.1f} MB" for path in sorted(folder.glob("*.onnx*")))
    console.print(f"Wrote {folder}: {sizes}.")
