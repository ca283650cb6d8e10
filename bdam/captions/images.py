"""The images that are described, and the form in which they are sent to a server."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from bdam.data.benchmarks import parse_benchmark, read_listing
from bdam.data.descriptions import DESCRIPTIONS_FILE
from bdam.data.images import ImageError, find_image, list_images
from bdam.mllm.images import image_url


# Bytes of an image that takes longer to hand to a thread, and back, than to read.
SMALL_FILE = 100_000


class UnreadableImage(ValueError):
    """An image that cannot be read, and so cannot be sent to a server."""


@dataclass(frozen=True)
class ImageFile:
    """
    An image to be described.

    Args:
        image_id: its path within the image folder, with `/` between the folders.
        path: its file.
        person_id: who is on it; None if that is not known.
    """

    image_id: str
    path: Path
    person_id: int | str | None = None


def find_images(source: str, shard: str | None = None) -> tuple[list[ImageFile], Path]:
    """
    The images of a benchmark or folder, and the file for their descriptions.

    Args:
        source: a benchmark as `NAME:ROOT`, or a folder, whose sub-folders belong to it.
        shard: as for [`take_shard`]; None for all images.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if the benchmark has a record that is not as it should be, or there is no such shard.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and ":" in source:
        listing = read_listing(*parse_benchmark(source))
        path = listing.descriptions
        images = [
            ImageFile(record.image_id, listing.images / record.image_id, record.person_id)
            for record in listing.records
        ]
    elif folder.is_dir():
        path = folder / DESCRIPTIONS_FILE
        images = [ImageFile(file.relative_to(folder).as_posix(), file) for file in list_images(folder)]
    else:
        raise FileNotFoundError(f"No folder at {source}: give one with images, or a benchmark as NAME:ROOT.")
    return (images, path) if shard is None else take_shard(images, path, shard)


def take_shard(images: list[ImageFile], path: Path, shard: str) -> tuple[list[ImageFile], Path]:
    """
    The images of one shard, and a file of its own for them; [`merge_descriptions`] joins the files.

    Args:
        images, path: from [`find_images`].
        shard: `I/N` for the I-th of N shards, counted from 1.

    Raises:
        ValueError: if `shard` is not of that form.
    """
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N, such as 1/4, got {shard!r}.")
    return images[int(index) - 1 :: int(count)], path.with_name(f"{path.stem}.{index}-of-{count}{path.suffix}")


def read_image(image: ImageFile) -> str:
    """
    The [`image_url`] of an image.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    if not has_utf8_name(image):
        raise UnreadableImage(f"the name {image.image_id!r} is no UTF-8: rename the file")
    try:
        return image_url(image.path)
    except (ImageError, OSError) as error:
        reason = error.reason if isinstance(error, ImageError) else error.strerror
        raise UnreadableImage(f"the image cannot be read: {reason}") from error


async def read_image_async(image: ImageFile) -> str:
    """The same as [`read_image`], while the event loop goes on; a small image is read at once."""
    file = find_image(image.path)
    if file.is_file() and file.stat().st_size > SMALL_FILE:
        return await asyncio.to_thread(read_image, image)
    return read_image(image)


def has_utf8_name(image: ImageFile) -> bool:
    """Whether a file of descriptions can hold the name, unlike one that was written in another encoding."""
    return not re.search("[\ud800-\udfff]", image.image_id)
