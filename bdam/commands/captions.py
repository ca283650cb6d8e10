"""Commands that let an MLLM describe images."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from bdam.commands.options import DATA, BaseURL, Concurrency, Seed, console, exit_by, writable_file, writable_folder


if TYPE_CHECKING:  # commands import what they need when they run
    from bdam.captions.describing import Tally
    from bdam.captions.generalizing import Generalizer
    from bdam.captions.styles import Styles
    from bdam.data.descriptions import Description


app = typer.Typer(help="Let an MLLM describe images: who is on them, and what they wear.")

Images = Annotated[str, typer.Argument(metavar="DATA", help="A benchmark as NAME:ROOT, or a folder of images.")]
StylesFile = Annotated[Path | None, typer.Option("--styles", help="styles.json, from `bdam caption styles`.")]
Model = Annotated[str, typer.Option(help="Name of the MLLM on the server.")]
Shard = Annotated[str | None, typer.Option(help="I/N: the I-th of N parts, into a file of its own, to be merged.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: always the likeliest words.")]
MaxAnswer = Annotated[int, typer.Option(min=1, help="Tokens that one answer may take.")]


@app.command()
def styles(
    data: Annotated[str, typer.Argument(help=DATA)],
    output: Annotated[Path, typer.Option(help="Folder for styles.json and styles.png.", callback=writable_folder)],
    encoder: Annotated[
        str, typer.Option(help="Text encoder: a folder, or its name on the Hub.")
    ] = "openai/clip-vit-base-patch32",
    method: Annotated[Literal["dbscan", "kmeans", "random"], typer.Option(help="How to cluster.")] = "dbscan",
    eps: Annotated[
        float | None, typer.Option(help="Cosine distance for DBSCAN; by default, the knee of the k-distance curve.")
    ] = None,
    min_size: Annotated[
        int | None, typer.Option(min=1, help="Captions that a style has at least, for DBSCAN; by default, 5 %.")
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(min=1, help="Styles by the other methods; by default, as many as DBSCAN finds.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Captions to look at, drawn at random.")] = 20_000,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of an MLLM on a server, which puts slots for what captions say of the person; by default, a "
            "list of words does. Each distinct caption is a request."
        ),
    ] = None,
    base_url: BaseURL = None,
    concurrency: Concurrency = 16,
    max_answer: MaxAnswer = 200,
    seed: Seed = 0,
) -> None:
    """Find the styles that the captions of the train split are written in, for a language model to write in."""
    from functools import partial

    from bdam.captions.slots import generalize
    from bdam.captions.styles import embed_texts, find_styles, sample_captions, save_styles, styles_tables

    captions = sample_captions(data, limit, seed)
    mllm = load_generalizer(model, base_url, concurrency, max_answer)
    options: dict[str, Any] = {"eps": eps, "min_size": min_size, "num_clusters": clusters, "seed": seed}
    options |= {"encoder": encoder, "data": data, "split": "train"}
    found, wordings = find_styles(captions, partial(embed_texts, encoder), method, mllm or generalize, **options)
    if mllm:
        found.settings |= mllm.settings
        print_generalized(mllm)
    save_styles(found, wordings, output, seed)
    console.print(styles_tables(found))
    console.print(f"Wrote {output}.")


@app.command()
def describe(
    data: Images,
    model: Model,
    base_url: BaseURL = None,
    styles_file: StylesFile = None,
    samples: Annotated[int, typer.Option(min=1, help="Descriptions to ask for, of which one is kept.")] = 1,
    max_attempts: Annotated[int, typer.Option(min=1, help="Answers to ask for until one can be used.")] = 3,
    concurrency: Concurrency = 16,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Budget; begun images are finished.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Budget; begun images are finished.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Of a million tokens, for the estimate.")] = None,
    max_answer: MaxAnswer = 200,
    temperature: Temperature = 0.7,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 60,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again for what failed before.")] = False,
    shard: Shard = None,
    seed: Seed = 0,
) -> None:
    """
    Ask an MLLM for the descriptions that are missing; a run that was stopped goes on.

    The key of the endpoint is read from OPENAI_API_KEY. Exit code 0: all images are described; 1: this run described
    none, or ended in an error; 3: some are described, and others failed, now or in an earlier run. What a budget left
    out is no failure.
    """
    from bdam.captions.describing import Options, describe_images, estimate
    from bdam.captions.images import find_images
    from bdam.mllm.client import MLLM

    images, path = find_images(data, shard)
    options = Options(concurrency, max_attempts, samples, max_requests, max_tokens, seed)
    styles = load_styles(styles_file)
    console.print(escape(estimate(images, path, options, retry_failed, price)))
    mllm = MLLM(model, base_url, temperature, max_answer, timeout)
    tally = describe_images(images, path, mllm, styles, options, retry_failed)
    print_tally(path, tally, f"; {tally.requests} requests, {tally.tokens} tokens")


@app.command()
def status(data: Images, shard: Shard = None) -> None:
    """How many images are described, and why the others are not."""
    from bdam.captions.images import find_images
    from bdam.data.descriptions import count_descriptions, read_descriptions

    images, path = find_images(data, shard)
    image_ids = {image.image_id for image in images}
    states, reasons = count_descriptions(record for record in read_descriptions(path) if record.image_id in image_ids)
    table = Table("images", "", title=escape(str(path)))
    for state in ("described", "failed"):
        table.add_row(state, f"{states[state]:,}")
    table.add_row("not asked for yet", f"{len(images) - states.total():,}", end_section=True)
    for reason, count in reasons.most_common():
        table.add_row(escape(reason), f"{count:,}")
    console.print(table)


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Files of descriptions, such as those of shards.")],
    output: Annotated[Path, typer.Option(help="The file of all of them.", callback=writable_file)],
) -> None:
    """Join files of descriptions, one record per image: the more complete one, or else the first."""
    from bdam.data.descriptions import merge_descriptions, write_descriptions

    records = merge_descriptions(files)
    write_descriptions(output, records)
    print_states(output, records)


@app.command()
def recheck(data: Images, shard: Shard = None) -> None:
    """Check all descriptions anew; those that do not pass become failures, to be asked for by --retry-failed."""
    from bdam.captions.checks import check_again
    from bdam.captions.description_file import DescriptionFile
    from bdam.captions.images import find_images
    from bdam.data.descriptions import read_descriptions

    _, path = find_images(data, shard)
    with DescriptionFile(path) as file:
        records = [check_again(record) for record in read_descriptions(path)]
        file.replace(records)
    print_states(path, records)


@app.command("export")
def export_batch(
    data: Images,
    output: Annotated[
        Path,
        typer.Argument(help="File of requests, in the JSON lines of OpenAI's Batch API.", callback=writable_file),
    ],
    model: Model,
    styles_file: StylesFile = None,
    max_answer: MaxAnswer = 200,
    temperature: Temperature = 0.7,
    shard: Shard = None,
    seed: Seed = 0,
) -> None:
    """
    Write the missing requests to a file, for a cluster or a batch service.

    Exit code 0: for all images; 1: no image can be read; 3: some cannot, and were left out.
    """
    from bdam.captions.batch_files import export_requests
    from bdam.captions.images import find_images

    images, path = find_images(data, shard)
    styles = load_styles(styles_file)
    body = {"model": model, "temperature": temperature, "max_tokens": max_answer}
    tally = export_requests(images, path, output, body, styles, seed)
    console.print(f"{escape(str(output))}: {tally.requests} requests; {tally.failed} images left out.")
    print_reasons(tally.reasons)
    exit_by(tally.requests, tally.failed)


@app.command("import")
def import_batch(
    data: Images,
    answers: Annotated[Path, typer.Argument(help="File of answers that the batch wrote.")],
    model: Model,
    styles_file: StylesFile = None,
    shard: Shard = None,
    seed: Seed = 0,
) -> None:
    """
    Check the answers to exported requests, and add them to the descriptions.

    Exit code 0: all images of the file are described; 1: this run described none, or ended in an error; 3: some are
    described, and others failed, now or before.
    """
    from bdam.captions.batch_files import import_answers
    from bdam.captions.images import find_images

    images, path = find_images(data, shard)
    styles = load_styles(styles_file)
    print_tally(path, import_answers(answers, images, path, model, styles, seed))


def load_generalizer(
    model: str | None, base_url: str | None, concurrency: int, max_tokens: int
) -> "Generalizer | None":
    """The MLLM that puts slots into captions; None without `--model`."""
    if model is None:
        if base_url is not None:
            raise ValueError("--base-url needs --model, the name of the MLLM on that server.")
        return None
    from bdam.captions.generalizing import Generalizer
    from bdam.mllm.client import MLLM

    return Generalizer(MLLM(model, base_url, temperature=0, max_tokens=max_tokens), concurrency)


def print_generalized(generalizer: "Generalizer") -> None:
    """Prints how many captions a language model generalized, and why not the others."""
    by_words = generalizer.failures.total()
    console.print(
        f"{generalizer.mllm.model} generalized the captions, and a list of words {by_words:,} of the distinct ones."
    )
    print_reasons(generalizer.failures)


def load_styles(path: Path | None) -> "Styles | None":
    """The styles to write in; None without `--styles`."""
    if path is None:
        return None
    from bdam.captions.styles import Styles

    return Styles.load(path)


def print_states(path: Path, descriptions: "list[Description]") -> None:
    """Prints how many images are described, and how many failed."""
    from bdam.data.descriptions import count_descriptions

    states, _ = count_descriptions(descriptions)
    console.print(f"{escape(str(path))}: {states['described']} images described, {states['failed']} failed.")


def print_tally(path: Path, tally: "Tally", details: str = "") -> None:
    """Prints what a run has described and why the rest failed, and ends the command with the exit code for it."""
    console.print(f"{escape(str(path))}: {tally.described} images described, {tally.failed} failed{details}.")
    print_reasons(tally.reasons)
    if tally.failed_before:
        console.print(f"{tally.failed_before} failed in an earlier run: `bdam caption describe --retry-failed`.")
    is_idle = not tally.described + tally.failed
    exit_by(tally.described_before if is_idle else tally.described, tally.failed + tally.failed_before)


def print_reasons(reasons: Counter[str]) -> None:
    """Prints the three most frequent reasons."""
    for reason, count in reasons.most_common(3):
        console.print(f"failed {count:,} times: {escape(reason)}", highlight=False)
    if len(reasons) > 3:
        console.print(f"… and for {len(reasons) - 3} other reasons.")
