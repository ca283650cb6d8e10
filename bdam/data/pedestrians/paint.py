"""Flat shapes with soft shading: the palette, outlines, and a brush that fills them with plain or patterned cloth."""

from collections.abc import Sequence
from functools import lru_cache
from math import cos, hypot, pi, sin
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw


Point = tuple[float, float]
Color = tuple[int, ...]

CLOTH = {
    "black": (38, 37, 40),
    "white": (242, 240, 235),
    "grey": (138, 141, 147),
    "beige": (216, 194, 158),
    "brown": (118, 78, 52),
    "red": (202, 46, 52),
    "orange": (234, 126, 46),
    "yellow": (240, 200, 70),
    "green": (58, 134, 84),
    "blue": (60, 112, 198),
    "navy": (32, 52, 122),
    "purple": (132, 74, 170),
    "pink": (238, 152, 178),
}
HAIR = {
    "black": (38, 32, 34),
    "brown": (106, 66, 40),
    "blond": (226, 188, 108),
    "red": (178, 78, 36),
    "grey": (172, 172, 176),
}
SKIN = {
    "light": (246, 212, 188),
    "tan": (218, 166, 124),
    "brown": (158, 104, 70),
    "dark": (94, 60, 46),
}
SHADE = (28, 18, 54)
SHINE = (255, 250, 235)

SEMICIRCLE = [(cos(angle), sin(angle)) for angle in [pi * (step / 8 - 0.5) for step in range(9)]]
SQUARE_END = [(0.0, -1.0), (0.0, 1.0)]
CIRCLE = [(cos(angle), sin(angle)) for angle in [2 * pi * step / 24 for step in range(24)]]


class Cloth(NamedTuple):
    """A color with, unless plain, a pattern in a second color."""

    color: Color
    pattern: str = "plain"
    second: Color = (0, 0, 0)

    def shaded(self, amount: float) -> "Cloth":
        return Cloth(blend(self.color, SHADE, amount), self.pattern, blend(self.second, SHADE, amount))


@lru_cache(maxsize=4096)
def blend(first: Color, second: Color, amount: float) -> Color:
    """`first` moved towards `second` by `amount` in [0, 1]."""
    return tuple(round(a + (b - a) * amount) for a, b in zip(first, second, strict=True))


def mix(first: float, second: float, amount: float) -> float:
    """The number `amount` of the way from `first` to `second`."""
    return first + (second - first) * amount


def capsule(start: Point, end: Point, start_radius: float, end_radius: float, cut: bool = False) -> list[Point]:
    """The outline of a limb: a tapered bar with round ends, or with a straight one where it is `cut` off."""
    (x0, y0), (x1, y1) = start, end
    length = hypot(x1 - x0, y1 - y0) or 1.0
    u, v = (x1 - x0) / length, (y1 - y0) / length
    tip = SQUARE_END if cut else SEMICIRCLE
    far = [(x1 + end_radius * (u * a - v * b), y1 + end_radius * (v * a + u * b)) for a, b in tip]
    near = [(x0 - start_radius * (u * a - v * b), y0 - start_radius * (v * a + u * b)) for a, b in SEMICIRCLE]
    return far + near


def oval(center: Point, radius_x: float, radius_y: float) -> list[Point]:
    """The outline of an ellipse."""
    x, y = center
    return [(x + radius_x * a, y + radius_y * b) for a, b in CIRCLE]


def smooth(points: Sequence[Point], steps: int = 3) -> list[Point]:
    """A Catmull-Rom curve through `points`, which are kept."""
    curve = []
    padded = [points[0], *points, points[-1]]
    for (ax, ay), (bx, by), (cx, cy), (dx, dy) in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            a, b = t * t * (2 - t) - t, t * t * (3 * t - 5) + 2
            c, d = t * t * (4 - 3 * t) + t, t * t * (t - 1)
            curve.append(((a * ax + b * bx + c * cx + d * dx) / 2, (a * ay + b * by + c * cy + d * dy) / 2))
    return [*curve, points[-1]]


@lru_cache(maxsize=16)
def pattern_mask(pattern: str, period: int) -> Image.Image:
    """Where the second color goes, on a sheet of cloth of 24 by 24 periods."""
    side = 24 * period
    sheet = Image.new("L", (side, side))
    draw = ImageDraw.Draw(sheet)
    if pattern == "dotted":
        radius = 0.29 * period
        for row in range(48):
            for x in range(period * (row % 2) // 2, side, period):
                y = row * period / 2
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return sheet
    band = 0.42 * period
    for start in range(0, side, period):
        draw.rectangle((0, start, side, start + band), fill=255)
    if pattern == "checked":
        columns = sheet.transpose(Image.Transpose.ROTATE_90)
        # As in woven cloth: full color where the bands cross, half of it along each band.
        return ImageChops.add(sheet, columns, scale=2.0)
    return sheet


class Brush:
    """Fills outlines on an image, in pixels. Colors with a fourth component are translucent."""

    def __init__(self, image: Image.Image, light_side: int = 1, pattern_period: int = 8):
        self.image = image
        self.draw = ImageDraw.Draw(image, "RGBA")
        self.light_side = light_side
        self.pattern_period = pattern_period

    def fill(self, outline: Sequence[Point], paint: Color | Cloth, anchor: Point = (0.0, 0.0)) -> None:
        """Fill an outline. Patterns are laid out from `anchor`, so that they move with the person."""
        if not isinstance(paint, Cloth):
            self.draw.polygon(outline, fill=paint)
            return
        self.draw.polygon(outline, fill=paint.color)
        if paint.pattern != "plain":
            self._print(outline, paint, anchor)

    def oval(self, center: Point, radius_x: float, radius_y: float, color: Color) -> None:
        x, y = center
        self.draw.ellipse((x - radius_x, y - radius_y, x + radius_x, y + radius_y), fill=color)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0) -> None:
        if radius:
            self.draw.rounded_rectangle((left, top, right, bottom), radius, fill=color)
        else:
            self.draw.rectangle((left, top, right, bottom), fill=color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        self.draw.line(points, fill=color, width=max(1, round(width)), joint="curve")

    def limb(
        self,
        joints: Sequence[Point],
        radii: Sequence[float],
        paint: Color | Cloth,
        anchor: Point = (0.0, 0.0),
        cut: bool = False,
    ) -> None:
        """A limb through its joints, darker on the side away from the light, with a straight end if `cut`."""
        cloth = paint if isinstance(paint, Cloth) else Cloth(paint)
        ends = [False] * (len(joints) - 2) + [cut]
        for offset, width, shade in ((0.0, 1.0, 0.0), (0.34, 0.66, 0.11), (0.62, 0.38, 0.22)):
            side = -self.light_side * offset
            centers = [(x + side * radius, y) for (x, y), radius in zip(joints, radii, strict=True)]
            sizes = [width * radius for radius in radii]
            tone = cloth.shaded(shade)
            for a, b, start, end, is_cut in zip(centers, centers[1:], sizes, sizes[1:], ends, strict=False):
                self.fill(capsule(a, b, start, end, is_cut), tone, anchor)

    def _print(self, outline: Sequence[Point], cloth: Cloth, anchor: Point) -> None:
        left, top = (int(min(values)) - 1 for values in zip(*outline, strict=True))
        right, bottom = (int(max(values)) + 2 for values in zip(*outline, strict=True))
        shape = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(shape).polygon([(x - left, y - top) for x, y in outline], fill=255)
        sheet = pattern_mask(cloth.pattern, self.pattern_period)
        x, y = (round(edge - origin) % self.pattern_period for edge, origin in zip((left, top), anchor, strict=True))
        window = sheet.crop((x, y, x + shape.width, y + shape.height))
        self.image.paste(cloth.second, (left, top), ImageChops.multiply(shape, window))
