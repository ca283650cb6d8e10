"""
What `bdam detect` costs beside decoding, and whether its memory grows.

    python benchmarks/footage.py [MINUTES]

A drawn video of MINUTES (default: 60) is searched at 2 and at 5 frames per second, the latter with tracking, by a
detector that costs nothing and always finds two people, which measures all that is our own. Beside it, the same frames
are only decoded, and some are searched by `hog`. Rates are seconds of video per second; the memory is the growth of
the process after the first tenth of the longer search.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import psutil
from PIL import Image

from bdam.footage.detect import Settings, detect_people
from bdam.footage.detection import Detection, open_detector
from bdam.footage.drawing import draw_footage
from bdam.footage.frames import Video


class FreeDetector:
    """Finds two people who walk to and fro, and notes the memory of the process."""

    def __init__(self) -> None:
        self.frames = 0
        self.memory: list[float] = []

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        self.memory.append(psutil.Process().memory_info().rss / 2**20)
        self.frames += len(images)
        return [self._people(number) for number in range(self.frames - len(images), self.frames)]

    def _people(self, number: int) -> list[Detection]:
        x = abs(number * 5 % 800 - 400)
        return [Detection(x, top, x + 60, top + 110, 0.9) for top in (10, 130)]


def write_long(path: Path, minutes: float) -> None:
    """A short drawn video over and over."""
    draw_footage(path.parent / "short", people=2)
    short = path.parent / "short/north/street.mp4"
    with av.open(str(path), "w") as container, av.open(str(short)) as first:
        stream = container.add_stream_from_template(first.streams.video[0])
        length = first.streams.video[0].duration
        seconds = float(length * first.streams.video[0].time_base)
        for number in range(round(60 * minutes / seconds)):
            with av.open(str(short)) as again:
                for packet in again.demux(video=0):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + number * length, packet.dts + number * length
                        packet.stream = stream
                        container.mux(packet)


def timed(work: Iterator) -> float:
    start = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - start


def main() -> None:
    minutes = float(sys.argv[1]) if sys.argv[1:] else 60
    figures: dict[str, float] = {"minutes": minutes}
    with TemporaryDirectory() as folder:
        path = Path(folder, "long.mp4")
        write_long(path, minutes)
        for rate in (2, 5):
            decoding = timed(frame.image() for frame in Video(path, rate))
            detector = FreeDetector()
            start = time.perf_counter()
            report = detect_people(
                path, Path(folder, f"crops{rate}"), Settings("free", frames_per_second=rate), detector
            )
            searching = time.perf_counter() - start
            figures[f"decoding_at_{rate}"] = round(60 * minutes / decoding)
            figures[f"detecting_at_{rate}"] = round(60 * minutes / searching)
            figures[f"of_decoding_at_{rate}"] = round(decoding / searching, 2)
            figures[f"crops_at_{rate}"] = report.crops
        steady = detector.memory[len(detector.memory) // 10 :]
        figures["memory_growth_mib"] = round(max(steady) - steady[0])
        hog = open_detector("hog", 0.5)
        frames = [frame.image() for frame in islice(Video(path, 2), 40)]
        figures["hog_at_2"] = round(20 / timed(hog([image]) for image in frames), 1)
    print(json.dumps({"benchmark": "footage", **figures}))


if __name__ == "__main__":
    main()
