"""The form in which images are sent to a server."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image

from bdam.data.images import find_image, open_image


def image_url(path: Path, max_side: int = 768) -> str:
    """
    An image as a `data:` URL, as [`open_image`] opens it: the file itself if it is a JPEG of at most `max_side`
    pixels that every reader shows alike, else a JPEG made of it.

    Args:
        path: the file.
        max_side: pixels of the longer side; larger images are made smaller.

    Raises:
        ImageError: as [`open_image`].
    """
    path = find_image(path)
    image = open_image(path)  # a broken file is found here, not by the server
    if max(image.size) <= max_side and _is_plain_jpeg(path):
        return _data_url(path.read_bytes())
    return jpeg_url(image, max_side)


def jpeg_url(image: Image.Image, max_side: int = 768) -> str:
    """An opened image as a `data:` URL of a JPEG, equal for equal images; see [`image_url`]."""
    small = image.copy()
    small.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return _data_url(buffer.getvalue())


def _data_url(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _is_plain_jpeg(path: Path) -> bool:
    """Whether a file is a JPEG in RGB or gray that lies upright."""
    with Image.open(path) as image:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image.format == "JPEG" and image.mode in ("RGB", "L") and is_upright
