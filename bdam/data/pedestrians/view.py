"""The view of a pedestrian: viewpoint, pose, scene and camera."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from .scenery import SCENES


VIEWPOINTS = {
    "front": 0,
    "front-right": 45,
    "right": 90,
    "back-right": 135,
    "back": 180,
    "back-left": -135,
    "left": -90,
    "front-left": -45,
}


@dataclass(frozen=True)
class View:
    """The viewpoint, pose, scene and camera of one image.

    Attributes:
        viewpoint: The side that is seen, or for the sides the direction of walking; a key of `VIEWPOINTS`.
        turn: Degrees added to the viewpoint.
        phase: Where in the step cycle the person is, in [0, 1).
        stride: Length of the steps in [0, 1]; below 0.3 the person stands.
        scene: A key of `SCENES`.
        scene_seed: Chooses the variant of the scene.
        shift: Where the person stands, to the right of the middle, as a fraction of the image's height.
        zoom: Size of everything, person and scene alike; close to 1, so that height remains readable.
        light_side: 1 when the light comes from the right, -1 from the left.
        brightness: Factor on all channels.
        warmth: Color cast in [-1, 1], from bluish to reddish.
        blur: Radius of the blur as a fraction of the image's height.
        grain: Amplitude of the noise, in gray levels.
        grain_seed: Chooses the noise.
    """

    viewpoint: str = "front"
    turn: float = 0.0
    phase: float = 0.2
    stride: float = 0.7
    scene: str = "house"
    scene_seed: int = 0
    shift: float = 0.0
    zoom: float = 1.0
    light_side: Literal[-1, 1] = 1
    brightness: float = 1.0
    warmth: float = 0.0
    blur: float = 0.0
    grain: int = 0
    grain_seed: int = 0

    @property
    def heading(self) -> float:
        """Degrees by which the person is turned: 0 faces the camera, 90 walks to the right, 180 walks away."""
        return VIEWPOINTS[self.viewpoint] + self.turn

    @property
    def is_walking(self) -> bool:
        return self.stride >= 0.3


def draw_view(random: Random) -> View:
    """A random view."""
    return View(
        viewpoint=random.choice(list(VIEWPOINTS)),
        turn=random.uniform(-12, 12),
        phase=random.random(),
        stride=random.uniform(0.5, 1.0) if random.random() < 0.75 else random.uniform(0.05, 0.2),
        light_side=random.choice((-1, 1)),
        scene=random.choice(list(SCENES)),
        scene_seed=random.getrandbits(32),
        shift=random.uniform(-0.035, 0.035),
        zoom=random.uniform(1.0, 1.03),
        brightness=random.uniform(0.82, 1.10),
        warmth=random.uniform(-1, 1),
        blur=random.choice((0.0, 0.0, random.uniform(0.001, 0.0035))),
        grain=random.randint(0, 7),
        grain_seed=random.getrandbits(32),
    )
