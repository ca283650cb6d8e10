"""The `bdam` command."""

import json
import os
import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bdam.data.writing import check_writable, written_whole


# Rooms are imported by the commands that enter them, so that `bdam --help` answers at once.

app = typer.Typer(help="Text-to-image person retrieval that separates who a person is from what they wear.")
data_app = typer.Typer(help="Make and inspect data sets.")
app.add_typer(data_app, name="data")
caption_app = typer.Typer(help="Let an MLLM describe pictures: who is on them, and what they wear.")
app.add_typer(caption_app, name="caption")
# Tables keep their columns where the output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)
# Exit code of a command that did some of what it was asked, and left out what could not be done.
IN_PART = 3


def writable_file(path: Path | None) -> Path | None:
    """An option that names a file to write is checked before the work that fills it."""
    if path is not None:
        check_writable(path)
    return path


def writable_folder(path: Path | None) -> Path | None:
    if path is not None:
        check_writable(path / "file")
    return path


Checkpoint = Annotated[str, typer.Argument(help="A trained BDAM: its folder, or its name on the Hub.")]
Data = Annotated[str, typer.Option(help="Folder of a data set, or benchmarks as NAME:ROOT[+NAME:ROOT …].")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Pictures = Annotated[str, typer.Argument(metavar="DATA", help="A benchmark as NAME:ROOT, or a folder of pictures.")]
StylesFile = Annotated[Path | None, typer.Option("--styles", help="styles.json, from `bdam caption styles`.")]
Model = Annotated[str, typer.Option(help="Name of the MLLM on the server.")]
BaseURL = Annotated[
    str | None, typer.Option("--base-url", help="Any OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.")
]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
Shard = Annotated[str | None, typer.Option(help="I/N: the I-th of N parts, into a file of its own, to be merged.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: always the likeliest words.")]
MaxAnswer = Annotated[int, typer.Option(min=1, help="Tokens that one answer may take.")]
Place = Annotated[
    str, typer.Argument(metavar="GALLERY", help="A folder, a file of milvus-lite (….db) or the address of Milvus.")
]
Approximate = Annotated[
    bool, typer.Option("--approximate", help="Search by FAISS, in a graph that is kept beside the vectors.")
]
MovedModel = Annotated[str | None, typer.Option("--model", help="The checkpoint, if it is not where it was.")]
ClothingWeight = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="0: the person alone; 1: the clothes alone. By default the model's own choice."),
]
Precision = Literal["no", "fp16", "bf16"]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]


@data_app.command()
def pedestrians(
    output: Annotated[Path, typer.Argument(help="Folder to write.", callback=writable_folder)],
    train: Annotated[int, typer.Option(help="Persons in the training split.")] = 1200,
    validation: Annotated[int, typer.Option(help="Persons in the validation split.")] = 60,
    test: Annotated[int, typer.Option(help="Persons in the test split.")] = 120,
    outfits: Annotated[int, typer.Option(help="Outfits per person.")] = 2,
    pictures: Annotated[int, typer.Option(help="Pictures per outfit.")] = 2,
    height: Annotated[int, typer.Option(help="Height of the pictures; they are half as wide.")] = 128,
    seed: Seed = 0,
    sheet: Annotated[Path | None, typer.Option(help="PNG for a contact sheet.", callback=writable_file)] = None,
) -> None:
    """Draw people who do not exist, in several outfits, and write about them."""
    from bdam.data.pedestrians import contact_sheet, generate_pedestrians

    data = generate_pedestrians(
        train, validation, test, outfits, pictures, (height, height // 2), seed=seed, num_proc=os.cpu_count() or 1
    )
    data.save_to_disk(output)
    if sheet is not None:
        with written_whole(sheet) as aside:
            columns = min(test, 6)
            contact_sheet(data["test"], rows=min(test // columns, 4), columns=columns).save(aside, "PNG")
    counts = ", ".join(f"{split} {len(dataset)}" for split, dataset in data.items())
    console.print(f"Wrote {output}: pictures {counts}.")


@data_app.command()
def check(
    benchmark: Annotated[str, typer.Argument(metavar="NAME:ROOT", help="A benchmark, and its folder.")],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="JSON file for all that was found.", callback=writable_file)
    ] = None,
) -> None:
    """Find out what is wrong with a benchmark. Exit code 0: fit; 1: fit with warnings; 2: unfit."""
    from bdam.data.benchmarks import VERDICTS, check_benchmark, check_tables

    state = check_benchmark(benchmark)
    console.print(check_tables(state))
    if as_json is not None:
        with written_whole(as_json) as aside:
            aside.write_text(state.model_dump_json(indent=2), encoding="utf-8")
    raise typer.Exit(VERDICTS.index(state.verdict))


@caption_app.command()
def styles(
    data: Annotated[str, typer.Argument(help="Folder of a data set, or benchmarks as NAME:ROOT[+NAME:ROOT …].")],
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

    from bdam.captions.styles import embed_texts, find_styles, map_wordings, styles_tables
    from bdam.data.loading import load_split
    from bdam.data.pictures import read_column
    from bdam.evaluation.figures import style_maps

    captions = [caption for of_picture in read_column(load_split(data, "train"), "captions") for caption in of_picture]
    if len(captions) > limit:
        captions = random.Random(seed).sample(captions, limit)
    options: dict[str, Any] = {"eps": eps, "min_size": min_size, "num_clusters": clusters, "seed": seed}
    generalizer = load_generalizer(model, base_url, concurrency, max_answer)
    options |= {"generalizer": generalizer} if generalizer else {}
    found, wordings = find_styles(
        captions, partial(embed_texts, encoder), method, **options, encoder=encoder, data=data, split="train"
    )
    if generalizer:
        by_words = generalizer.failures.total()
        found.settings |= {"generalizer": model, "generalized_by_words": by_words}
        console.print(f"{model} generalized the captions, and a list of words {by_words:,} of the distinct ones.")
        tell_reasons(generalizer.failures)
    output.mkdir(parents=True, exist_ok=True)
    found.save(output / "styles.json")
    (output / "styles.png").unlink(missing_ok=True)
    if len(wordings.texts) > 2:
        rows, points = map_wordings(wordings, seed)
        labels = {str(name): of_method.labels[rows] for name, of_method in wordings.clusters.items()}
        style_maps(points, wordings.counts[rows], labels, output / "styles.png")
    console.print(styles_tables(found))
    console.print(f"Wrote {output}.")


@caption_app.command()
def describe(
    data: Pictures,
    model: Model,
    base_url: BaseURL = None,
    styles_file: StylesFile = None,
    samples: Annotated[int, typer.Option(min=1, help="Descriptions to ask for, of which one is kept.")] = 1,
    max_attempts: Annotated[int, typer.Option(min=1, help="Answers to ask for until one can be used.")] = 3,
    concurrency: Concurrency = 16,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Budget; begun pictures are finished.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Budget; begun pictures are finished.")] = None,
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

    The key of the endpoint is read from OPENAI_API_KEY. Exit code 0: all pictures are described; 1: this run described
    none, or ended in an error; 3: some are described, and others failed, now or in an earlier run. What a budget left
    out is no failure.
    """
    from bdam.captions.client import MLLM
    from bdam.captions.describing import Options, describe_pictures, estimate, find_pictures, take_shard

    pictures, path = take_shard(*find_pictures(data), shard)
    options = Options(concurrency, max_attempts, samples, max_requests, max_tokens, seed)
    styles = load_styles(styles_file)
    console.print(escape(estimate(pictures, path, options, retry_failed, price)))
    mllm = MLLM(model, base_url, temperature, max_answer, timeout)
    tally = describe_pictures(pictures, path, mllm, styles, options, retry_failed)
    tell_tally(path, tally, f"; {tally.requests} requests, {tally.tokens} tokens")


@caption_app.command()
def status(data: Pictures, shard: Shard = None) -> None:
    """How many pictures are described, and why the others are not."""
    from bdam.captions.describing import find_pictures, take_shard
    from bdam.captions.records import count_records, read_records

    pictures, path = take_shard(*find_pictures(data), shard)
    images = {picture.image for picture in pictures}
    states, reasons = count_records(record for record in read_records(path) if record.image in images)
    table = Table("pictures", "", title=escape(str(path)))
    for state in ("described", "failed"):
        table.add_row(state, f"{states[state]:,}")
    table.add_row("not asked for yet", f"{len(pictures) - states.total():,}", end_section=True)
    for reason, count in reasons.most_common():
        table.add_row(escape(reason), f"{count:,}")
    console.print(table)


@caption_app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Files of descriptions, such as those of shards.")],
    output: Annotated[Path, typer.Option(help="The file of all of them.", callback=writable_file)],
) -> None:
    """Join files of descriptions, one record per picture: the more complete one, or else the first."""
    from bdam.captions.records import merge_records, write_records

    if missing := [str(path) for path in files if not path.is_file()]:
        raise FileNotFoundError(f"No file at {', '.join(missing)}.")
    records = merge_records(files)
    write_records(output, records)
    tell_states(output, records)


@caption_app.command()
def recheck(data: Pictures, shard: Shard = None) -> None:
    """Check all descriptions anew; those that do not pass become failures, to be asked for by --retry-failed."""
    from bdam.captions.describing import find_pictures, take_shard
    from bdam.captions.records import DescriptionFile, check_again, read_records

    _, path = take_shard(*find_pictures(data), shard)
    with DescriptionFile(path) as file:
        records = [check_again(record) for record in read_records(path)]
        file.replace(records)
    tell_states(path, records)


@caption_app.command("export")
def export_batch(
    data: Pictures,
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

    Exit code 0: for all pictures; 1: no picture can be read; 3: some cannot, and were left out.
    """
    from bdam.captions.batches import export_requests
    from bdam.captions.describing import find_pictures, take_shard

    pictures, path = take_shard(*find_pictures(data), shard)
    styles = load_styles(styles_file)
    body = {"model": model, "temperature": temperature, "max_tokens": max_answer}
    tally = export_requests(pictures, path, output, body, styles, seed)
    console.print(f"{escape(str(output))}: {tally.requests} requests; {tally.failed} pictures left out.")
    tell_reasons(tally.reasons)
    exit_by(tally.requests, tally.failed)


@caption_app.command("import")
def import_batch(
    data: Pictures,
    answers: Annotated[Path, typer.Argument(help="File of answers that the batch wrote.")],
    model: Model,
    styles_file: StylesFile = None,
    shard: Shard = None,
    seed: Seed = 0,
) -> None:
    """
    Check the answers to exported requests, and add them to the descriptions.

    Exit code 0: all pictures of the file are described; 1: this run described none, or ended in an error; 3: some are
    described, and others failed, now or before.
    """
    from bdam.captions.batches import import_answers
    from bdam.captions.describing import find_pictures, take_shard

    pictures, path = take_shard(*find_pictures(data), shard)
    styles = load_styles(styles_file)
    tell_tally(path, import_answers(answers, pictures, path, model, styles, seed))


@app.command()
def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINTS",
            help="Folders, or names on the Hub, of models to compare: BDAM, what `bdam export` wrote, or any dual "
            "encoder of transformers, such as openai/clip-vit-base-patch16.",
        ),
    ],
    data: Data,
    split: Split = "test",
    clothing_weight: ClothingWeight = None,
    image_to_text: Annotated[bool, typer.Option("--image-to-text", help="Search captions by picture, too.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    output: Annotated[Path | None, typer.Option(help="JSON file for the records.", callback=writable_file)] = None,
) -> None:
    """
    Score models by the standard, same-clothes and clothes-changed protocols, on three galleries.

    On several GPUs: accelerate launch -m bdam.cli evaluate …. What was embedded is kept, so that an evaluation that
    was interrupted goes on, and one that is repeated is done at once.
    """
    from accelerate import PartialState

    from bdam.data.loading import load_split
    from bdam.encoding.encoders import load_encoder
    from bdam.encoding.extraction import feature_store
    from bdam.evaluation import protocols
    from bdam.evaluation.features import extract_features
    from bdam.evaluation.origin import commit, data_source
    from bdam.evaluation.published import TABLE_I
    from bdam.evaluation.report import published_table, results_table, write_results
    from bdam.training.models import fingerprint, training_seed

    dataset, state, records = load_split(data, split), PartialState(), []
    for checkpoint in dict.fromkeys(checkpoints):
        encoder = load_encoder(checkpoint)
        encoder.model.to(state.device)
        settings: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
        store = feature_store(checkpoint, dataset, **settings)
        features = extract_features(encoder, dataset, **settings, store=store)
        own_weight = getattr(encoder.model.config, "clothing_weight", 0.0)
        weights = dict.fromkeys((0.0, own_weight if clothing_weight is None else clothing_weight))
        origin = {
            **{"split": split, "checkpoint": checkpoint, "weights": fingerprint(checkpoint)},
            **{"data": data_source(dataset, data), "seed": training_seed(checkpoint)},
            **{"commit": commit(), "mixed_precision": mixed_precision},
        }
        records += protocols.evaluate(features, tuple(weights), image_to_text, **origin)
    if not state.is_main_process:
        return
    console.print(results_table(records))
    if split == "test" and dataset.info.dataset_name in TABLE_I:
        console.print(published_table(records, dataset.info.dataset_name))
    if output is not None:
        write_results(output, records)


@app.command()
def analyze(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, with model/ and log.jsonl.")],
    data: Annotated[
        str | None, typer.Option(help="Data set, as for evaluate; by default, the one trained on.")
    ] = None,
    split: Split = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; by default, RUN/analysis.", callback=writable_folder)
    ] = None,
    seed: Seed = 0,
) -> None:
    """Look inside a trained model: gates, disentanglement, embeddings, losses, successes and failures."""
    from bdam.data.loading import load_split
    from bdam.encoding.encoders import BDAMEncoder
    from bdam.evaluation import analysis, figures
    from bdam.evaluation.features import extract_features
    from bdam.evaluation.report import analysis_table, write_results
    from bdam.training.models import RECIPE, fingerprint, load_model, training_seed
    from bdam.training.recipes import load_recipe

    model, processor = load_model(run / "model")
    encoder = BDAMEncoder(model, processor)
    curves = analysis.read_curves(run / "log.jsonl")
    data = data or load_recipe(run / "model" / RECIPE).data
    dataset = load_split(data, split)
    features = extract_features(encoder, dataset)
    parts = analysis.picture_parts(encoder, dataset)
    gates = analysis.gate_values(parts)
    examples = analysis.examples(features, dataset, model.config.clothing_weight, seed)

    output = output or run / "analysis"
    output.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, tuple[Callable, Any]] = {
        "gates.png": (figures.gate_histograms, gates if any(gates.values()) else None),
        "embeddings.png": (figures.embedding_maps, analysis.picture_maps(features, seed)),
        "weights.png": (figures.training_curves, curves),
        "successes.png": (figures.ranked_grid, examples["successes"]),
        "failures.png": (figures.ranked_grid, examples["failures"]),
    }
    for name, (draw, content) in drawings.items():
        (output / name).unlink(missing_ok=True)
        if content:
            draw(content, output / name)
    results = {
        **{"run": str(run), "seed": training_seed(run / "model"), "sampling_seed": seed},
        **{"weights": fingerprint(run / "model"), "clothing_weight": model.config.clothing_weight},
        **{"data": data, "split": split, "num_pictures": len(dataset)},
        **analysis.gate_statistics(parts),
        "probes": analysis.disentanglement(parts, dataset, seed),
        "groups": analysis.recall_by_group(features, dataset, model.config.clothing_weight),
        "logged": list(curves),
        "figures": {name: bool(content) for name, (_, content) in drawings.items()},
    }
    write_results(output / "analysis.json", results)
    console.print(analysis_table(results))
    console.print(f"Wrote {output}.")


@app.command()
def index(
    checkpoint: Checkpoint,
    source: Annotated[
        str, typer.Argument(help="A folder of pictures, a data set as for evaluate, or a gallery to take over.")
    ],
    place: Place,
    split: Split = "test",
    descriptions: Annotated[
        bool, typer.Option("--descriptions", help="Fuse pictures with their identity descriptions.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget pictures below the folder whose files are gone.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Prune even if that forgets most of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    approximate: Approximate = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the encoders: slow to start.")] = False,
) -> None:
    """
    Make a gallery of pictures, to be searched; or add to one what is new.

    What was embedded is kept, so that a run that was interrupted goes on. On several GPUs: accelerate launch -m
    bdam.cli index …. Exit code 0: all pictures are in the gallery; 1: none; 3: all but those that cannot be read.
    """
    from accelerate import PartialState

    from bdam.retrieval.collection import open_collection
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.parts import is_gallery
    from bdam.retrieval.pipeline import BDAMPipeline
    from bdam.retrieval.sources import Pictures, find_pictures

    state = PartialState()
    # First, so that nothing is made or forgotten where there is nothing to index.
    pictures = Path(source) if is_gallery(source) else find_pictures(source, split, descriptions)
    if prune and not (isinstance(pictures, Pictures) and pictures.folder):
        raise ValueError(f"--prune forgets what is gone below a folder of pictures, which {source} is not.")
    pipeline = BDAMPipeline(checkpoint, str(state.device), mixed_precision, compile, batch_size)
    with state.main_process_first():
        gallery = Gallery(pipeline, open_collection(place, pipeline.space, approximate))
    gone = gallery.find_gone(pictures, force) if prune and isinstance(pictures, Pictures) else []
    if state.is_main_process:
        for name in gone:
            console.print(f"{'would forget' if dry_run else 'forgetting'} {escape(name)}", soft_wrap=True)
    if dry_run:
        if state.is_main_process:
            tell_plan(gallery, pictures)
        return
    addition = gallery.add(pictures)
    state.wait_for_everyone()
    if not state.is_main_process:
        return
    gallery.remove(gone)
    for reason in addition.reasons():
        errors.print(f"[yellow]left out:[/] {escape(reason)}", soft_wrap=True)
    gallery = Gallery.load(place, pipeline, approximate)
    done = [f"{addition.added:,} of them new"]
    for count, what in ((addition.moved, "moved"), (len(gone), "forgotten"), (len(addition.left_out), "left out")):
        done += [f"{count:,} {what}"] if count else []
    console.print(f"{escape(place)}: {len(gallery):,} pictures, {', '.join(done)}.")
    if approximate:
        recalls = gallery.measure_recall()
        shares = ", ".join(f"{recall:.1%} at clothing weight {weight:g}" for weight, recall in recalls.items())
        console.print(f"Of the first ten that an exact search finds, the graph finds {shares}.")
    if addition.left_out:
        raise typer.Exit(IN_PART)


@app.command()
def search(
    place: Place,
    sentences: Annotated[
        list[str] | None, typer.Argument(help="Whom to look for; each is a search of its own.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="A sentence about the person alone.")] = None,
    clothing: Annotated[str | None, typer.Option(help="A sentence about the clothes alone.")] = None,
    like: Annotated[
        str | None, typer.Option(help="An example: a file, or the name of a picture in the gallery.")
    ] = None,
    clothing_weight: ClothingWeight = None,
    k: Annotated[int, typer.Option(min=1, help="Pictures to find.")] = 8,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="COLUMN=VALUE[,VALUE …]; may be given again.")
    ] = None,
    model: MovedModel = None,
    approximate: Approximate = False,
    grid: Annotated[Path | None, typer.Option(help="PNG for the ranked pictures.", callback=writable_file)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Find people in a gallery, by sentences or by example."""
    from bdam.data.pictures import open_picture
    from bdam.evaluation.figures import ranked_grid
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.report import hits_row, hits_table

    gallery = Gallery.load(place, model, approximate)
    options: dict[str, Any] = {"identity": identity, "clothing": clothing, "clothing_weight": clothing_weight, "k": k}
    example = open_picture(like) if like is not None and Path(like).exists() else like
    if isinstance(example, str) and not gallery.holds(example):
        raise ValueError(f"{like} is neither a file nor the name of a picture of the gallery.")
    options |= {"like": example, "filter": parse_filters(filters or [])}
    texts: list[str | None] = [*sentences] if sentences else [None]
    asked = [" · ".join(filter(None, (text, like, identity, clothing))) for text in texts]
    found = [gallery.search(text, **options) for text in texts]
    answers = list(zip(asked, found, strict=True))
    if as_json:
        lost = [gallery.check_sentences(text, identity, clothing) for text in texts]
        found_as_json = [
            {"query": query, "warnings": warnings, "hits": [asdict(hit) for hit in hits]}
            for (query, hits), warnings in zip(answers, lost, strict=True)
        ]
        print(json.dumps(found_as_json))
    for query, hits in answers if not as_json else ():
        console.print(hits_table(query, hits))
    if grid is not None:
        rows = [hits_row(gallery, query, hits, example) for query, hits in answers]
        ranked_grid(rows, grid, gallery.pipeline.space.weights)


@app.command()
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
    """Write the picture and the query encoder as ONNX files that agree with the model."""
    from bdam.encoding.onnx import export_onnx

    export_onnx(checkpoint, folder, quantize=int8)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 2**20:,.1f} MB" for path in sorted(folder.glob("*.onnx*")))
    console.print(f"Wrote {folder}: {sizes}.")


@app.command("app")
def serve(
    place: Place,
    model: MovedModel = None,
    approximate: Approximate = False,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: for this machine alone. 0.0.0.0: for whoever can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Search a gallery on a web page."""
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.page import build_page, serve_page

    serve_page(build_page(Gallery.load(place, model, approximate)), host, port)


@app.command()
def study(
    sources: Annotated[
        list[str], typer.Argument(metavar="RECIPES", help="YAML files to compare, and key=value overrides for all.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the runs and the report; what it holds is not run again.", callback=writable_folder
        ),
    ],
    base: Annotated[
        list[Path] | None, typer.Option(help="Recipe to stack each RECIPE on; may be given again.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of each recipe, between commas.")] = "0,1,2",
    launch: Annotated[str, typer.Option(help='Arguments of accelerate launch: "--multi_gpu --num_processes 8".')] = "",
) -> None:
    """Train and evaluate recipes with several seeds, and report what they score on the test split."""
    from bdam.evaluation.figures import study_figure
    from bdam.evaluation.report import study_table, write_study
    from bdam.evaluation.study import aggregate, describe, plan_study, read_results, run_study

    recipes = [Path(source) for source in sources if "=" not in source]
    overrides = [source for source in sources if "=" in source]
    runs = plan_study(recipes, overrides, base or [], parse_seeds(seeds), output)
    failed = run_study(runs, shlex.split(launch))
    if records := [record for run in runs for record in read_results(run)]:
        rows = aggregate(records)
        write_study(output, rows, describe(runs, records, shlex.join(["bdam", *sys.argv[1:]])))
        study_figure(rows, output / "report.png")
        console.print(study_table(rows))
        console.print(f"Wrote {output}/report.md, .csv, .json and .png.")
    for run in failed:
        console.print(f"[bold red]failed:[/] {escape(run.name)}, seed {run.recipe.seed}: see {escape(str(run.log))}")
    if failed:
        raise typer.Exit(1)


def load_generalizer(model: str | None, base_url: str | None, concurrency: int, max_tokens: int) -> Any:
    """The MLLM that makes captions alike; none if none was given."""
    if model is None:
        if base_url is not None:
            raise ValueError("--base-url needs --model, the name of the MLLM on that server.")
        return None
    from bdam.captions.client import MLLM
    from bdam.captions.generalizing import Generalizer

    return Generalizer(MLLM(model, base_url, temperature=0, max_tokens=max_tokens), concurrency)


def load_styles(path: Path | None) -> Any:
    """The styles to write in; none if none were given."""
    if path is None:
        return None
    from bdam.captions.styles import Styles

    return Styles.load(path)


def tell_states(path: Path, records: list) -> None:
    """How many pictures a file of descriptions describes."""
    from bdam.captions.records import count_records

    states, _ = count_records(records)
    console.print(f"{escape(str(path))}: {states['described']} pictures described, {states['failed']} failed.")


def tell_tally(path: Path, tally: Any, details: str = "") -> None:
    """What a run has described and what not, and why; ends the command with the exit code for it."""
    console.print(f"{escape(str(path))}: {tally.described} pictures described, {tally.failed} failed{details}.")
    tell_reasons(tally.reasons)
    if tally.failed_before:
        console.print(f"{tally.failed_before} failed in an earlier run: `bdam caption describe --retry-failed`.")
    is_idle = not tally.described + tally.failed
    exit_by(tally.described_before if is_idle else tally.described, tally.failed + tally.failed_before)


def tell_reasons(reasons: Any) -> None:
    """The most frequent ones."""
    for reason, count in reasons.most_common(3):
        console.print(f"failed {count:,} times: {escape(reason)}", highlight=False)
    if len(reasons) > 3:
        console.print(f"… and for {len(reasons) - 3} other reasons.")


def exit_by(done: int, failed: int) -> None:
    if failed:
        raise typer.Exit(IN_PART if done else 1)


def parse_filters(texts: list[str]) -> dict[str, list]:
    """`camera=1,2` → `{"camera": [1, 2]}`."""
    filters: dict[str, list] = {}
    for text in texts:
        column, separator, values = text.partition("=")
        if not separator:
            raise ValueError(f"--filter must be COLUMN=VALUE, got {text!r}.")
        filters.setdefault(column, []).extend(values.split(","))
    return filters


def tell_plan(gallery: Any, pictures: Any) -> None:
    """What indexing would do."""
    from bdam.retrieval.sources import Pictures

    if not isinstance(pictures, Pictures):
        console.print(f"would take over what is new in {escape(str(pictures))}")
        return
    comparison = gallery.compare(pictures)
    counts = {"new": comparison.new, "changed": comparison.changed, "moved": comparison.moved}
    console.print(", ".join(f"{len(places):,} {what}" for what, places in counts.items()) + "; nothing was done.")


def parse_seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds must be whole numbers between commas, such as 0,1,2, got {text!r}.") from None


def main() -> None:
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
