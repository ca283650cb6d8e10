"""The command that finds people in footage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bdam.commands.options import console, errors, exit_by, writable_folder
from bdam.footage import DETECTOR


if TYPE_CHECKING:
    from bdam.footage.detect import DetectionReport

DETECTORS = (
    f"A model of the Hub or its folder, such as {DETECTOR} or PekingU/rtdetr_v2_r34vd; hog needs no model, and misses "
    "many people."
)


def detect(
    footage: Annotated[Path, typer.Argument(help="A photograph, a video or a folder of them.")],
    crops: Annotated[Path, typer.Argument(help="Folder to write.", callback=writable_folder)],
    detector: Annotated[str, typer.Option(help=DETECTORS)] = DETECTOR,
    threshold: Annotated[float, typer.Option(min=0.01, max=0.99, help="Least score of a person.")] = 0.5,
    frames_per_second: Annotated[
        float, typer.Option(min=0.01, help="Of videos, to look at. With less than 5, people are not tracked.")
    ] = 5.0,
    crops_per_track: Annotated[int, typer.Option(min=1, help="Images to keep of each track.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames per forward pass.")] = 8,
) -> None:
    """
    Find people in photographs and videos, and cut the best images of each out.

    A run that was interrupted continues where it stopped. Exit code 0: all files were read; 1: none; 3: all except
    those that cannot be read.
    """
    from bdam.footage.detect import Settings, detect_people

    settings = Settings(detector, threshold, frames_per_second, crops_per_track)
    report = detect_people(footage, crops, settings, batch_size=batch_size)
    print_detections(report, crops)
    exit_by(report.files + report.before, len(report.left_out))


def print_detections(report: "DetectionReport", crops: Path) -> None:
    """Prints what was found in footage, and what of it could not be read."""
    for source, reason in report.damaged.items():
        errors.print(f"[yellow]damaged:[/] {escape(source)}: {escape(reason)}", soft_wrap=True)
    for source, reason in report.left_out.items():
        errors.print(f"[yellow]left out:[/] {escape(source)}: {escape(reason)}", soft_wrap=True)
    before = f"; {report.before:,} were finished before" if report.before else ""
    console.print(
        f"{escape(str(crops))}: {report.crops:,} images of {report.tracks:,} tracks in {report.files:,} files{before}."
    )
