"""The commands that make and check data sets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bdam.commands.options import DATA, Seed, console, writable_file, writable_folder
from bdam.data.writing import written_whole


if TYPE_CHECKING:
    from datasets import DatasetDict

app = typer.Typer(help="Make and check data sets.")
SizeName = Literal["small", "medium", "large"]  # the keys of `SIZES`, which would take long to import


@app.command()
def pedestrians(
    output: Annotated[Path, typer.Argument(help="Folder to write.", callback=writable_folder)],
    size: Annotated[
        SizeName | None, typer.Option(help="A size of the benchmark, checked by its checksums, in place of numbers.")
    ] = None,
    train: Annotated[int | None, typer.Option(help="Persons in the training split.")] = None,
    validation: Annotated[int | None, typer.Option(help="Persons in the validation split.")] = None,
    test: Annotated[int | None, typer.Option(help="Persons in the test split.")] = None,
    outfits: Annotated[int | None, typer.Option(help="Outfits per person.")] = None,
    images: Annotated[int | None, typer.Option(help="Images per outfit.")] = None,
    train_images: Annotated[
        int | None, typer.Option(help="Images per outfit in the training split. Default: as in the others.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Height of the images in pixels; they are half as wide.")] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal people.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file for a contact sheet of the test split.", callback=writable_file)
    ] = None,
) -> None:
    """Draw synthetic people in several outfits, and describe them. Numbers that are not given are those of small."""
    import PIL

    from bdam.data.pedestrians import PILLOW, SIZES, contact_sheet, generate_pedestrians

    given = {
        "num_train_persons": train,
        "num_validation_persons": validation,
        "num_test_persons": test,
        "outfits_per_person": outfits,
        "images_per_outfit": images,
        "train_images_per_outfit": train_images,
        "image_size": None if height is None else (height, height // 2),
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if size is not None and given:
        raise ValueError("--size says what to draw: leave out persons, outfits, images, height and seed, or --size.")
    arguments = {**SIZES[size or "small"].arguments, **given}
    data = generate_pedestrians(**arguments, num_proc=os.cpu_count() or 1)
    if size is not None and (differences := _compare(data, size)):
        remedy = f"Pillow {PIL.__version__} draws other pixels than {PILLOW}: pip install pillow=={PILLOW}"
        raise ValueError(" ".join([*differences, remedy]))
    data.save_to_disk(output)
    if sheet is not None:
        persons = arguments["num_test_persons"]
        with written_whole(sheet) as aside:
            columns = min(persons, 6)
            contact_sheet(data["test"], rows=min(persons // columns, 4), columns=columns).save(aside, "PNG")
    counts = ", ".join(f"{split} {len(dataset)}" for split, dataset in data.items())
    console.print(f"Wrote {output}: images {counts}.")


@app.command()
def footage(
    output: Annotated[Path, typer.Argument(help="Folder to write.", callback=writable_folder)],
    people: Annotated[int, typer.Option(min=1, help="Persons; each walks past both cameras.")] = 3,
    seed: Seed = 0,
) -> None:
    """Draw synthetic people who walk past two cameras, as videos."""
    from bdam.footage.drawing import draw_footage

    drawn = draw_footage(output, people, seed)
    console.print(f"Wrote {output}: videos {', '.join(sorted({person.source for person in drawn}))}.")


@app.command()
def check(
    source: Annotated[str, typer.Argument(metavar="DATA", help="A benchmark, NAME:ROOT, or with --size any data.")],
    size: Annotated[
        SizeName | None,
        typer.Option(help="Check whether the data set is this size of the generated pedestrians."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="JSON file for the full report.", callback=writable_file)
    ] = None,
) -> None:
    """Check a data set. Exit code 0: fit; 1: fit with warnings; 2: unfit."""
    from bdam.data.benchmarks import VERDICTS, Check, Finding, check_benchmark, check_tables

    if size is None:
        state = check_benchmark(source)
    else:
        from bdam.data.loading import load_data

        differences = _compare(load_data(source), size)
        state = Check(source=source, findings=[Finding(level="error", text=text) for text in differences])
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


def _compare(data: "DatasetDict", size: str) -> list[str]:
    """Prints the checksums of a data set; returns in what it differs from a size of generated pedestrians."""
    from bdam.data.pedestrians import checksums, compare_size

    found = checksums(data)
    for split, checksum in found.items():
        console.print(f"{split}: {checksum}")
    return compare_size(found, size)
