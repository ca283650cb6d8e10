"""
What `test_detect.py` runs: the detection of people in footage, killed and repeated again and again until it ends.

    python killed_run.py FOOTAGE CROPS
"""

import os
import signal
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from people import changes_in
from PIL import Image
from processes import call_at_touch

from bdam.footage.detect import Settings, detect_people
from bdam.footage.detection import Detection, Detector


# A run is killed when it searches its 5th frame, or touches the files of its folder for the 1st, 4th, 7th, … time.
FRAMES, TOUCHES = 5, 3


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KilledDetector:
    """A detector that kills this process when it is given its `FRAMES`-th frame."""

    def __init__(self, detector: Detector):
        self.detector = detector
        self.left = FRAMES

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        self.left -= len(images)
        if self.left <= 0:
            kill()
        return self.detector(images)


def main() -> None:
    footage, crops = sys.argv[1:]
    detector = changes_in(Path(footage))
    for kills in count():
        if not (child := os.fork()):
            killed = detector
            if kills % 2:
                killed = KilledDetector(detector)
            else:
                call_at_touch(kill, 1 + TOUCHES * kills, crops)
            detect_people(footage, crops, Settings("changes"), killed, batch_size=2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            print(f"{kills} kills")
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
