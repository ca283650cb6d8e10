"""The command that forgets what is old."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bdam.commands.options import console, errors
from bdam.commands.search import Uri, print_removed


if TYPE_CHECKING:
    from bdam.retrieval.retention import OldImages


def prune(
    uri: Uri,
    older_than: Annotated[float, typer.Option(min=0, metavar="DAYS", help="How old an image may be.")],
    delete_files: Annotated[
        bool, typer.Option("--delete-files", help="Delete the files of your own images, too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Forget most of the images, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
) -> None:
    """
    Forget the images of a gallery that are older than some days.

    The age of an image is the time since its file was last modified; what was cut out of footage is as old as that.
    Files that `bdam detect` wrote are deleted. Your own stay, unless --delete-files deletes them, and come back into
    the gallery with the next `bdam index` of their folder.
    """
    from bdam.data.image_folders import delete_images
    from bdam.footage.deletion import delete_crops, group_crops
    from bdam.retrieval.retention import find_old
    from bdam.retrieval.stores import open_store

    store = open_store(uri)
    old = find_old(store, older_than, force)
    crops = group_crops(old.files.values())
    own = set(old.files.values()).difference(*crops.values())
    kept = set() if delete_files else own
    if not dry_run:
        delete_crops(crops)
        delete_images(own - kept)
        store.remove(old.files)
    print_removed(old.files, is_planned=dry_run)
    deleted = len(old.files) - len(kept)
    if dry_run:
        console.print(f"{len(old.files):,} images and {deleted:,} files would be removed; nothing was done.")
    else:
        console.print(f"{escape(uri)}: {len(store):,} images, {len(old.files):,} removed, {deleted:,} files deleted.")
    print_kept(old, len(kept))


def print_kept(old: "OldImages", num_files: int) -> None:
    """Prints how many images and files stay, and why."""
    if num_files:
        errors.print(f"{num_files:,} files stay, and would be indexed again: --delete-files deletes them.")
    if old.gone:
        errors.print(f"{old.gone:,} images have no file any more: `bdam index … --prune` forgets them.")
    if old.stored:
        errors.print(f"{old.stored:,} images are stored in the gallery, and have no date: they stay.")
