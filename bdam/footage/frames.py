"""Frames of videos, sampled by time, and photographs, which are one frame each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from PIL import Image

from bdam.data.hub import reason_of
from bdam.data.images import ImageError, is_image, open_image
from bdam.footage.files import FootageFile


try:
    import av
    from av.container import InputContainer
except ImportError as error:
    raise ImportError("Videos need PyAV: pip install bdam[footage]") from error


# A video can name other files and addresses to play: none is opened but files.
OPTIONS = {"protocol_whitelist": "file"}
# Seconds at the end of a video that may lack frames before that is reported.
END = 1.0


class VideoError(ImageError):
    """A video that cannot be read."""


@dataclass(frozen=True)
class Frame:
    """
    A frame that was sampled.

    Args:
        number: its place among the sampled frames of its file, from 0.
        time: seconds from the start of the video; 0 for a photograph.
        progress: share of the file that has been read so far, in [0, 1].
        image: decodes it: upright, in RGB.
    """

    number: int
    time: float
    progress: float
    image: Callable[[], Image.Image]


class Frames(Protocol):
    """The frames of a file, which can be iterated over again."""

    @property
    def problem(self) -> str | None:
        """What could not be read when all frames were iterated over last."""

    def __iter__(self) -> Iterator[Frame]: ...


def open_frames(file: FootageFile, rate: float) -> Frames:
    """
    The frames of a photograph or a video.

    Args:
        file: the photograph or video.
        rate: frames per second of video to sample.

    Returns:
        Frames whose iteration raises an ImageError if the file cannot be read at all.
    """
    return Photograph(file.path) if file.is_photograph else Video(file.path, rate)


def image_at(path: Path, time: float) -> Image.Image:
    """
    The photograph, or the frame of a video that is shown at a time: upright, in RGB.

    Args:
        path: of the photograph or video.
        time: seconds from the start of the video. Where its clock jumps back, it may be another frame.

    Raises:
        ImageError: if the file cannot be read, or has no frame at that time.
    """
    if is_image(path):
        return open_image(path)
    with _open(path) as container:
        stream = container.streams.video[0]
        start = stream.start_time or 0
        try:
            container.seek(start + int(time / _seconds(1, stream)), stream=stream)  # to the key frame before
            for frame in container.decode(stream):
                if frame.time is not None and frame.time - _seconds(start, stream) >= time - 1e-3:
                    return _to_image(frame)
        except av.FFmpegError as error:
            raise VideoError.of(str(path), reason_of(error)) from error
    raise VideoError.of(str(path), f"it has no frame at {time:.1f} s")


class Photograph:
    """
    A photograph as a single frame.

    Args:
        path: of the file.
    """

    problem: str | None = None

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[Frame]:
        image = open_image(self.path)
        yield Frame(0, 0.0, 1.0, lambda: image)


class Video:
    """
    Frames of a video: the first one at or after each tick of a clock. They need not be evenly spaced. One that is
    damaged is left out; where the times of a file jump back, as in recordings that were joined, they go on from there.

    Args:
        path: of the file.
        rate: ticks per second.
    """

    def __init__(self, path: Path, rate: float):
        self.path = path
        self.rate = rate
        self.problem: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        number = next_tick = 0
        for decoded, time, progress in self._decode():
            tick = int(time * self.rate + 1e-3)  # times of 0.19999 are meant to be 0.2
            if tick >= next_tick:
                yield Frame(number, time, progress, partial(_to_image, decoded))
                number, next_tick = number + 1, tick + 1

    def _decode(self) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """All frames that can be decoded, each with its time in seconds, and the share of the file that was read."""
        self.problem, damaged, time, longest_gap = None, 0, -1.0, 0.0
        with _open(self.path) as container:
            stream, size = container.streams.video[0], self.path.stat().st_size
            start = None if stream.start_time is None else -_seconds(stream.start_time, stream)
            progress = 0.0
            for packet in _packets(container, stream):
                progress = max(progress, min((packet.pos or 0) / size, 1.0))
                try:
                    decoded = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
                except av.FFmpegError:
                    damaged += 1
                    continue
                for frame in decoded:
                    if frame.time is None:
                        raise _without_times(self.path)
                    start = -frame.time if start is None else start
                    if frame.time + start < time:
                        start = time - frame.time
                    longest_gap = max(longest_gap, frame.time + start - max(time, 0))
                    time = frame.time + start
                    yield frame, round(max(time, 0), 3), progress
            if time < 0:
                raise VideoError.of(str(self.path), "none of its frames can be decoded")
            self.problem = _explain(damaged, time, _duration(container, stream), longest_gap)


def _open(path: Path) -> InputContainer:
    try:
        container = av.open(str(path), options=OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoError.of(str(path), f"it is no video, or cut off: {reason_of(error)}") from error
    if not container.streams.video:
        container.close()
        raise VideoError.of(str(path), "it holds no pictures")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise VideoError.of(str(path), "its codec is unknown", "convert it, for instance by ffmpeg")
    return container


def _packets(container, stream) -> Iterator[av.Packet]:
    """Yields the packets of a stream. It ends at the first packet that cannot be read."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError):
            return


def _without_times(path: Path) -> VideoError:
    remedy = f"put it into a container, as by `ffmpeg -i {path.name} {path.stem}.mkv`"
    return VideoError.of(str(path), "its frames have no times", remedy)


def _duration(container, stream) -> float | None:
    """Seconds that a video should last; None if the file does not say."""
    if stream.duration is not None:
        return _seconds(stream.duration, stream)
    return None if container.duration is None else container.duration / av.time_base


def _seconds(ticks: int, stream) -> float:
    return float(ticks * stream.time_base)


def _explain(damaged: int, end: float, duration: float | None, longest_gap: float) -> str | None:
    """What of a video could not be read, in words; None if nothing is missing."""
    problems = []
    if damaged:
        problems.append(f"{damaged:,} parts of it are damaged")
    if duration is not None and duration - end > max(END, 2 * longest_gap):
        problems.append(f"its last frame is at {end:.1f} s of {duration:.1f} s")
    return ", and ".join(problems) or None


def _to_image(frame: av.VideoFrame) -> Image.Image:
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
