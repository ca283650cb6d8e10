"""Draws footage: people who do not exist walk past two cameras."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from random import Random

import av
from PIL import Image, ImageChops

from bdam.data.pedestrians.attributes import Identity, Outfit, draw_identity, draw_outfit
from bdam.data.pedestrians.figure import draw_figure
from bdam.data.pedestrians.scenery import ASPECT, SCENES, draw_scene
from bdam.data.pedestrians.view import View
from bdam.data.writing import written_whole
from bdam.footage.crops import Box


CAMERAS = ("north", "south")
SIZE = (480, 270)
HEIGHT = 190  # pixels of the part of a frame that one person is drawn in
GROUND = 18  # pixels below that part
RATE = 10  # frames per second
SPEED = 130.0  # pixels per second
PAUSE = 2.0  # seconds from one person to the next
SUPERSAMPLING = 2
# Of 255. A shadow changes the ground by less.
CHANGE = 56


@dataclass(frozen=True)
class Walk:
    """
    A person who walks past a camera.

    Args:
        person: their number.
        identity, outfit: what they look like.
        start: seconds until they come into view.
        direction: 1 to the right, -1 to the left.
    """

    person: int
    identity: Identity
    outfit: Outfit
    start: float
    direction: int


@dataclass(frozen=True)
class DrawnPerson:
    """
    A person in a frame that was drawn.

    Args:
        source: of the video, below the folder.
        time: seconds from its start.
        person: their number; a person has the same before both cameras.
        box: around those of their pixels that are in the frame.
    """

    source: str
    time: float
    person: int
    box: Box


def draw_footage(folder: Path, people: int = 3, seed: int = 0) -> list[DrawnPerson]:
    """
    Writes two videos, `north/street.mp4` and `south/street.mp4`, of people who walk past one after the other, to the
    right and to the left in turns, so that some cross.

    Args:
        folder: to write to.
        people: how many.
        seed: equal seeds give equal people.

    Returns:
        Who is where in each frame.
    """
    random = Random(seed)
    looks = [(draw_identity(random), draw_outfit(random)) for _ in range(people)]
    drawn: list[DrawnPerson] = []
    for camera, direction in zip(CAMERAS, (1, -1), strict=True):
        source, street = f"{camera}/street.mp4", _draw_street(random)
        walks = [Walk(person, *look, person * PAUSE, direction * (-1) ** person) for person, look in enumerate(looks)]
        with written_whole(folder / source) as aside:
            write_video(aside, _draw_frames(street, walks, source, drawn), SIZE)
    return drawn


def write_video(path: Path, frames: Iterable[Image.Image], size: tuple[int, int], rate: int = RATE) -> None:
    """Writes images of one size, width and height in pixels, as a video in MP4, compressed by H.264."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"threads": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def _draw_street(random: Random) -> Image.Image:
    """Scenes side by side."""
    width, height = SIZE
    street = Image.new("RGB", SIZE)
    for x in range(0, width, round(ASPECT * height)):
        street.paste(draw_scene(random.choice(sorted(SCENES)), random.getrandbits(32), height), (x, 0))
    return street


def _draw_frames(
    street: Image.Image, walks: list[Walk], source: str, drawn: list[DrawnPerson]
) -> Iterator[Image.Image]:
    width = ceil(ASPECT * HEIGHT)
    seconds = walks[-1].start + (SIZE[0] + width) / SPEED
    for number in range(ceil(seconds * RATE)):
        frame, time = street.copy(), number / RATE
        for walk in walks:
            way = (time - walk.start) * SPEED
            left = round(way - width if walk.direction > 0 else SIZE[0] - way)
            if -width < left < SIZE[0]:
                box = _draw_person(frame, walk, (left, SIZE[1] - HEIGHT - GROUND), time)
                drawn += [DrawnPerson(source, time, walk.person, box)] if box else []
        yield frame


def _draw_person(frame: Image.Image, walk: Walk, corner: tuple[int, int], time: float) -> Box | None:
    """Draws a person into a frame; returns the box around them."""
    x, y = corner
    area = (x, y, x + round(ASPECT * HEIGHT), y + HEIGHT)
    before = frame.crop(area)
    size = before.width * SUPERSAMPLING, before.height * SUPERSAMPLING
    canvas = before.resize(size)
    view = View("right" if walk.direction > 0 else "left", phase=time % 1, stride=0.8)
    draw_figure(canvas, walk.identity, walk.outfit, view)
    after = canvas.resize(before.size, Image.Resampling.BOX)
    frame.paste(after, corner)
    change = ImageChops.difference(before, after).convert("L").point(lambda level: 255 * (level > CHANGE))
    # Beyond the edge of the frame, a crop is black.
    visible = Image.new("L", frame.size, 0)
    visible.paste(change, corner)
    box = visible.getbbox()
    return Box(*box) if box else None
