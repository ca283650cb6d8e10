"""Finds the people in footage, and keeps the best images of each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from bdam.data.images import ImageError
from bdam.footage import DETECTOR
from bdam.footage.crops import choose_best, crop_box
from bdam.footage.detection import Detector, find_people, open_detector
from bdam.footage.files import FootageFile, list_footage
from bdam.footage.folder import Crop, CropFolder
from bdam.footage.frames import Frame, Frames, open_frames
from bdam.footage.tracking import SearchedFrame, Sighting, join_tracks


@dataclass(frozen=True)
class Settings:
    """
    What decides about the crops of a folder.

    Args:
        detector: its name, see [`open_detector`].
        threshold: the least score of a person, see [`open_detector`].
        frames_per_second: of videos, in which people are looked for. With less than 5, each sighting is a track of
            its own.
        crops_per_track: number of images to keep of a track.
    """

    detector: str = DETECTOR
    threshold: float = 0.5
    frames_per_second: float = 5.0
    crops_per_track: int = 3


@dataclass
class DetectionReport:
    """
    What was done with footage.

    Args:
        files: number of photographs and videos that were searched.
        tracks, crops: numbers of people's tracks, and of their images, in these.
        before: number of files that an earlier run had finished.
        damaged: source → what of it could not be read.
        left_out: source → why it could not be read at all.
    """

    files: int = 0
    tracks: int = 0
    crops: int = 0
    before: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def detect_people(
    footage: str | Path,
    crops: str | Path,
    settings: Settings | None = None,
    detector: Detector | None = None,
    batch_size: int = 8,
) -> DetectionReport:
    """
    Finds the people in photographs and videos, joins those of a video to tracks, and cuts out the best images of each
    track. A call that was interrupted can be repeated and continues, in the middle of a video, too; files that have
    changed are done again.

    Args:
        footage: a photograph, a video or a folder of them, see [`list_footage`].
        crops: a folder outside of it, see [`CropFolder`].
        settings: see [`Settings`].
        detector: default: the one that `settings` name.
        batch_size: frames per forward pass.

    Raises:
        FileNotFoundError: if there is no footage or no such detector.
        FileExistsError, ImportError, ValueError: as [`CropFolder`] and [`open_detector`]; if the folder of crops lies
            in the footage; or if no file can be read.
    """
    footage, crops, settings = Path(footage).expanduser(), Path(crops).expanduser(), settings or Settings()
    files = list_footage(footage)
    if footage.resolve() in (crops.resolve(), *crops.resolve().parents):
        raise ValueError(f"{crops} lies in {footage}, and would be searched, too: give a folder outside.")
    with CropFolder(crops, asdict(settings)) as folder:
        unfinished = folder.find_unfinished(files)
        report = DetectionReport(before=len(files) - len(unfinished))
        if unfinished:
            detector = detector or open_detector(settings.detector, settings.threshold)
            folder.remove_rows(unfinished)
            _detect_all(unfinished, folder, detector, settings, batch_size, report)
    if not report.files and not report.before:
        source, reason = next(iter(report.left_out.items()))
        raise ValueError(f"No file of {footage} can be read; {source}: {reason}.")
    return report


def _detect_all(
    files: list[FootageFile],
    folder: CropFolder,
    detector: Detector,
    settings: Settings,
    batch_size: int,
    report: DetectionReport,
) -> None:
    sizes = [file.path.stat().st_size for file in files]
    # Bytes are what all files have. How many frames a video holds, not each says, and some say it wrong.
    with tqdm(desc="Finding people", total=sum(sizes), unit="B", unit_scale=True) as bar:
        for file, size in zip(files, sizes, strict=True):
            frames = open_frames(file, settings.frames_per_second)
            try:
                searched = folder.begin(file)
                rest = islice(_watch(frames, bar, size), len(searched), None)
                for frame in _search(rest, detector, batch_size):
                    folder.add(frame)
                    searched.append(frame)
                problem = frames.problem
                tracks = join_tracks(searched, settings.frames_per_second)
                best = [choose_best(track, settings.crops_per_track) for track in tracks]
                report.crops += folder.finish(file, _cut(file, frames, best))
            except ImageError as error:
                report.left_out[file.source] = error.reason
                continue
            report.files += 1
            report.tracks += len(tracks)
            if problem:
                report.damaged[file.source] = problem


def _watch(frames: Iterable[Frame], bar: tqdm, size: int) -> Iterator[Frame]:
    """The same frames, with which the bar moves by the size of their file."""
    start = bar.n
    try:
        for frame in frames:
            bar.update(start + round(frame.progress * size) - bar.n)
            yield frame
    finally:
        bar.update(start + size - bar.n)


def _search(frames: Iterator[Frame], detector: Detector, batch_size: int) -> Iterator[SearchedFrame]:
    while batch := list(islice(frames, batch_size)):
        images = [frame.image() for frame in batch]
        for frame, image, people in zip(batch, images, find_people(detector, images), strict=True):
            yield SearchedFrame(frame.number, frame.time, image.size, people)


def _cut(file: FootageFile, frames: Frames, tracks: list[list[Sighting]]) -> Iterator[tuple[Crop, Image.Image]]:
    """The crops of the tracks of a file, each with its image, in order of time."""
    wanted: dict[int, list[tuple[str, int, Sighting]]] = defaultdict(list)
    for number, track in enumerate(tracks, 1):
        for place, sighting in enumerate(track, 1):
            wanted[sighting.frame.number].append((f"{file.source}/{number:04}", place, sighting))
    for frame in islice(frames, max(wanted, default=-1) + 1):
        if frame.number not in wanted:
            continue
        image = frame.image()
        for name, place, sighting in wanted[frame.number]:
            box = crop_box(sighting)
            crop = Crop(f"{name}-{place}.jpg", file.source, frame.time, box, file.camera, name)
            yield crop, image.crop(box)
