"""Shows where in its photograph or video an image of a gallery was cut out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

from bdam.data.images import ImageError
from bdam.footage.frames import image_at


RED = "#dc2626"
MAX_SIDE = 960  # pixels


def show_in_frame(footage: Path, row: Mapping[str, Any], hide_others: bool = False) -> Image.Image | None:
    """
    The frame that an image was cut from, of at most `MAX_SIDE` pixels a side, with its box in red.

    Args:
        footage: the folder that [`detect_people`] found it in, or its only file.
        row: of the image, with the columns `source`, `time` and `box` of [`Crop`].
        hide_others: whether to blur what is around the box.

    Returns:
        None if the row has no such columns, the frame cannot be read, or the box is not in it: then the file is not
        the one that was searched.
    """
    if any(row.get(name) is None for name in ("source", "time", "box")):
        return None
    root = footage if footage.is_dir() else footage.parent
    path = (root / row["source"]).resolve()
    if not path.is_file() or not path.is_relative_to(root.resolve()):
        return None
    try:
        frame = image_at(path, row["time"])
    except ImageError:
        return None
    box = tuple(row["box"])
    if box[2] > frame.width or box[3] > frame.height:
        return None
    if hide_others:
        crop = frame.crop(box)
        frame = frame.filter(ImageFilter.GaussianBlur(max(frame.size) / 100))
        frame.paste(crop, box[:2])
    ImageDraw.Draw(frame).rectangle(box, outline=RED, width=max(max(frame.size) // 200, 2))
    frame.thumbnail((MAX_SIDE, MAX_SIDE))
    return frame
