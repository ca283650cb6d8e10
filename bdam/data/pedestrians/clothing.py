"""Garments: legs, torso and arms, dressed."""

from dataclasses import dataclass

from .body import Arm, Figure, Leg, Position, along
from .paint import CLOTH, SHADE, SHINE, Color, Point, blend, capsule, mix, smooth


@dataclass(frozen=True)
class Cut:
    """How an upper garment is cut: height of its hem, width over the body and at the hem, length of the sleeves."""

    hem: float
    ease: float
    flare: float
    sleeve: float


@dataclass(frozen=True)
class LegWear:
    """How a lower garment covers a leg: cloth beyond the skin at thigh, knee and hem, and where the hem is.

    `length` is the part of the shin, or for shorts of the thigh, that is covered.
    """

    thigh: float
    knee: float
    hem: float
    length: float


CUTS = {
    "t-shirt": Cut(hem=0.470, ease=1.00, flare=1.02, sleeve=0.50),
    "shirt": Cut(hem=0.450, ease=1.02, flare=1.08, sleeve=1.00),
    "hoodie": Cut(hem=0.455, ease=1.12, flare=1.00, sleeve=1.00),
    "jacket": Cut(hem=0.475, ease=1.14, flare=0.96, sleeve=1.00),
    "coat": Cut(hem=0.270, ease=1.14, flare=1.42, sleeve=1.00),
    "dress": Cut(hem=0.300, ease=0.98, flare=1.66, sleeve=0.50),
}
LEG_WEAR = {
    "trousers": LegWear(thigh=0.012, knee=0.012, hem=0.022, length=0.97),
    "jeans": LegWear(thigh=0.008, knee=0.006, hem=0.009, length=0.93),
    "leggings": LegWear(thigh=0.002, knee=0.001, hem=0.002, length=0.94),
    "shorts": LegWear(thigh=0.014, knee=0.018, hem=0.018, length=0.92),
}


# A height of a garment, with its half width and half depth there.
Level = tuple[float, float, float]
# The index of the waist among the levels of an upper garment.
WAIST = 5

SOLES = {"trainers": (246, 244, 238), "shoes": (46, 38, 40)}


def draw_leg(figure: Figure, leg: Leg) -> None:
    """A leg with what covers it, a skirt excepted, and its shoe; only boots go over trousers."""
    radii = [radius * figure.limb_width for radius in (0.054, 0.037, 0.024)]
    figure.limb([leg.hip, leg.knee, leg.ankle], radii, figure.skin)
    lower = figure.outfit.lower
    boots_over_hem = figure.outfit.shoes == "boots" and lower not in ("skirt", "shorts")
    if not boots_over_hem:
        _draw_shoe(figure, leg)
    if lower == "shorts":
        _draw_shorts(figure, leg, radii)
    elif lower != "skirt":
        _draw_trouser_leg(figure, leg, radii)
    if boots_over_hem:
        _draw_shoe(figure, leg)


def _draw_shorts(figure: Figure, leg: Leg, radii: list[float]) -> None:
    wear = LEG_WEAR["shorts"]
    joints = [leg.hip, along(leg.hip, leg.knee, wear.length)]
    figure.limb(joints, [radii[0] + wear.thigh, radii[1] + wear.hem], figure.lower_cloth, cut=True)


def _draw_trouser_leg(figure: Figure, leg: Leg, radii: list[float]) -> None:
    lower = figure.outfit.lower
    wear = LEG_WEAR[lower]
    hem = along(leg.knee, leg.ankle, wear.length)
    wide = [radius + cloth for radius, cloth in zip(radii, (wear.thigh, wear.knee, wear.hem), strict=True)]
    figure.limb([leg.hip, leg.knee, hem], wide, figure.lower_cloth, cut=True)
    if lower == "jeans":
        _draw_denim(figure, leg, hem, wide[-1])
    if lower == "trousers":
        crease = [figure.project(point) for point in (leg.hip, leg.knee, hem)]
        figure.line(crease, (*SHADE, 60), 0.006)


def _draw_denim(figure: Figure, leg: Leg, hem: Position, radius: float) -> None:
    """The worn thigh and the turned-up hem by which jeans are known."""
    cloth = figure.lower_cloth.color
    start, end = (figure.project(along(leg.hip, leg.knee, part)) for part in (0.45, 0.95))
    worn, wide = blend(cloth, (255, 255, 255), 0.40), 0.018 * figure.limb_width * figure.unit
    figure.brush.fill(capsule(start, end, wide, wide), (*worn, 80))
    figure.limb([along(hem, leg.knee, 0.13), hem], [radius + 0.002, radius + 0.003], worn, cut=True)


def _draw_shoe(figure: Figure, leg: Leg) -> None:
    color, shoes = figure.shoe_color, figure.outfit.shoes
    heel, toe = 0.024 * figure.fullness, 0.021 * figure.fullness
    if shoes == "boots":
        shaft, width = along(leg.ankle, leg.knee, 0.40), 0.036 * figure.limb_width
        brim = [along(shaft, leg.ankle, 0.16), shaft]
        figure.limb([leg.ankle, shaft], [0.029 * figure.limb_width, width], color, cut=True)
        figure.limb(brim, [width, 1.08 * width], blend(color, SHADE, 0.25), cut=True)
    else:
        if shoes == "trainers":
            figure.limb([leg.ankle, leg.heel], [0.024 * figure.limb_width, heel], color)
        sole = [_lowered(leg.heel, 0.009), _lowered(leg.toe, 0.009)]
        figure.limb(sole, [heel, toe], SOLES[shoes])
    figure.limb([leg.heel, leg.toe], [heel, toe], color)


def _lowered(position: Position, amount: float) -> Position:
    x, y, z = position
    return x, y - amount, z


def draw_skirt(figure: Figure) -> None:
    """A skirt over both legs."""
    levels = [
        (0.585, figure.waist * 1.04, figure.waist * 0.80),
        (0.510, figure.hip * 1.14, figure.hip * 0.90),
        (0.400, figure.hip * 1.34, figure.hip * 1.12),
        (0.315, figure.hip * 1.50, figure.hip * 1.30),
    ]
    outline = _silhouette(figure, levels)
    figure.brush.fill(outline, figure.lower_cloth, figure.anchor)
    _shade_torso(figure, levels)
    for part in (-0.5, 0.0, 0.5):
        fold = [figure.project((part * figure.hip * 1.3, y, 0.0)) for y in (0.40, 0.325)]
        figure.line(fold, (*SHADE, 60), 0.006)


def _torso_levels(figure: Figure) -> list[Level]:
    """The upper garment from the neck to the hem."""
    cut = CUTS[figure.outfit.upper]
    depth = 0.064 * mix(1.0, figure.girth, 0.9)
    belly = depth * (1.0 + 0.9 * max(0.0, figure.girth - 1.0))
    ease, throat, hip = cut.ease, figure.throat, 1.03 * figure.hip
    return [
        (throat, 0.040, 0.034),
        (throat - 0.018, 0.62 * figure.shoulder, 0.050),
        (throat - 0.040, 0.93 * figure.shoulder * mix(1.0, ease, 0.3), 0.058),
        (throat - 0.068, 0.98 * figure.shoulder * mix(1.0, ease, 0.4), 0.060),
        (0.715, figure.chest * ease, depth * ease),
        (0.610, figure.waist * ease, belly * ease * 0.95),
        (0.520, hip * ease, max(belly, 0.75 * figure.hip) * ease),
        (cut.hem, hip * ease * cut.flare, max(belly, 0.80 * figure.hip) * ease * cut.flare),
    ]


def _silhouette(figure: Figure, levels: list[Level], start: float = -1.0, end: float = 1.0) -> list[Point]:
    """The outline of the torso between two parts of its width, where -1 is the left and 1 the right edge."""
    reach = max(abs(leg.knee[2]) for leg in figure.legs)
    left, right = [], []
    for y, half_width, half_depth in levels:
        x, screen_y = figure.project((0.0, y, figure.bend(y)))
        # A long hem is wide enough for the step.
        half_depth = max(half_depth, reach * max(0.0, (0.45 - y) / 0.15) * 0.9)
        extent = figure.extent(half_width, half_depth) * figure.unit
        left.append((x + start * extent, screen_y))
        right.append((x + end * extent, screen_y))
    return smooth(left) + smooth(right)[::-1]


def _shade_torso(figure: Figure, levels: list[Level]) -> None:
    side = -figure.brush.light_side
    for edge in (0.10, 0.42, 0.70):
        band = _silhouette(figure, levels, side * edge, side * 1.0)
        figure.brush.fill(band, (*SHADE, 26))
    figure.brush.fill(_silhouette(figure, levels, -side * 0.72, -side * 0.98), (*SHINE, 26))


def draw_torso(figure: Figure) -> None:
    """The upper garment without its sleeves."""
    levels = _torso_levels(figure)
    figure.brush.fill(_silhouette(figure, levels), figure.upper_cloth, figure.anchor)
    _shade_torso(figure, levels)
    DETAILS[figure.outfit.upper](figure, levels)


def _neckline(figure: Figure, radius: float, color: Color) -> None:
    """An opening at the throat, seen from the front."""
    if figure.forward < 0.1:
        return
    center = figure.project((0.0, figure.throat, figure.bend(figure.throat) + 0.02))
    figure.oval(center, figure.extent(radius, 0.6 * radius), 0.8 * radius, color)


def _seam(figure: Figure, top: float, bottom: float, color: Color, width: float) -> None:
    """A line down the middle of the front."""
    if figure.forward > 0.1:
        points = [figure.on_chest(0.0, y) for y in (top, (top + bottom) / 2, bottom)]
        figure.line(points, color, width)


def _collar(figure: Figure, color: Color, length: float) -> None:
    """Two points of cloth below the chin, or the fold at the nape."""
    y = figure.throat
    if figure.forward < 0.1:
        nape = figure.project((0.0, y, figure.bend(y)))
        figure.oval(nape, figure.extent(0.046, 0.042), 0.016, color)
        return
    for side in (-1, 1):
        outer, inner = figure.on_chest(side * 0.048, y + 0.004), figure.on_chest(side * 0.006, y - 0.022)
        tip = figure.on_chest(side * 0.036, y - length)
        figure.brush.fill([outer, inner, tip], color)


def _hem_band(figure: Figure, levels: list[Level], height: float, color: Color) -> None:
    y, half_width, half_depth = levels[-1]
    extent = figure.extent(half_width, half_depth)
    figure.panel(figure.project((0.0, y, 0.0)), (-extent, -height, extent, 0.0), color)


def _waistband(figure: Figure, levels: list[Level], height: float, color: Color) -> None:
    y, half_width, half_depth = levels[WAIST]
    extent = figure.extent(half_width, half_depth)
    figure.panel(figure.project((0.0, y, figure.bend(y))), (-extent, 0.0, extent, height), color)


def _detail_t_shirt(figure: Figure, levels: list[Level]) -> None:
    _neckline(figure, 0.038, figure.shaded_skin)


def _detail_shirt(figure: Figure, levels: list[Level]) -> None:
    cloth = figure.upper_cloth.color
    _neckline(figure, 0.034, figure.shaded_skin)
    _seam(figure, 0.80, 0.455, (*SHADE, 110), 0.008)
    if figure.forward > 0.1:
        for y in (0.77, 0.70, 0.63, 0.56, 0.50):
            figure.oval(figure.on_chest(0.0, y), 0.006, 0.006, (250, 248, 240))
    _collar(figure, blend(cloth, (255, 255, 255), 0.5), 0.060)


def _detail_hoodie(figure: Figure, levels: list[Level]) -> None:
    cloth = figure.upper_cloth.color
    dark = blend(cloth, SHADE, 0.30)
    height, drop = (0.030, 0.006) if figure.forward > 0 else (0.058, 0.036)
    hood = figure.project((0.0, figure.throat - drop, figure.bend(figure.throat) - 0.035))
    figure.oval(hood, figure.extent(0.074, 0.055), height, dark)
    _hem_band(figure, levels, 0.022, dark)
    if figure.forward > 0.1:
        pocket = [figure.on_chest(x, y) for x, y in ((-0.045, 0.575), (0.045, 0.575), (0.066, 0.50), (-0.066, 0.50))]
        figure.brush.fill(pocket, (*SHADE, 90))
        _neckline(figure, 0.036, dark)
        for side in (-1, 1):
            cord = [figure.on_chest(side * 0.020, y) for y in (0.805, 0.725)]
            figure.line(cord, (248, 246, 240), 0.009)


def _detail_jacket(figure: Figure, levels: list[Level]) -> None:
    dark = blend(figure.upper_cloth.color, SHADE, 0.42)
    _hem_band(figure, levels, 0.030, dark)
    _seam(figure, 0.83, 0.48, (214, 214, 218), 0.012)
    _collar(figure, dark, 0.045)


def _detail_coat(figure: Figure, levels: list[Level]) -> None:
    dark = blend(figure.upper_cloth.color, SHADE, 0.38)
    _seam(figure, 0.76, 0.28, (*SHADE, 130), 0.009)
    _waistband(figure, levels, 0.024, dark)
    if figure.forward > 0.1:
        opening = [figure.on_chest(dx, dy) for dx, dy in ((-0.026, 0.835), (0.026, 0.835), (0.0, 0.755))]
        figure.brush.fill(opening, (240, 236, 228))
        for dy in (0.70, 0.66, 0.54, 0.49):
            figure.oval(figure.on_chest(0.024, dy), 0.008, 0.008, dark)
    _collar(figure, dark, 0.095)


def _detail_dress(figure: Figure, levels: list[Level]) -> None:
    _neckline(figure, 0.046, figure.shaded_skin)
    _waistband(figure, levels, 0.014, (*SHADE, 110))
    for part in (-0.55, 0.0, 0.55):
        top, bottom = (part * figure.hip, 0.45, 0.0), (1.6 * part * figure.hip, 0.31, 0.0)
        figure.line([figure.project(top), figure.project(bottom)], (*SHADE, 60), 0.006)


DETAILS = {
    "t-shirt": _detail_t_shirt,
    "shirt": _detail_shirt,
    "hoodie": _detail_hoodie,
    "jacket": _detail_jacket,
    "coat": _detail_coat,
    "dress": _detail_dress,
}


def draw_arm(figure: Figure, arm: Arm) -> None:
    """An arm with its hand and sleeve."""
    cut = CUTS[figure.outfit.upper]
    top, middle, wrist = (radius * figure.limb_width for radius in (0.034, 0.026, 0.019))
    hand = along(arm.elbow, arm.hand, 1.08)
    figure.limb([arm.elbow, arm.hand, hand], [middle, wrist, 0.022 * figure.fullness], figure.skin)
    if cut.sleeve < 1.0:
        figure.limb([arm.shoulder, arm.elbow], [top, middle], figure.skin)
        cuff = along(arm.shoulder, arm.elbow, 1.3 * cut.sleeve)
        figure.limb([arm.shoulder, cuff], [top + 0.003, top + 0.007], figure.upper_cloth, cut=True)
        return
    loose = 0.030 * (cut.ease - 0.90)
    joints = [arm.shoulder, arm.elbow, along(arm.elbow, arm.hand, 0.94)]
    figure.limb(joints, [top + loose, middle + loose, wrist + 1.3 * loose], figure.upper_cloth, cut=True)


def draw_arm_shadow(figure: Figure, arm: Arm) -> None:
    """What sets an arm off from a torso in the same cloth."""
    joints = [figure.project(joint) for joint in (arm.shoulder, arm.elbow, arm.hand)]
    middle, unit = figure.anchor[0], figure.unit
    inward = [(x + max(-0.012 * unit, min(0.012 * unit, middle - x)), y) for x, y in joints]
    for start, end in zip(inward, inward[1:], strict=False):
        outline = capsule(start, end, 0.036 * figure.limb_width * unit, 0.030 * figure.limb_width * unit)
        figure.brush.fill(outline, (*SHADE, 40))


def draw_scarf(figure: Figure) -> None:
    """A scarf around the neck with one end hanging down."""
    color = CLOTH[figure.outfit.scarf_colour]
    y = figure.throat
    x, top = figure.project((0.0, y, figure.bend(y)))
    side = 1 if figure.forward > -0.3 else -1
    start, end = (figure.on_chest(x, height, 0.7 * side) for x, height in ((0.035, y - 0.01), (0.046, 0.66)))
    figure.brush.limb([start, end], [0.022 * figure.unit, 0.026 * figure.unit], color, cut=True)
    figure.oval((x, top), figure.extent(0.068, 0.066), 0.034, color)
    figure.oval((x, top + 0.008 * figure.unit), figure.extent(0.060, 0.058), 0.014, (*SHADE, 60))
