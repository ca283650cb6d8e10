from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bdam.footage.detection import Detection
from bdam.footage.drawing import DrawnPerson, draw_footage


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
        labels, _ = ndimage.label(ndimage.binary_closing(change, np.ones((9, 9))))
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
        return [Detection(*map(float, box), score=0.9) for box in boxes if box[3] - box[1] > 60]
