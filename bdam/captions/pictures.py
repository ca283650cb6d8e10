"""Pictures as they are sent to a server."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

from bdam.data.pictures import find_picture


def picture_url(path: Path, max_side: int = 768) -> str:
    """
    A picture as a `data:` URL: the very file if it is a JPEG of at most `max_side` pixels, else one made of it.

    Raises:
        OSError, SyntaxError: what Pillow raises for missing, foreign and broken files.
    """
    content = find_picture(path).read_bytes()
    with Image.open(BytesIO(content)) as picture:
        picture.load()  # a broken file is found here, not by the server
        if picture.format != "JPEG" or max(picture.size) > max_side:
            smaller, buffer = picture.convert("RGB"), BytesIO()
            smaller.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
            smaller.save(buffer, "JPEG", quality=90)
            content = buffer.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
