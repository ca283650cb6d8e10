"""Images as they are sent to a server."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image

from bdam.data.images import find_image, open_image


def image_url(path: Path, max_side: int = 768) -> str:
    """
    An image as a `data:` URL, as [`open_image`] opens it: the very file if it is a JPEG of at most `max_side`
    pixels that every reader shows alike, else a JPEG made of it.

    Raises:
        ImageError: as [`open_image`].
    """
    path = find_image(path)
    image = open_image(path)  # a broken file is found here, not by the server
    if max(image.size) <= max_side and _is_plain_jpeg(path):
        content = path.read_bytes()
    else:
        buffer = BytesIO()
        image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        image.save(buffer, "JPEG", quality=90)
        content = buffer.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _is_plain_jpeg(path: Path) -> bool:
    """Whether a file is a JPEG in RGB or gray that lies upright."""
    with Image.open(path) as image:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image.format == "JPEG" and image.mode in ("RGB", "L") and is_upright
