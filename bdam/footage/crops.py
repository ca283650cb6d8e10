"""The best sightings of a track, and the parts of their frames that are cut out."""

from math import ceil, floor
from typing import NamedTuple

from bdam.footage.tracking import Sighting


# Of the width and height of a person, added on each side: detectors cut hands and feet off.
MARGIN = 0.05
# Pixels between a box and the edge of its frame, from which on the person may be cut off.
EDGE = 2


class Box(NamedTuple):
    """A part of a frame, in whole pixels from its upper left corner; `right` and `bottom` are outside."""

    left: int
    top: int
    right: int
    bottom: int


def choose_best(track: list[Sighting], count: int) -> list[Sighting]:
    """
    Up to `count` sightings of a track, in order: the best of each of so many equal parts of its time. Those whose box
    does not touch the edge of the frame are best, and among them those of the largest score times height.
    """
    start, end = track[0].frame.time, track[-1].frame.time
    best: dict[int, Sighting] = {}
    for sighting in track:
        share = (sighting.frame.time - start) / (end - start) if end > start else 0
        part = min(int(share * count), count - 1)
        if part not in best or _quality(sighting) > _quality(best[part]):
            best[part] = sighting
    return [best[part] for part in sorted(best)]


def crop_box(sighting: Sighting) -> Box:
    """The box of a person with a margin, inside the frame."""
    person, (width, height) = sighting.person, sighting.frame.size
    x, y = MARGIN * person.width, MARGIN * person.height
    return Box(
        max(floor(person.left - x), 0),
        max(floor(person.top - y), 0),
        min(ceil(person.right + x), width),
        min(ceil(person.bottom + y), height),
    )


def _quality(sighting: Sighting) -> tuple[bool, float]:
    person, (width, height) = sighting.person, sighting.frame.size
    is_whole = min(person.left, person.top, width - person.right, height - person.bottom) > EDGE
    return is_whole, person.score * person.height
