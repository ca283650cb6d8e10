"""Commands that make and search galleries."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bdam.commands.options import IN_PART, Checkpoint, ClothingWeight, Precision, Split, console, errors, writable_file


Uri = Annotated[
    str, typer.Argument(metavar="GALLERY", help="A folder, a file of milvus-lite (….db) or the address of Milvus.")
]
Index = Annotated[
    str,
    typer.Option(
        "--index", help="exact; or an index of FAISS, which is kept beside the vectors: hnsw, or a factory string."
    ),
]
MovedModel = Annotated[str | None, typer.Option("--model", help="The checkpoint, if it is not where it was.")]


def index(
    checkpoint: Checkpoint,
    source: Annotated[
        str, typer.Argument(help="A folder of images, a data set as for evaluate, or a gallery to take over.")
    ],
    uri: Uri,
    split: Split = "test",
    descriptions: Annotated[
        bool, typer.Option("--descriptions", help="Fuse images with their identity descriptions.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget images below the folder whose files are gone.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Prune even if that forgets most of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    index_name: Index = "exact",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    mixed_precision: Annotated[Precision, typer.Option(help="As for accelerate.")] = "no",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the encoders: slow to start.")] = False,
) -> None:
    """
    Make a gallery of images, to be searched; or add to one what is new.

    What was embedded is kept, so that a run that was interrupted goes on. On several GPUs: accelerate launch -m
    bdam.cli index …. Exit code 0: all images are in the gallery; 1: none; 3: all but those that cannot be read.
    """
    from accelerate import PartialState

    from bdam.retrieval.embedder import Embedder
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.sources import open_source
    from bdam.retrieval.stores import open_store

    state = PartialState()
    # First, so that nothing is made or forgotten where there is nothing to index.
    opened = open_source(source, split=split, own_descriptions=descriptions)
    if prune and opened.folder is None:
        raise ValueError(f"--prune forgets what is gone below a folder of images, which {source} is not.")
    embedder = Embedder(checkpoint, str(state.device), mixed_precision, compile, batch_size)
    with state.main_process_first():
        gallery = Gallery(embedder, open_store(uri, embedder.space, index_name))
    gone = gallery.find_gone(opened, force) if prune else []
    if state.is_main_process:
        for name in gone:
            console.print(f"{'would forget' if dry_run else 'forgetting'} {escape(name)}", soft_wrap=True)
    if dry_run:
        if state.is_main_process:
            console.print(f"{escape(gallery.plan(opened))}; nothing was done.")
        return
    addition = gallery.add(opened)
    state.wait_for_everyone()
    if not state.is_main_process:
        return
    gallery.remove(gone)
    print_addition(Gallery.load(uri, embedder, index_name), uri, index_name, addition, len(gone))
    if addition.left_out:
        raise typer.Exit(IN_PART)


def search(
    uri: Uri,
    sentences: Annotated[
        list[str] | None, typer.Argument(help="Whom to look for; each is a search of its own.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="A sentence about the person alone.")] = None,
    clothing: Annotated[str | None, typer.Option(help="A sentence about the clothes alone.")] = None,
    like: Annotated[
        str | None, typer.Option(help="An example: a file, or the name of an image in the gallery.")
    ] = None,
    clothing_weight: ClothingWeight = None,
    k: Annotated[int, typer.Option(min=1, help="Images to find.")] = 8,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="COLUMN=VALUE[,VALUE …]; may be given again.")
    ] = None,
    model: MovedModel = None,
    index_name: Index = "exact",
    grid: Annotated[Path | None, typer.Option(help="PNG for the ranked images.", callback=writable_file)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Find people in a gallery, by sentences or by example."""
    from bdam.data.images import open_image
    from bdam.evaluation.figures import ranked_grid
    from bdam.retrieval.display import hits_row, hits_table
    from bdam.retrieval.gallery import Gallery

    gallery = Gallery.load(uri, model, index_name)
    options: dict[str, Any] = {"identity": identity, "clothing": clothing, "clothing_weight": clothing_weight, "k": k}
    example = open_image(like) if like is not None and Path(like).exists() else like
    if isinstance(example, str) and example not in gallery:
        raise ValueError(f"{like} is neither a file nor the name of an image of the gallery.")
    options |= {"like": example, "filter": parse_filters(filters or [])}
    texts: list[str | None] = [*sentences] if sentences else [None]
    asked = [" · ".join(filter(None, (text, like, identity, clothing))) for text in texts]
    results = list(zip(asked, [gallery.search(text, **options) for text in texts], strict=True))
    if as_json:
        print(
            json.dumps(
                [{"query": query, "warnings": hits.warnings, "hits": [*map(asdict, hits)]} for query, hits in results]
            )
        )
    for query, hits in results if not as_json else ():
        for warning in hits.warnings:
            errors.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
        console.print(hits_table(query, hits))
    if grid is not None:
        rows = [hits_row(gallery, query, hits, example) for query, hits in results]
        ranked_grid(rows, grid, gallery.embedder.space.weights)


def serve(
    uri: Uri,
    model: MovedModel = None,
    index_name: Index = "exact",
    host: Annotated[
        str, typer.Option(help="127.0.0.1: for this machine alone. 0.0.0.0: for whoever can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Search a gallery on a web page."""
    from bdam.retrieval.gallery import Gallery
    from bdam.retrieval.page import build_page, serve_page

    serve_page(build_page(Gallery.load(uri, model, index_name)), host, port)


def print_addition(gallery: Any, uri: str, index_name: str, addition: Any, num_removed: int) -> None:
    """What indexing has done, and how much of an exact search the index finds."""
    for reason in addition.reasons():
        errors.print(f"[yellow]left out:[/] {escape(reason)}", soft_wrap=True)
    done = [f"{addition.added:,} of them new"]
    for count, what in ((addition.moved, "moved"), (num_removed, "forgotten"), (len(addition.left_out), "left out")):
        done += [f"{count:,} {what}"] if count else []
    console.print(f"{escape(uri)}: {len(gallery):,} images, {', '.join(done)}.")
    if index_name != "exact":
        recalls = gallery.measure_recall()
        shares = ", ".join(f"{recall:.1%} at clothing weight {weight:g}" for weight, recall in recalls.items())
        console.print(f"Of the first ten that an exact search finds, {escape(index_name)} finds {shares}.")


def parse_filters(texts: list[str]) -> dict[str, list]:
    """`camera=1,2` → `{"camera": [1, 2]}`."""
    filters: dict[str, list] = {}
    for text in texts:
        column, separator, values = text.partition("=")
        if not separator:
            raise ValueError(f"--filter must be COLUMN=VALUE, got {text!r}.")
        filters.setdefault(column, []).extend(values.split(","))
    return filters
