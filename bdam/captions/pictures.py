"""Pictures as they are sent to a server."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image

from bdam.data.pictures import find_picture, open_picture


def picture_url(path: Path, max_side: int = 768) -> str:
    """
    A picture as a `data:` URL, as [`open_picture`] opens it: the very file if it is a JPEG of at most `max_side`
    pixels that every reader shows alike, else a JPEG made of it.

    Raises:
        PictureError: as [`open_picture`].
    """
    path = find_picture(path)
    picture = open_picture(path)  # a broken file is found here, not by the server
    if max(picture.size) <= max_side and _is_plain_jpeg(path):
        content = path.read_bytes()
    else:
        buffer = BytesIO()
        picture.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        picture.save(buffer, "JPEG", quality=90)
        content = buffer.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _is_plain_jpeg(path: Path) -> bool:
    """Whether a file is a JPEG in RGB or gray that lies upright."""
    with Image.open(path) as picture:
        is_upright = picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return picture.format == "JPEG" and picture.mode in ("RGB", "L") and is_upright
