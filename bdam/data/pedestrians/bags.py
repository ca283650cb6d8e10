"""Draws bags."""

from .body import Arm, Figure, along
from .paint import SHADE, SHINE, blend


def draw_backpack(figure: Figure) -> None:
    """A backpack, seen from behind, from the side, or as far as it shows beside the body."""
    center = figure.project((0.0, 0.685, -0.105 * figure.girth**0.5))
    wide, tall, color = figure.extent(0.086, 0.058), 0.125, figure.bag_color
    dark_side = sorted((0.0, -figure.brush.light_side * wide))
    figure.panel(center, (-wide, -tall, wide, tall), color, 0.045)
    figure.panel(center, (dark_side[0], -tall, dark_side[1], tall), (*SHADE, 44), 0.045)
    if figure.forward < 0.3:
        figure.panel(center, (-0.78 * wide, 0.018, 0.78 * wide, tall - 0.014), blend(color, SHADE, 0.28), 0.022)
        figure.panel(center, (-0.78 * wide, -0.052, 0.78 * wide, -0.042), blend(color, SHINE, 0.35))


def draw_backpack_straps(figure: Figure) -> None:
    """What is seen of a backpack from the front."""
    for side in (-1, 1):
        x = side * 0.62 * figure.shoulder
        points = [figure.on_chest(x, 0.815), figure.on_chest(x, 0.72), figure.on_chest(x * 1.15, 0.62)]
        figure.line(points, figure.bag_color, 0.026)


def draw_shoulder_strap(figure: Figure) -> None:
    """The strap from the right shoulder to the left hip, over the chest or the back."""
    side = 1 if figure.forward > 0 else -1
    shoulder, middle = figure.on_chest(-0.6 * figure.shoulder, 0.818, 0), figure.on_chest(0.02, 0.675, side)
    hip = figure.project((figure.hip * 1.05, 0.52, 0.0))
    figure.line([shoulder, middle, hip], blend(figure.bag_color, SHADE, 0.25), 0.016)


def draw_shoulder_bag(figure: Figure) -> None:
    """The bag at the left hip, unless the body hides it."""
    position = (max(figure.hip, figure.waist) * 1.12, 0.475, 0.0)
    if figure.nearness(position) < -0.06:
        return
    center, wide, color = figure.project(position), figure.extent(0.034, 0.080), figure.bag_color
    figure.panel(center, (-wide, -0.050, wide, 0.055), color, 0.016)
    figure.panel(center, (-wide, -0.050, wide, 0.0), blend(color, SHADE, 0.22), 0.016)


def draw_handbag(figure: Figure, arm: Arm) -> None:
    """A handbag below the hand of an arm."""
    hand = figure.project(along(arm.elbow, arm.hand, 1.12))
    wide, color = max(0.045, figure.extent(0.030, 0.075)), figure.bag_color
    for side in (-1, 1):
        corner = (hand[0] + side * 0.7 * wide * figure.unit, hand[1] + 0.060 * figure.unit)
        figure.line([hand, corner], blend(color, SHADE, 0.30), 0.011)
    figure.panel(hand, (-wide, 0.053, wide, 0.157), color, 0.014)
    figure.panel(hand, (-wide, 0.053, wide, 0.087), blend(color, SHADE, 0.20), 0.012)
    figure.panel(hand, (-0.008, 0.080, 0.008, 0.096), (238, 214, 140), 0.008)
