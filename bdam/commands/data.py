"""The commands that make and check data sets."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bdam.commands.options import DATA, Seed, console, writable_file, writable_folder
from bdam.data.writing import written_whole


app = typer.Typer(help="Make and check data sets.")


@app.command()
def pedestrians(
    output: Annotated[Path, typer.Argument(help="Folder to write.", callback=writable_folder)],
    train: Annotated[int, typer.Option(help="Persons in the training split.")] = 1200,
    validation: Annotated[int, typer.Option(help="Persons in the validation split.")] = 60,
    test: Annotated[int, typer.Option(help="Persons in the test split.")] = 120,
    outfits: Annotated[int, typer.Option(help="Outfits per person.")] = 2,
    images: Annotated[int, typer.Option(help="Images per outfit.")] = 2,
    train_images: Annotated[
        int | None, typer.Option(help="Images per outfit in the training split. Default: as in the others.")
    ] = None,
    height: Annotated[int, typer.Option(help="Height of the images in pixels; they are half as wide.")] = 128,
    seed: Seed = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file for a contact sheet of the test split.", callback=writable_file)
    ] = None,
) -> None:
    """Draw synthetic people in several outfits, and describe them."""
    from bdam.data.pedestrians import contact_sheet, generate_pedestrians

    data = generate_pedestrians(
        train,
        validation,
        test,
        outfits,
        images,
        (height, height // 2),
        seed=seed,
        num_proc=os.cpu_count() or 1,
        train_images_per_outfit=train_images,
    )
    data.save_to_disk(output)
    if sheet is not None:
        with written_whole(sheet) as aside:
            columns = min(test, 6)
            contact_sheet(data["test"], rows=min(test // columns, 4), columns=columns).save(aside, "PNG")
    counts = ", ".join(f"{split} {len(dataset)}" for split, dataset in data.items())
    console.print(f"Wrote {output}: images {counts}.")


@app.command()
def check(
    benchmark: Annotated[str, typer.Argument(metavar="NAME:ROOT", help="A benchmark and its folder.")],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="JSON file for the full report.", callback=writable_file)
    ] = None,
) -> None:
    """Check the files of a benchmark. Exit code 0: fit; 1: fit with warnings; 2: unfit."""
    from bdam.data.benchmarks import VERDICTS, check_benchmark, check_tables

    state = check_benchmark(benchmark)
    console.print(check_tables(state))
    if as_json is not None:
        with written_whole(as_json) as aside:
            aside.write_text(state.model_dump_json(indent=2), encoding="utf-8")
    raise typer.Exit(VERDICTS.index(state.verdict))


@app.command()
def push(
    data: Annotated[str, typer.Argument(help=DATA, metavar="DATA")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository.")],
    license: Annotated[str, typer.Option(help="Name of the license on the Hub, such as cc-by-4.0.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a public repository, in place of a private one.")
    ] = False,
    gated: Annotated[bool, typer.Option("--gated", help="Ask each visitor for consent before the download.")] = False,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Let the Hub list scores of models on its split test.")
    ] = False,
) -> None:
    """Send a data set to the Hub, for `hf:USER/NAME` on every machine. A benchmark is checked first."""
    from bdam.hub.data import push_data

    url = push_data(data, repo_id, license=license, private=not public, gated=gated, benchmark=benchmark)
    console.print(f"Wrote {url}: use it as hf:{repo_id}.")
