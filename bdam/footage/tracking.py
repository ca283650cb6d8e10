"""Detections of one person in frame after frame are joined to a track."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bdam.footage.detection import Detection


try:
    import norfair
    from norfair.filter import OptimizedKalmanFilter
except ImportError as error:
    raise ImportError("Tracking people needs norfair-enough: pip install bdam[footage]") from error


# It warns of boxes that it has itself predicted.
logging.getLogger("norfair").setLevel(logging.ERROR)

# Seconds. With frames that are farther apart, a person who walks has left their box, and nobody is tracked.
STEP = 0.2
# A box belongs to a track if 1 - IoU with the one that is expected there is less.
MAX_DISTANCE = 0.9
# Of a person's height: how far off the edges of a box are; how fast people walk, per second (1.4 m of 1.7 m); and by
# how much that changes from frame to frame, times frames per second.
ERROR, SPEED, CHANGE = 0.05, 0.8, 0.15
# Seconds that a person who was seen once, and at most, is waited for.
FIRST_PATIENCE, PATIENCE = 0.8, 2.0


@dataclass(frozen=True)
class SearchedFrame:
    """
    A frame in which people were looked for.

    Args:
        number, time: see [`Frame`].
        size: width and height in pixels.
        people: that were found, with boxes inside the frame.
    """

    number: int
    time: float
    size: tuple[int, int]
    people: list[Detection]


@dataclass(frozen=True)
class Sighting:
    """
    A person in a frame.

    Args:
        frame: the frame.
        person: the detection.
    """

    frame: SearchedFrame
    person: Detection


def join_tracks(frames: Iterable[SearchedFrame], rate: float) -> list[list[Sighting]]:
    """
    The tracks of a video: each holds the sightings of one person, from when they come into view until they leave it.
    Boxes are compared with those that a Kalman filter expects, so that most people who cross keep their tracks.

    Args:
        frames: in order of time.
        rate: frames per second that were searched. If they are less than 5, each sighting is a track of its own.

    Returns:
        At least one sighting per track; tracks in the order in which they begin.
    """
    if rate < 1 / STEP:
        return [[Sighting(frame, person)] for frame in frames for person in frame.people]
    first_patience, patience = round(FIRST_PATIENCE * rate), round(PATIENCE * rate)  # frames
    tracker = norfair.Tracker(
        "iou", MAX_DISTANCE, hit_counter_max=patience, initialization_delay=0, filter_factory=_WalkFilters(rate)
    )
    tracks: dict[int | None, list[Sighting]] = {}
    time = 0.0
    for frame in frames:
        missed = round((frame.time - time) * rate) - 1  # frames that the video does not have
        for _ in range(min(missed, patience + 1)):
            tracker.update()
        time = frame.time
        tracker.update([_to_norfair(Sighting(frame, person)) for person in frame.people], first_patience)
        for tracked in tracker.tracked_objects:
            if tracked.last_detection.age == tracked.age:  # seen in this frame
                tracks.setdefault(tracked.initializing_id, []).append(tracked.last_detection.data)
    return list(tracks.values())


class _WalkFilters(norfair.FilterFactory):
    """
    Kalman filters for the boxes of people who walk. Those of norfair expect boxes that move by a pixel per frame, and
    lose people who walk fast.
    """

    def __init__(self, rate: float):
        self.rate = rate

    def create_filter(self, initial_detection: np.ndarray) -> OptimizedKalmanFilter:
        height = initial_detection[1, 1] - initial_detection[0, 1]
        error, speed, change = ((share * height) ** 2 for share in (ERROR, SPEED / self.rate, CHANGE / self.rate))
        factory = norfair.OptimizedKalmanFilterFactory(R=error, Q=change, pos_variance=error, vel_variance=speed)
        return factory.create_filter(initial_detection)


def _to_norfair(sighting: Sighting) -> norfair.Detection:
    person = sighting.person
    corners = np.array([[person.left, person.top], [person.right, person.bottom]])
    return norfair.Detection(corners, data=sighting)
