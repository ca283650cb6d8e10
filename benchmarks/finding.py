"""
From drawn footage to people: who is detected, how pure tracks are, and who is found by a sentence.

    python benchmarks/finding.py MODEL [DETECTOR]

Eight people who do not exist walk past two cameras. DETECTOR (default: hog) finds them, and a gallery of their crops
is searched by a caption of each person, camera by camera, with one hit per track. A hit is right if its crop shows
that person, at its own time: each crop is compared with the boxes in which people were drawn in its frame.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from bdam import Gallery
from bdam.data.pedestrians.attributes import draw_identity, draw_outfit
from bdam.data.pedestrians.view import View
from bdam.data.pedestrians.wording import write_caption
from bdam.footage.crops import Box
from bdam.footage.detect import Settings, detect_people
from bdam.footage.drawing import CAMERAS, RATE, DrawnPerson, draw_footage


PEOPLE, SEED = 8, 1


def main(checkpoint: str, detector: str = "hog") -> None:
    with TemporaryDirectory() as folder:
        footage, crops = Path(folder, "footage"), Path(folder, "crops")
        drawn = draw_footage(footage, PEOPLE, SEED)
        report = detect_people(footage, crops, Settings(detector))
        gallery = Gallery.from_images(checkpoint, crops)
        shown = [(image.row, who(image.row, drawn)) for image in gallery.store.find(list(gallery.store.states()))]
        finds = [find(gallery, drawn, camera, person) for camera in CAMERAS for person in range(PEOPLE)]
    tracks: dict[str, Counter[int | None]] = defaultdict(Counter)
    for row, person in shown:
        tracks[row["track"]][person] += 1
    figures = {
        "tracks": report.tracks,
        "crops": report.crops,
        "passages_detected": len({(row["camera"], person) for row, person in shown if person is not None}),
        "crops_of_their_tracks_person": sum(max(counts.values()) for counts in tracks.values()) / len(shown),
        "first_hits_right": sum(finds),
        "searches": len(finds),
    }
    print(json.dumps({"benchmark": "finding", "people": PEOPLE, "detector": detector, **figures}))


def find(gallery: Gallery, drawn: list[DrawnPerson], camera: str, person: int) -> bool:
    """Whether the first hit of a caption of a person shows them, before a camera."""
    random = Random(SEED)  # as `draw_footage` draws them
    looks = [(draw_identity(random), draw_outfit(random)) for _ in range(PEOPLE)][person]
    caption = write_caption(*looks, View("right"), Random(0))
    hits = gallery.search(caption, k=1, filter={"camera": camera}, one_per="track")
    return bool(hits) and who(hits[0].row, drawn) == person


def who(row: Mapping[str, Any], drawn: list[DrawnPerson]) -> int | None:
    """The person whose box in the frame of a crop overlaps it most; None if none does."""
    same = [one for one in drawn if one.source == row["source"] and abs(one.time - row["time"]) < 0.5 / RATE]
    best = max(same, key=lambda one: shared(one.box, row["box"]), default=None)
    return best.person if best is not None and shared(best.box, row["box"]) else None


def shared(one: Box, other: Box) -> int:
    """The pixels that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
