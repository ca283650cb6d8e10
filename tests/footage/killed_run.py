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

from bdam.footage.detect import Settings, detect_people
from bdam.footage.detection import Detection, Detector


# A run is killed when it searches its 5th frame, or touches the files of its folder for the 1st, 4th, 7th, … time.
FRAMES, TOUCHES = 5, 3


class KilledDetector:
    """A detector that kills this process when it is given its `FRAMES`-th frame."""

    def __init__(self, detector: Detector):
        self.detector = detector
        self.left = FRAMES

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        self.left -= len(images)
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.detector(images)


def kill_at_touch(number: int, folder: str) -> None:
    """Has this process killed when it opens, moves or deletes files of a folder for the `number`-th time."""
    left = number

    def touched(event: str, arguments: tuple) -> None:
        nonlocal left
        path = arguments[0] if arguments else None
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(touched)


def main() -> None:
    footage, crops = sys.argv[1:]
    detector = changes_in(Path(footage))
    for kills in count():
        if not (child := os.fork()):
            killed = detector
            if kills % 2:
                killed = KilledDetector(detector)
            else:
                kill_at_touch(1 + TOUCHES * kills, crops)
            detect_people(footage, crops, Settings("changes"), killed, batch_size=2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            print(f"{kills} kills")
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
