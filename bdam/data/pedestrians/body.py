"""A body on the canvas: measures, pose, and the projection from three dimensions to two.

Positions are `(x, y, z)` in units of the person's own height: x to the person's left, y up from the ground, z forward.
"""

from dataclasses import dataclass
from math import cos, hypot, radians, sin, tau

from PIL import Image

from .attributes import Identity, Outfit
from .paint import CLOTH, SHADE, SKIN, Brush, Cloth, Color, Point, blend, mix
from .scenery import GROUND
from .view import View


Position = tuple[float, float, float]

STATURES = {"short": 0.73, "average": 0.81, "tall": 0.89}
GIRTHS = {"slim": 0.82, "average": 1.0, "heavy": 1.34}
STOOPS = {"young": 0.0, "middle-aged": 0.012, "elderly": 0.090}
TILT = 0.10
THIGH, SHIN, ANKLE = 0.245, 0.215, 0.042
UPPER_ARM, FOREARM = 0.165, 0.145
SHOULDER_HEIGHT, HIP_HEIGHT = 0.800, 0.500


@dataclass(frozen=True)
class Shape:
    """Half widths of the body, as seen from the front."""

    shoulder: float
    chest: float
    waist: float
    hip: float


SHAPES = {"man": Shape(0.122, 0.100, 0.084, 0.086), "woman": Shape(0.101, 0.086, 0.067, 0.098)}


@dataclass(frozen=True)
class Leg:
    hip: Position
    knee: Position
    ankle: Position
    heel: Position
    toe: Position


@dataclass(frozen=True)
class Arm:
    shoulder: Position
    elbow: Position
    hand: Position


class Figure:
    """A person on the canvas: proportions, colors and pose.

    `forward` and `sideways` are the cosine and the sine of the angle by which the person is turned from the camera.
    """

    def __init__(self, canvas: Image.Image, identity: Identity, outfit: Outfit, view: View):
        self.brush = Brush(canvas, view.light_side, pattern_period=max(2, round(0.040 * canvas.height)))
        self.identity = identity
        self.outfit = outfit
        self.foot = (canvas.width / 2 + view.shift * canvas.height, GROUND * canvas.height)
        self.forward, self.sideways = cos(radians(view.heading)), sin(radians(view.heading))
        self._measure(canvas.height)
        self._dye()
        self.anchor = self.project((0.0, 0.65, 0.0))
        self.legs = sorted(self._pose_legs(view), key=lambda leg: self.nearness(leg.hip))
        self.arms = sorted(self._pose_arms(view), key=lambda arm: self.nearness(arm.shoulder))

    def _measure(self, canvas_height: int) -> None:
        identity = self.identity
        stature = STATURES[identity.height]
        self.unit = stature * canvas_height
        # Heads and limbs vary less than statures, so that short persons differ from distant ones.
        self.fullness = (STATURES["average"] / stature) ** 0.5
        self.girth = GIRTHS[identity.build]
        self.stoop = STOOPS[identity.age]
        shape = SHAPES[identity.gender]
        frame = self.fullness * mix(1.0, self.girth, 0.55)
        self.shoulder = shape.shoulder * frame
        self.chest = shape.chest * self.fullness * mix(1.0, self.girth, 0.8)
        self.waist = shape.waist * self.fullness * self.girth ** (1.35 if self.girth > 1 else 1.0)
        self.hip = shape.hip * self.fullness * self.girth
        self.limb_width = self.fullness * mix(1.0, self.girth, 0.75)
        self.throat = 0.838 - 0.25 * self.stoop

    def _dye(self) -> None:
        outfit = self.outfit
        self.skin = SKIN[self.identity.skin_tone]
        self.shaded_skin = blend(self.skin, SHADE, 0.14)
        self.upper_cloth = Cloth(CLOTH[outfit.upper_colour], outfit.pattern, CLOTH.get(outfit.pattern_colour, SHADE))
        self.lower_cloth = Cloth(CLOTH[outfit.lower_colour])
        self.shoe_color = CLOTH[outfit.shoes_colour]
        self.bag_color = CLOTH.get(outfit.bag_colour, SHADE)

    def _pose_legs(self, view: View) -> list[Leg]:
        swings, flexions = [], []
        for step in (view.phase, view.phase + 0.5):
            swings.append(27 * view.stride * sin(tau * step))
            # The knee bends while the leg swings forward.
            flexions.append(4 + 46 * view.stride * max(0.0, cos(tau * step)))
        bends = list(zip(swings, flexions, strict=True))
        # The leg that reaches farther down stands on the ground.
        drop = max(THIGH * cos(radians(swing)) + SHIN * cos(radians(swing - flexion)) for swing, flexion in bends)
        hips = [(side * 0.52 * self.hip, ANKLE + drop, 0.0) for side in (1, -1)]
        return [_pose_leg(hip, swing, swing - flexion) for hip, (swing, flexion) in zip(hips, bends, strict=True)]

    def _pose_arms(self, view: View) -> list[Arm]:
        # Arms hang clear of the hips.
        spread = max(0.016, self.waist + 0.030 - self.shoulder)
        height = SHOULDER_HEIGHT - 0.028 - 0.2 * self.stoop
        arms = []
        for side, step in ((1, view.phase + 0.5), (-1, view.phase)):
            swing = 22 * view.stride * sin(tau * step)
            shoulder = (side * (self.shoulder - 0.022), height, self.bend(SHOULDER_HEIGHT))
            elbow = swung(shoulder, UPPER_ARM, swing, side * spread)
            hand = swung(elbow, FOREARM, swing + 14 + 14 * view.stride, side * spread * 0.1)
            arms.append(Arm(shoulder, elbow, hand))
        return arms

    def project(self, position: Position) -> Point:
        """The point of the canvas where a point of the body appears; nearer points appear a little lower."""
        x, y, z = position
        across = x * self.forward + z * self.sideways
        return self.foot[0] + across * self.unit, self.foot[1] - (y - TILT * self.nearness(position)) * self.unit

    def nearness(self, position: Position) -> float:
        """How much nearer to the camera than the middle of the body a point is."""
        return position[2] * self.forward - position[0] * self.sideways

    def extent(self, half_width: float, half_depth: float) -> float:
        """Half the apparent width of a part of the body with an elliptical cross section."""
        return hypot(half_width * self.forward, half_depth * self.sideways)

    def bend(self, y: float) -> float:
        """How far forward the spine is at height y."""
        return self.stoop * max(0.0, (y - HIP_HEIGHT) / (1 - HIP_HEIGHT)) ** 1.5

    def on_chest(self, x: float, y: float, side: float = 1) -> Point:
        """A point on the front (side 1) or the back (side -1) of the torso."""
        return self.project((x, y, self.bend(y) + side * 0.062 * self.girth))

    def limb(self, joints: list[Position], radii: list[float], paint: Color | Cloth, cut: bool = False) -> None:
        """A limb through joints of the body; radii in units of the person's height."""
        points = [self.project(joint) for joint in joints]
        self.brush.limb(points, [radius * self.unit for radius in radii], paint, self.anchor, cut)

    def line(self, points: list[Point], color: Color, width: float) -> None:
        self.brush.line(points, color, width * self.unit)

    def oval(self, center: Point, radius_x: float, radius_y: float, color: Color) -> None:
        self.brush.oval(center, radius_x * self.unit, radius_y * self.unit, color)

    def panel(
        self, center: Point, sides: tuple[float, float, float, float], color: Color, radius: float = 0.0
    ) -> None:
        """A rounded box whose left, top, right and bottom sides are so far to the right of and below its center."""
        x, y = center
        left, top, right, bottom = (side * self.unit for side in sides)
        self.brush.box(x + left, y + top, x + right, y + bottom, color, radius * self.unit)


def _pose_leg(hip: Position, thigh_angle: float, shin_angle: float) -> Leg:
    knee = swung(hip, THIGH, thigh_angle)
    ankle = swung(knee, SHIN, shin_angle)
    pitch = radians(shin_angle * (0.5 if shin_angle > 0 else 0.7))
    return Leg(hip, knee, ankle, _foot_point(ankle, -0.016, -0.024, pitch), _foot_point(ankle, 0.082, -0.026, pitch))


def swung(start: Position, length: float, degrees: float, aside: float = 0.0) -> Position:
    """The end of a bone that hangs from `start`, swung forward by `degrees` and moved `aside`."""
    x, y, z = start
    return x + aside, y - length * cos(radians(degrees)), z + length * sin(radians(degrees))


def _foot_point(ankle: Position, forward: float, up: float, pitch: float) -> Position:
    x, y, z = ankle
    return x, y + up * cos(pitch) + forward * sin(pitch), z + forward * cos(pitch) - up * sin(pitch)


def along(start: Position, end: Position, part: float) -> Position:
    """The point `part` of the way from `start` to `end`."""
    (a, b, c), (d, e, f) = start, end
    return mix(a, d, part), mix(b, e, part), mix(c, f, part)
