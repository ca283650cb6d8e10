"""Image folders, as `imagefolder` of `datasets` reads them: images, and lines about them in `metadata.jsonl`."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from bdam.data.images import METADATA_FILE, find_image
from bdam.data.writing import keep_lines


def delete_images(paths: Collection[Path]) -> None:
    """
    Deletes images, after their lines in the `metadata.jsonl` that lists them, if there is one: that of their folder or
    of the nearest one above it.

    Args:
        paths: of the images, absolute. Those that do not exist are ignored.
    """
    names: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        if folder := next((folder for folder in path.parents if (folder / METADATA_FILE).is_file()), None):
            names[folder].add(path.relative_to(folder).as_posix())
    for folder, deleted in names.items():
        _delete_lines(folder / METADATA_FILE, deleted)
    for path in paths:
        find_image(path).unlink(missing_ok=True)


def _delete_lines(path: Path, names: set[str]) -> None:
    keep_lines(path, lambda line: line["file_name"] not in names)
