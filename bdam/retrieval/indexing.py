"""Indexing: adds the images of a source to a gallery, and removes those whose files were deleted."""

from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState

from bdam.retrieval.changes import Addition
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.sources import check_is_folder, open_source
from bdam.retrieval.stores import open_store


@dataclass(frozen=True)
class IndexReport:
    """
    What indexing has done or, in a dry run, would do.

    Args:
        num_images: number of images in the gallery afterwards.
        removed: ids of the images that were removed, or would be.
        plan: what would be added, in words; None unless it was a dry run.
        addition: what was added; empty in a dry run.
        recalls: clothing weight → recall@10 of the index, see [`Gallery.measure_recall`]; empty for an exact search.
    """

    num_images: int
    removed: list[str]
    plan: str | None = None
    addition: Addition = field(default_factory=Addition)
    recalls: dict[float, float] = field(default_factory=dict)


def index_images(
    checkpoint: str,
    source: str,
    uri: str,
    split: str = "test",
    own_descriptions: bool = False,
    prune: bool = False,
    force: bool = False,
    dry_run: bool = False,
    index: str = "exact",
    **options: Any,
) -> IndexReport:
    """
    Adds the images of a source to the gallery at a URI, which is made if there is none. Processes share the work.

    Args:
        checkpoint: folder of a model, or its name on the Hub.
        source, split, own_descriptions: see [`open_source`].
        uri, index: see [`open_store`].
        prune: whether to remove images below the source folder whose files were deleted.
        force: whether `prune` may remove most of them.
        dry_run: whether to report what would be done, and do nothing.
        options: of the [`Embedder`], such as `batch_size`.

    Raises:
        FileNotFoundError, ValueError: as [`open_source`], [`open_store`], [`Gallery.add`] and
            [`Gallery.find_deleted`].
    """
    images = open_source(source, split=split, own_descriptions=own_descriptions)  # before a store is made
    if prune:
        check_is_folder(images)
    state = PartialState()
    embedder = Embedder(checkpoint, str(state.device), **options)
    with state.main_process_first():
        gallery = Gallery(embedder, open_store(uri, embedder.space, index))
    deleted = gallery.find_deleted(images, force) if prune else []
    if dry_run:
        return IndexReport(len(gallery), deleted, gallery.plan(images))
    addition = gallery.add(images)
    state.wait_for_everyone()
    if not state.is_main_process:
        return IndexReport(len(gallery), deleted, addition=addition)
    gallery.remove(deleted)
    gallery = Gallery.load(uri, embedder, index)  # with what other processes have added
    recalls = {} if index == "exact" else gallery.measure_recall()
    return IndexReport(len(gallery), deleted, addition=addition, recalls=recalls)
