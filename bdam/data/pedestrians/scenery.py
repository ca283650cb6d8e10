"""Simple street scenes. The camera is fixed, so a door, a fence or a shop sign always has the same height.

Scenes are drawn on a canvas twice as high as wide, in units of its height, with y = 0 at the top. The ground begins
at `HORIZON` and people stand at `GROUND`.
"""

from random import Random

from PIL import Image

from .paint import SHADE, Brush, Color, blend


HORIZON = 0.80
GROUND = 0.935
ASPECT = 0.5

PLASTER = ((226, 210, 188), (206, 184, 166), (186, 199, 202), (216, 198, 172), (198, 204, 184), (224, 196, 184))
BRICK = ((182, 122, 102), (164, 112, 98), (192, 150, 126))
PAVEMENT = ((182, 178, 174), (164, 163, 166), (196, 188, 176))
SKY = (((158, 194, 226), (230, 237, 240)), ((186, 200, 212), (226, 228, 228)), ((176, 206, 228), (246, 228, 206)))
FOLIAGE = ((88, 128, 86), (112, 148, 92), (74, 112, 84), (142, 158, 92))
SUNLIT_LEAVES = (196, 214, 142)
GRASS = ((136, 168, 104), (120, 156, 102), (154, 174, 112))
ACCENT = ((152, 74, 66), (74, 112, 108), (206, 160, 84), (86, 104, 142), (120, 92, 74), (108, 130, 96))
GLASS = (168, 194, 204)
METAL = (92, 98, 106)


class Backdrop(Brush):
    """A brush in units of the canvas height."""

    def __init__(self, image: Image.Image):
        super().__init__(image)
        self.unit = image.height

    def area(self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0) -> None:
        unit = self.unit
        self.box(left * unit, top * unit, right * unit, bottom * unit, color, radius * unit)

    def blob(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        self.oval((x * self.unit, y * self.unit), radius_x * self.unit, radius_y * self.unit, color)

    def fade(self, top: float, bottom: float, first: Color, second: Color, steps: int = 12) -> None:
        step = (bottom - top) / steps
        for index in range(steps):
            y = top + index * step
            self.area(0, y, ASPECT, y + step, blend(first, second, index / (steps - 1)))


def draw_scene(name: str, seed: int, height: int) -> Image.Image:
    """The background `name` (a key of `SCENES`) in one of many variants, `height` pixels high and half as wide."""
    image = Image.new("RGB", (round(ASPECT * height), height))
    SCENES[name](Backdrop(image), Random(seed))
    return image


def _house(backdrop: Backdrop, random: Random) -> None:
    wall, frame, door = random.choice(PLASTER), (244, 240, 232), random.choice(ACCENT)
    backdrop.fade(0, HORIZON, blend(wall, (255, 255, 255), 0.15), blend(wall, SHADE, 0.10))
    door_side = random.choice((-1, 1))
    x = 0.25 + door_side * random.uniform(0.13, 0.19)
    backdrop.area(x - 0.115, 0.155, x + 0.115, HORIZON, frame)
    backdrop.area(x - 0.095, 0.175, x + 0.095, HORIZON, door)
    for top, bottom in ((0.20, 0.44), (0.49, 0.74)):
        backdrop.area(x - 0.065, top, x + 0.065, bottom, blend(door, SHADE, 0.18), 0.008)
    backdrop.blob(x - door_side * 0.078, 0.50, 0.008, 0.008, (230, 206, 140))
    x = 0.25 - door_side * random.uniform(0.13, 0.20)
    backdrop.area(x - 0.10, 0.155, x + 0.10, 0.50, frame)
    backdrop.area(x - 0.085, 0.17, x + 0.085, 0.485, GLASS)
    backdrop.area(x - 0.005, 0.17, x + 0.005, 0.485, frame)
    backdrop.area(x - 0.12, 0.50, x + 0.12, 0.52, blend(frame, SHADE, 0.2))
    backdrop.area(0, HORIZON - 0.06, ASPECT, HORIZON, blend(wall, SHADE, 0.28))
    _pavement(backdrop, random)


def _shop(backdrop: Backdrop, random: Random) -> None:
    wall, accent = random.choice(PLASTER + BRICK), random.choice(ACCENT)
    backdrop.area(0, 0, ASPECT, HORIZON, blend(wall, SHADE, 0.05))
    backdrop.area(0, 0.03, ASPECT, 0.10, blend(accent, SHADE, 0.25))
    backdrop.area(0.03, 0.235, 0.47, HORIZON - 0.06, blend(GLASS, SHADE, 0.35))
    for _ in range(6):
        x, y = random.uniform(0.05, 0.42), random.choice((0.44, 0.58, 0.72))
        backdrop.area(x, y - random.uniform(0.04, 0.09), x + 0.045, y, blend(random.choice(ACCENT), GLASS, 0.35))
    for y in (0.44, 0.58, 0.72):
        backdrop.area(0.03, y, 0.47, y + 0.008, blend(GLASS, SHADE, 0.15))
    backdrop.area(0.245, 0.235, 0.255, HORIZON - 0.06, blend(wall, SHADE, 0.35))
    for index in range(8):
        cloth = accent if index % 2 else (242, 236, 224)
        x = index * ASPECT / 8
        backdrop.area(x, 0.11, x + ASPECT / 8, 0.20, cloth)
        backdrop.blob(x + ASPECT / 16, 0.20, ASPECT / 16, 0.022, cloth)
    backdrop.area(0, HORIZON - 0.06, ASPECT, HORIZON, blend(accent, SHADE, 0.35))
    _pavement(backdrop, random)


def _park(backdrop: Backdrop, random: Random) -> None:
    backdrop.fade(0, 0.62, *random.choice(SKY))
    for _ in range(7):
        color = blend(random.choice(FOLIAGE), (214, 226, 224), 0.35)
        backdrop.blob(random.uniform(0, ASPECT), random.uniform(0.46, 0.58), 0.11, random.uniform(0.08, 0.14), color)
    backdrop.fade(0.58, 1.0, blend(random.choice(GRASS), (230, 236, 200), 0.2), random.choice(GRASS))
    x = 0.25 + random.choice((-1, 1)) * random.uniform(0.14, 0.22)
    backdrop.area(x - 0.022, 0.30, x + 0.022, 0.76, (112, 90, 74))
    leaves = random.choice(FOLIAGE)
    for dx, dy, radius in ((-0.09, 0.22, 0.11), (0.09, 0.20, 0.12), (0, 0.11, 0.13), (-0.03, 0.27, 0.10)):
        backdrop.blob(x + dx, dy, radius, 0.85 * radius, blend(leaves, SUNLIT_LEAVES, random.uniform(0, 0.3)))
    _fence(backdrop, 0.60)
    path = blend(random.choice(PAVEMENT), (226, 206, 168), 0.5)
    backdrop.fade(0.86, 1.0, blend(path, (255, 255, 255), 0.15), path)


def _square(backdrop: Backdrop, random: Random) -> None:
    backdrop.fade(0, 0.66, *random.choice(SKY))
    x = -0.05
    while x < ASPECT:
        width, top = random.uniform(0.09, 0.17), random.uniform(0.16, 0.40)
        wall = blend(random.choice(PLASTER + BRICK), (216, 224, 230), 0.35)
        backdrop.area(x, top, x + width, 0.72, wall)
        for row in range(int((0.66 - top) / 0.075)):
            for column in (0.25, 0.65):
                left, y = x + column * width - 0.012, top + 0.03 + 0.075 * row
                backdrop.area(left, y, left + 0.028, y + 0.04, blend(wall, SHADE, 0.28))
        x += width
    backdrop.area(0, 0.70, ASPECT, HORIZON, blend(random.choice(PAVEMENT), SHADE, 0.30))
    x = 0.25 + random.choice((-1, 1)) * random.uniform(0.15, 0.21)
    backdrop.area(x - 0.009, 0.14, x + 0.009, 0.84, METAL)
    backdrop.area(x - 0.02, 0.80, x + 0.02, 0.845, METAL, 0.008)
    backdrop.blob(x, 0.125, 0.036, 0.036, (250, 238, 204))
    _pavement(backdrop, random)


def _station(backdrop: Backdrop, random: Random) -> None:
    tiles, band = blend(random.choice(PLASTER), (240, 240, 238), 0.6), random.choice(ACCENT)
    backdrop.area(0, 0, ASPECT, HORIZON, tiles)
    for row in range(9):
        y = 0.16 + 0.075 * row
        backdrop.area(0, y, ASPECT, y + 0.004, blend(tiles, SHADE, 0.14))
    for column in range(7):
        x = column * 0.075 + random.uniform(0, 0.004)
        backdrop.area(x, 0.16, x + 0.004, HORIZON, blend(tiles, SHADE, 0.14))
    backdrop.area(0, 0.10, ASPECT, 0.16, band)
    x = 0.25 + random.choice((-1, 1)) * random.uniform(0.08, 0.14)
    poster = random.choice(ACCENT)
    backdrop.area(x - 0.12, 0.24, x + 0.12, 0.58, (250, 248, 242))
    backdrop.area(x - 0.105, 0.255, x + 0.105, 0.565, blend(poster, (255, 255, 255), 0.25))
    backdrop.blob(x, 0.38, 0.07, 0.07, blend(poster, (255, 240, 200), 0.7))
    backdrop.area(0, HORIZON - 0.03, ASPECT, HORIZON, blend(band, SHADE, 0.35))
    _pavement(backdrop, random)


def _pavement(backdrop: Backdrop, random: Random) -> None:
    stone = random.choice(PAVEMENT)
    backdrop.fade(HORIZON, 1.0, blend(stone, SHADE, 0.12), blend(stone, (255, 255, 255), 0.12))
    backdrop.area(0, HORIZON, ASPECT, HORIZON + 0.010, blend(stone, SHADE, 0.35))
    backdrop.area(0, 0.872, ASPECT, 0.876, blend(stone, SHADE, 0.16))
    backdrop.area(0, 0.978, ASPECT, 1.0, blend(stone, SHADE, 0.30))


def _fence(backdrop: Backdrop, top: float) -> None:
    for index in range(9):
        x = 0.01 + index * 0.06
        backdrop.area(x, top, x + 0.008, 0.80, METAL)
    for y in (top + 0.02, 0.75):
        backdrop.area(0, y, ASPECT, y + 0.010, METAL)


SCENES = {"house": _house, "shop": _shop, "park": _park, "square": _square, "station": _station}
