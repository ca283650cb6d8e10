"""Detectors of people: any object detection model of the Hub, and OpenCV's HOG detector."""

import logging
from collections.abc import Sequence
from math import log
from textwrap import shorten
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from bdam.data.hub import reason_of
from bdam.encoding.devices import default_device


logger = logging.getLogger(__name__)

HOG = "hog"
PERSON = "person"
# Pixels. A smaller box holds nobody that could be recognized.
MIN_SIDE = 8
# Of its width and height: the 16 pixels on each side of a window of HOG's 64 × 128 that are not the person (Dalal and
# Triggs, 2005).
HOG_MARGINS = (16 / 64, 16 / 128)
# Share of the smaller one of two boxes that the other may cover, if they are to be two people (as in Dollár's ACF).
MAX_COVERED = 0.65


class Detection(NamedTuple):
    """
    A person in a frame, in pixels from its upper left corner.

    Args:
        left, top, right, bottom: the box.
        score: how sure the detector is, in [0, 1].
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """Pixels from left to right."""
        return self.right - self.left


class Detector(Protocol):
    """Finds people: for each image those of at least its threshold, whose boxes may go over the edges."""

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]: ...


def open_detector(name: str, threshold: float) -> Detector:
    """
    The detector of a name.

    Args:
        name: a folder of an object detection model, its name on the Hub, or `"hog"`.
        threshold: the least score, in [0, 1].

    Raises:
        FileNotFoundError: if there is no such model.
        ImportError: if a package that the detector needs is not installed.
        ValueError: if the model is broken, detects no objects, or none that are called `person`.
    """
    return HogDetector(threshold) if name == HOG else ModelDetector(name, threshold)


def find_people(detector: Detector, images: Sequence[Image.Image]) -> list[list[Detection]]:
    """For each image its people, with boxes inside of it, without those that are a few pixels small."""
    found = []
    for image, detections in zip(images, detector(images), strict=True):
        clamped = [_clamp(detection, image.size) for detection in detections]
        found.append([one for one in clamped if one.width >= MIN_SIDE and one.height >= MIN_SIDE])
    return found


class ModelDetector:
    """
    An object detection model of transformers, such as RT-DETR, RT-DETR v2, D-FINE, DETR or YOLOS.

    Args:
        name: its folder, or its name on the Hub.
        threshold: the least probability.

    Raises:
        FileNotFoundError, ImportError, ValueError: as [`open_detector`].
    """

    def __init__(self, name: str, threshold: float):
        self.threshold = threshold
        self.processor, self.model = _load(name)
        labels = self.model.config.id2label
        self.people = [index for index, label in labels.items() if label.lower() == PERSON]
        if not self.people:
            some = shorten(", ".join(labels.values()), 100, placeholder=" …")
            raise ValueError(f"{name} finds no people: its labels are {some}, not `{PERSON}`. Give another model.")

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.model.device)
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_object_detection(self.model(**inputs), self.threshold, sizes)
        return [self._people(objects) for objects in found]

    def _people(self, objects: dict[str, Any]) -> list[Detection]:
        columns = (objects[name].tolist() for name in ("boxes", "scores", "labels"))
        found = zip(*columns, strict=True)
        return [Detection._make([*box, score]) for box, score, label in found if label in self.people]


class HogDetector:
    """
    The people detector of OpenCV, of 2005 (Dalal and Triggs): histograms of oriented gradients and a linear SVM. It
    needs no download, finds people who stand upright, at least some 80 pixels high, and misses many.

    Args:
        threshold: the least score: the logistic function of the output of the SVM, so 0.5 is what OpenCV takes. It is
            no probability.

    Raises:
        ImportError: if there is no OpenCV, or one from version 5 on, which has no such detector.
    """

    def __init__(self, threshold: float):
        try:
            import cv2

            self._hog = cv2.HOGDescriptor()
        except (ImportError, AttributeError) as error:
            raise ImportError(f"The detector {HOG} needs OpenCV 4: pip install bdam[footage]") from error
        self._hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))
        self.threshold = log(threshold / (1 - threshold))
        logger.warning(
            f"{HOG} is a detector of 2005: it misses many people, and takes other things for people. It is for trying "
            "things out without a model; for all else, give one of the Hub."
        )

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return [self._find(np.asarray(image)) for image in images]

    def _find(self, pixels: np.ndarray) -> list[Detection]:
        if pixels.shape[0] < self._hog.winSize[1] or pixels.shape[1] < self._hog.winSize[0]:
            return []
        # All windows: the groups that OpenCV makes of them keep large ones around several people.
        windows, outputs = self._hog.detectMultiScale(
            pixels, hitThreshold=self.threshold, winStride=(4, 4), groupThreshold=0
        )
        scores = 1 / (1 + np.exp(-np.ravel(outputs)))
        return _keep_surest([_person_in(window, score) for window, score in zip(windows, scores, strict=True)])


def _person_in(window: Sequence[int], score: float) -> Detection:
    """The person in a window of HOG: its left, top, width and height."""
    left, top, width, height = map(float, window)
    x, y = HOG_MARGINS[0] * width, HOG_MARGINS[1] * height
    return Detection(left + x, top + y, left + width - x, top + height - y, float(score))


def _keep_surest(people: list[Detection]) -> list[Detection]:
    """Removes each box that overlaps too much with a box of a higher score."""
    kept: list[Detection] = []
    for person in sorted(people, key=lambda one: one.score, reverse=True):
        if all(_covered(person, other) <= MAX_COVERED for other in kept):
            kept.append(person)
    return kept


def _covered(one: Detection, other: Detection) -> float:
    """The share of the smaller one of two boxes that the other covers."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(width, 0) * max(height, 0) / min(one.width * one.height, other.width * other.height)


def _load(name: str):
    """The image processor and the model of a checkpoint, the model on the default device."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForObjectDetection.from_pretrained(name, dtype=torch.float32)
    except OSError as error:
        raise FileNotFoundError(
            f"No detector at {name}: there is no such folder, nor a model on the Hub that can be reached. Without "
            f"one, {HOG} finds some people."
        ) from error
    except ImportError:
        raise
    except Exception as error:  # of readers of configs and weights, without a common class
        reason = shorten(reason_of(error), 200, placeholder="…").rstrip(".")
        raise ValueError(f"{name} is no object detection model that can be loaded: {reason}.") from error
    return processor, model.to(default_device()).eval()


def _clamp(detection: Detection, size: tuple[int, int]) -> Detection:
    width, height = size
    horizontal = (min(max(x, 0.0), float(width)) for x in (detection.left, detection.right))
    vertical = (min(max(y, 0.0), float(height)) for y in (detection.top, detection.bottom))
    (left, right), (top, bottom) = horizontal, vertical
    return Detection(left, top, right, bottom, detection.score)
