from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from bdam.footage.detection import Detection
from bdam.footage.frames import Video


class Changes:
    """
    Finds the people of drawn footage as what differs from the streets without them.

    Args:
        streets: images of the size of the frames.
    """

    def __init__(self, streets: list[Image.Image]):
        self.streets = [np.asarray(street).astype(int) for street in streets]

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return [self._find(np.asarray(image).astype(int)) for image in images]

    def _find(self, image: np.ndarray) -> list[Detection]:
        change = min((np.abs(image - street).max(2) > 60 for street in self.streets), key=np.sum)
        columns, _ = ndimage.label(ndimage.binary_closing(change.any(0), np.ones(15)))
        found = []
        for (x,) in ndimage.find_objects(columns):
            rows = change[:, x].any(1).nonzero()[0]
            found.append(Detection(float(x.start), float(rows[0]), float(x.stop), float(rows[-1] + 1), 0.9))
        return [person for person in found if person.height > 80]


def changes_in(footage: Path) -> Changes:
    """The detector for drawn footage, whose first frames show nobody."""
    return Changes([next(iter(Video(path, 5))).image() for path in sorted(footage.rglob("*.mp4"))])


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / (sum(areas) - both)
