"""The commands that make and search galleries."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bdam.commands.asking import hold_dialogue
from bdam.commands.footage import DETECTORS, print_detections
from bdam.commands.hits import print_hits, to_record
from bdam.commands.options import (
    IN_PART,
    BaseURL,
    Checkpoint,
    ClothingWeight,
    Concurrency,
    Precision,
    Rerank,
    RerankTop,
    Split,
    console,
    errors,
    open_reranker,
    writable_file,
)


if TYPE_CHECKING:
    from PIL.Image import Image

    from bdam.retrieval.display import InFrame
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.hits import Hits
    from bdam.retrieval.indexing import IndexReport
    from bdam.retrieval.stores.base import Filter

Uri = Annotated[
    str,
    typer.Argument(
        metavar="GALLERY", help="A folder, LanceDB (….lancedb), milvus-lite (….db) or the address of Milvus."
    ),
]
Index = Annotated[
    str,
    typer.Option(
        "--index", help="exact; or an index of FAISS, stored in the folder of the gallery: hnsw, or a factory string."
    ),
]
# Two numbers or times such as 1:05.5, of which either may be left out.
BOUND = r"(-?\d+\.?\d*|(?:\d+:){1,2}\d+\.?\d*)?"
SPAN = re.compile(rf"{BOUND}\.\.{BOUND}")
# Addresses that only this machine can reach.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MovedModel = Annotated[
    str | None, typer.Option("--model", help="The checkpoint, if it was moved since the gallery was made.")
]
Footage = Annotated[
    Path | None, typer.Option(help="What the images were cut from by `bdam detect`, to show them in their frames.")
]


def index(
    checkpoint: Checkpoint,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of images, a data set as for evaluate, the folder of a gallery to copy; or, with --detect, "
            "footage."
        ),
    ],
    uri: Uri,
    split: Split = "test",
    detector: Annotated[
        str | None, typer.Option("--detect", metavar="DETECTOR", help=f"Find people in footage first. {DETECTORS}")
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="With --detect: folder for their images. Default: GALLERY.crops.")
    ] = None,
    descriptions: Annotated[
        bool, typer.Option("--descriptions", help="Fuse images with their identity descriptions.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove images below the folder whose files were deleted.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Let --prune remove most of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    index_name: Index = "exact",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the encoders: slow to start.")] = False,
) -> None:
    """
    Make a gallery of images, or add new and changed images to one.

    A run that was interrupted continues where it stopped. On several GPUs: accelerate launch -m bdam.cli index ….
    Exit code 0: all images are in the gallery; 1: none; 3: all except those that cannot be read.
    """
    from accelerate import PartialState

    from bdam.retrieval.indexing import index_images

    left_out = 0
    if detector is not None:
        if dry_run:
            raise ValueError("Before --dry-run, find people by `bdam detect FOOTAGE CROPS`, then index CROPS.")
        folder, left_out = detect_first(source, detector, crops, uri)
        source = str(folder)
    encoding: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision, "compile": compile}
    report = index_images(
        checkpoint, source, uri, split, descriptions, prune, force, dry_run, index=index_name, **encoding
    )
    if not PartialState().is_main_process:
        return
    print_report(report, uri, index_name)
    if left_out or report.addition.left_out:
        raise typer.Exit(IN_PART)


def detect_first(footage: str, detector: str, crops: Path | None, uri: str) -> tuple[Path, int]:
    """
    Finds people in footage.

    Returns:
        The folder of their images, and how many files of the footage cannot be read.

    Raises:
        ValueError: if several processes were started, or the gallery is no file or folder that crops can lie beside.
    """
    from accelerate import PartialState

    from bdam.footage.detect import Settings, detect_people

    if PartialState().num_processes > 1:
        raise ValueError("One process finds people: run `bdam detect FOOTAGE CROPS` first, then index CROPS.")
    if crops is None and "://" in uri:
        raise ValueError(f"{uri} is no folder that images can be written beside: give --crops FOLDER.")
    crops = crops or Path(f"{uri}.crops")
    report = detect_people(footage, crops, Settings(detector))
    print_detections(report, crops)
    return crops, len(report.left_out)


def search(
    uri: Uri,
    sentences: Annotated[
        list[str] | None, typer.Argument(help="A description of the person; each is a search of its own.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="A sentence about the person alone.")] = None,
    clothing: Annotated[str | None, typer.Option(help="A sentence about the clothes alone.")] = None,
    like: Annotated[str | None, typer.Option(help="An example: a file, or the id of an image in the gallery.")] = None,
    clothing_weight: ClothingWeight = None,
    k: Annotated[int, typer.Option(min=1, help="Number of images to find.")] = 8,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="COLUMN=VALUE[,VALUE …], or COLUMN=FROM..TO for numbers; may be given again."),
    ] = None,
    one_per: Annotated[
        str | None, typer.Option(help="COLUMN, such as track: the best image alone of those with the same value.")
    ] = None,
    model: MovedModel = None,
    index_name: Index = "exact",
    rerank: Rerank = None,
    base_url: BaseURL = None,
    rerank_top: RerankTop = 20,
    concurrency: Concurrency = 16,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Budget of --rerank for all sentences.")] = None,
    grid: Annotated[Path | None, typer.Option(help="PNG file for the ranked images.", callback=writable_file)] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="On the grid, red shows what the score of an image loses when hidden.")
    ] = False,
    footage: Footage = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask what would tell most, and search again with each answer.")
    ] = False,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="YAML file of your own questions, for --ask.")
    ] = None,
) -> None:
    """
    Find people in a gallery, by sentences or by example.

    With --ask, each round prints a question with numbered answers and reads a number: 0 if the answer is not known, an
    empty line to end. With --json, each round is a line with hits and question.
    """
    from bdam.evaluation.figures import ranked_grid
    from bdam.retrieval.asking import Asker
    from bdam.retrieval.display import hits_row
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.questions import QUESTIONS, load_questions

    if grid is None and (explain or footage is not None):
        raise ValueError(f"{'--explain' if explain else '--footage'} draws on the grid: give --grid, too.")
    if ask and len(sentences or []) > 1:
        raise ValueError("With --ask, give one sentence.")
    if questions is not None and not ask:
        raise ValueError("--questions are for --ask: give it, too.")
    to_ask = load_questions(questions or QUESTIONS) if ask else []
    if ask and rerank is not None:
        raise ValueError("--ask and --rerank both put images in a new order: give one of them.")
    in_frame = None if footage is None else open_frames_of(footage, hide_others=False)
    reranker = open_reranker(rerank, base_url, rerank_top, concurrency, max_requests)
    gallery = Gallery.load(uri, model, index_name)
    example = open_example(gallery, like)
    halves: dict[str, Any] = {"identity": identity, "clothing": clothing, "like": example}
    texts: list[str | None] = [*sentences] if sentences else [None]
    queries = [{"text": text, **halves, "clothing_weight": clothing_weight} for text in texts]
    titles = [" · ".join(filter(None, (text, like, identity, clothing))) for text in texts]
    options: dict[str, Any] = {"k": k, "filter": parse_filters(filters or []), "one_per": one_per}
    if ask:
        results = [hold_dialogue(Asker(gallery, to_ask), titles[0], queries[0] | options, as_json)]
    else:
        results = [
            (title, gallery.search(**query, **options, rerank=reranker))
            for title, query in zip(titles, queries, strict=True)
        ]
        print_results(results, as_json)
    if grid is not None:
        rows = [
            hits_row(gallery, title, hits, example, query if explain else None, in_frame)
            for (title, hits), query in zip(results, queries, strict=True)
        ]
        ranked_grid(rows, grid, gallery.embedder.space.weights)


def serve(
    uri: Uri,
    model: MovedModel = None,
    index_name: Index = "exact",
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine only. 0.0.0.0: every machine that can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    users: Annotated[
        Path | None, typer.Option(help="File with a line NAME:HASH for each user, as `htpasswd -B` writes it.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="File to add a JSON line to for each search and each image that is opened: when, who, what, and the "
            "images shown.",
            callback=writable_file,
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let every machine that reaches the page search without name and log.")
    ] = False,
    blur_heads: Annotated[
        bool | None,
        typer.Option("--blur-heads/--show-heads", help="Default: blurred if other machines can reach the page."),
    ] = None,
    footage: Footage = None,
) -> None:
    """
    Search a gallery on a web page.

    Where other machines can reach the page, it asks for names and keeps a log.
    """
    from bdam.retrieval.access import QueryLog, Users
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.page import build_page, serve_page

    is_shared = host not in LOOPBACK
    if is_shared and not public and (users is None or log is None):
        raise ValueError(
            f"Other machines can reach a page at {host}: give --users and --log, so that it is known who searches for "
            "whom; or --public, if all people on the images have consented."
        )
    known = None if users is None else Users.read(users)
    gallery = Gallery.load(uri, model, index_name)
    blur_heads = is_shared if blur_heads is None else blur_heads
    in_frame = None if footage is None else open_frames_of(footage, blur_heads)
    serve_page(build_page(gallery, blur_heads, None if log is None else QueryLog(log), in_frame), host, port, known)


def open_frames_of(footage: Path, hide_others: bool) -> "InFrame":
    """
    What shows images of a gallery in the frames of footage; see [`show_in_frame`].

    Raises:
        FileNotFoundError: if there is no footage.
    """
    from bdam.footage.placing import show_in_frame

    if not footage.exists():
        raise FileNotFoundError(f"No footage at {footage}: give the photograph, video or folder that was searched.")
    return lambda row: show_in_frame(footage, row, hide_others)


def print_report(report: "IndexReport", uri: str, index_name: str) -> None:
    """Prints what indexing has done or would do, and the recall of an approximate index."""
    print_removed(report.removed, is_planned=report.plan is not None)
    if report.plan is not None:
        console.print(f"{escape(report.plan)}; nothing was done.")
        return
    addition = report.addition
    for reason in addition.reasons():
        errors.print(f"[yellow]left out:[/] {escape(reason)}", soft_wrap=True)
    counts = {"moved": addition.moved, "removed": len(report.removed), "left out": len(addition.left_out)}
    done = [f"{addition.added:,} of them new", *(f"{count:,} {what}" for what, count in counts.items() if count)]
    console.print(f"{escape(uri)}: {report.num_images:,} images, {', '.join(done)}.")
    if report.recalls:
        shares = ", ".join(f"{recall:.1%} at clothing weight {weight:g}" for weight, recall in report.recalls.items())
        console.print(f"Of the first ten images of an exact search, {escape(index_name)} finds {shares}.")


def print_removed(image_ids: Iterable[str], is_planned: bool) -> None:
    """Prints which images are removed, or would be."""
    for image_id in image_ids:
        console.print(f"{'would remove' if is_planned else 'removed'} {escape(image_id)}", soft_wrap=True)


def open_example(gallery: "Gallery", like: str | None) -> "str | Image | None":
    """
    The image of a file, or else the id of an image of the gallery; None if there is no example.

    Raises:
        ValueError: if it is neither, or the file cannot be read.
    """
    from bdam.data.images import open_image

    if like is not None and Path(like).exists():
        return open_image(like)
    if like is not None and like not in gallery:
        raise ValueError(f"{like} is neither a file nor the id of an image of the gallery.")
    return like


def print_results(results: "list[tuple[str, Hits]]", as_json: bool) -> None:
    """Prints the hits of queries, each with its title, what their scores mean, and warnings about their sentences."""
    if as_json:
        print(json.dumps([to_record(title, hits) for title, hits in results]))
        return
    for title, hits in results:
        print_hits(title, hits)


def parse_filters(texts: list[str]) -> "Filter":
    """
    The filter that texts COLUMN=VALUE[,VALUE …] and COLUMN=FROM..TO describe: `["camera=1,2", "time=10..25"]` →
    `{"camera": ["1", "2"], "time": Span(10, 25)}`. Without a number on one side, a span has no bound there. 1:05 is
    65 seconds.

    Raises:
        ValueError: if a text has no `=`.
    """
    from bdam.retrieval.stores.base import Span

    listed: dict[str, list[str]] = {}
    spans: dict[str, Span] = {}
    for text in texts:
        column, separator, values = text.partition("=")
        if not separator:
            raise ValueError(f"--filter must be COLUMN=VALUE, got {text!r}.")
        if span := SPAN.fullmatch(values):
            spans[column] = Span(*(None if bound is None else parse_bound(bound) for bound in span.groups()))
        else:
            listed.setdefault(column, []).extend(values.split(","))
    return {**listed, **spans}


def parse_bound(text: str) -> float:
    """A number, or the seconds of M:SS or H:MM:SS."""
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    return value
