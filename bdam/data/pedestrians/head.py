"""Neck, face and hair. A position on the head is an angle around it (0 is the nose) and a height in [-1, 1]."""

from math import cos, radians, sin, sqrt

from .attributes import NONE
from .body import Figure
from .paint import CLOTH, HAIR, SHADE, SHINE, Color, Point, blend, capsule, smooth


RADIUS_X, RADIUS_Z, RADIUS_Y = 0.056, 0.062, 0.074
HEAD_HEIGHT = 0.928
EYE_ANGLE, FACE_ANGLE = 26, 94
GREYING = {"young": 0.0, "middle-aged": 0.05, "elderly": 0.30}
LIPS = {"man": 0.28, "woman": 0.62}


class Head:
    """Where the head is on the canvas, how large it is, and what is on which side."""

    def __init__(self, figure: Figure):
        self.figure = figure
        self.brush = figure.brush
        scale = figure.unit * figure.fullness * 1.06
        lowered = HEAD_HEIGHT - 0.42 * figure.stoop
        self.center = figure.project((0.0, lowered, figure.bend(HEAD_HEIGHT) * 1.15))
        self.rx = (RADIUS_X * figure.forward**2 + RADIUS_Z * figure.sideways**2) * scale
        self.ry = RADIUS_Y * scale
        identity = figure.identity
        self.skin = figure.skin
        self.hair = blend(HAIR.get(identity.hair_colour, HAIR["brown"]), (205, 205, 208), GREYING[identity.age])

    def across(self, degrees: float) -> float:
        """Position across the head, in units of its radius, of what is at an angle around it."""
        return self.figure.forward * sin(radians(degrees)) + self.figure.sideways * cos(radians(degrees))

    def visibility(self, degrees: float) -> float:
        """1 where the camera looks straight at what is at an angle around the head, negative where it is hidden."""
        return self.figure.forward * cos(radians(degrees)) - self.figure.sideways * sin(radians(degrees))

    def at(self, across: float, height: float) -> Point:
        """A point of the flat disc that the head appears as."""
        return self.center[0] + across * self.rx, self.center[1] - height * self.ry

    def spot(self, degrees: float, height: float) -> Point:
        """A point on the surface of the head."""
        return self.at(self.across(degrees) * sqrt(1 - 0.8 * height * height), height)

    def oval(self, across: float, height: float, width: float, tall: float, color: Color) -> None:
        self.brush.oval(self.at(across, height), width * self.rx, tall * self.ry, color)


def draw_neck(head: Head) -> None:
    """The neck, to be drawn before the garment that surrounds it."""
    figure = head.figure
    x, y = figure.project((0.0, figure.throat - 0.023, figure.bend(0.815)))
    radius = (0.033 if figure.identity.gender == "man" else 0.027) * figure.limb_width * figure.unit
    top = (head.center[0] - 0.15 * head.rx * figure.sideways, head.center[1] + 0.35 * head.ry)
    figure.brush.fill(capsule(top, (x, y), radius, radius * 1.15), figure.shaded_skin)


def draw_hair_behind(head: Head) -> None:
    """What hangs down behind the head: in front of the torso when the person walks away, behind it otherwise."""
    if head.figure.identity.hair_style == "long":
        _draw_long_hair(head)
    if head.figure.identity.hair_style == "ponytail":
        _draw_ponytail(head)


def draw_head(head: Head) -> None:
    """Skull, face and the hair around it."""
    _draw_skull(head)
    _draw_face(head)
    _draw_ears(head)
    _draw_hair_front(head)
    _draw_age(head)
    _draw_beard(head)
    _draw_features(head)
    if head.figure.identity.glasses != NONE:
        _draw_glasses(head)


def draw_hat(head: Head) -> None:
    """The hat, over all hair."""
    outfit = head.figure.outfit
    HATS[outfit.hat](head, CLOTH[outfit.hat_colour])


def _draw_long_hair(head: Head) -> None:
    back = head.across(180)
    wide = 0.72 + 0.48 * head.figure.forward**2
    middle = 0.46 * back
    half = [(0.0, 1.02), (0.56, 0.90), (0.92, 0.45), (1.04, -0.30), (1.06, -1.25), (0.84, -1.95), (0.30, -2.20)]
    left = [head.at(middle - wide * across, height) for across, height in half]
    right = [head.at(middle + wide * across, height) for across, height in half]
    head.brush.fill(smooth(left + right[:0:-1]), head.hair)
    for part, bottom in ((-0.55, -1.75), (-0.2, -2.0), (0.15, -1.9), (0.5, -1.7)):
        strand = [head.at(middle + part * wide, height) for height in (0.3, bottom)]
        head.brush.line(strand, (*SHADE, 36), 0.10 * head.rx)


def _draw_ponytail(head: Head) -> None:
    """Tied high at the back and swung to one side, so that it shows from the front as well."""
    root = head.spot(180, 0.45)
    swing = 0.55 * head.across(90) + 0.85 * head.across(180)
    middle, tip = head.at(1.35 * swing, -0.25), head.at(1.25 * swing, -1.85)
    head.brush.limb([root, middle, tip], [0.34 * head.rx, 0.44 * head.rx, 0.12 * head.rx], head.hair)
    head.brush.oval(root, 0.26 * head.rx, 0.20 * head.ry, blend(head.hair, SHADE, 0.5))


def _draw_bun(head: Head) -> None:
    x, y = head.at(0.55 * head.across(180), 1.12)
    head.brush.oval((x, y), 0.52 * head.rx, 0.40 * head.ry, head.hair)
    head.brush.oval((x - 0.1 * head.brush.light_side * head.rx, y), 0.34 * head.rx, 0.26 * head.ry, (*SHADE, 40))


def _draw_skull(head: Head) -> None:
    style = head.figure.identity.hair_style
    back = head.across(180)
    if style == "bald":
        head.oval(0, 0.08, 1.0, 0.95, head.skin)
        head.oval(-0.4 * head.brush.light_side, 0.10, 0.55, 0.80, (*SHADE, 22))
        head.oval(0.35 * head.brush.light_side, 0.66, 0.26, 0.16, (*SHINE, 110))
        return
    if style == "bun":
        _draw_bun(head)
    if style == "curly":
        for degrees in range(-150, 211, 30):
            angle = radians(degrees)
            across, height = 0.16 * back + 0.92 * sin(angle), 0.28 + 0.78 * cos(angle)
            if height > -0.25 or abs(across - 0.9 * back) < 0.9:
                head.oval(across, height, 0.46, 0.36, head.hair)
    head.oval(0.06 * back, 0.14, 1.06, 0.94, head.hair)
    head.oval(0.06 * back - 0.35 * head.brush.light_side, 0.14, 0.68, 0.88, (*SHADE, 30))
    head.oval(0.35 * head.brush.light_side, 0.72, 0.36, 0.14, (*SHINE, 34))


def _draw_face(head: Head) -> None:
    """The skin between the hairline and the chin, as far as it is turned towards the camera."""
    if head.figure.forward < -0.92:
        return
    edges = [head.across(degrees) for degrees in (-FACE_ANGLE, FACE_ANGLE) if head.visibility(degrees) > 0]
    toward = head.across(0)
    rims = [side for side in (-1.0, 1.0) if not edges or side * toward > 0]
    low, high = min(edges + rims), max(edges + rims)
    middle, half = (low + high) / 2, (high - low) / 2
    if head.figure.forward > -0.35:
        head.oval(0.24 * toward, -0.44, 0.60, 0.50, head.skin)
    # From behind, no more than a cheek is left of the face.
    tall = 0.86 * min(1.0, half / 0.4) ** 0.7
    head.oval(middle, -0.14, half, tall, head.skin)
    head.oval(middle - 0.5 * head.brush.light_side * half, -0.16, half / 2, 0.9 * tall, (*SHADE, 16))
    if abs(toward) > 0.5:
        nose = [head.at(across * toward, height) for across, height in ((0.9, 0.12), (1.16, -0.22), (0.9, -0.32))]
        head.brush.fill(nose, head.skin)


def _draw_ears(head: Head) -> None:
    if head.figure.identity.hair_style == "long":
        return
    for degrees in (-96, 96):
        if head.visibility(degrees) > -0.35:
            x, y = head.at(0.98 * head.across(degrees), -0.12)
            wide = 0.10 + 0.07 * max(0.0, head.visibility(degrees))
            head.brush.oval((x, y), wide * head.rx, 0.19 * head.ry, blend(head.skin, SHADE, 0.12))


def _draw_hair_front(head: Head) -> None:
    """Fringe and the locks that frame the face."""
    style = head.figure.identity.hair_style
    if style == "bald" or head.figure.forward < -0.5:
        return
    middle = head.across(0)
    if style == "curly":
        for degrees in (-58, -20, 18, 56):
            if head.visibility(degrees) > -0.2:
                head.oval(0.92 * head.across(degrees), 0.66, 0.36, 0.25, head.hair)
    elif style == "short" and head.figure.identity.gender == "man":
        head.oval(0.45 * middle, 0.80, 0.82 - 0.2 * abs(middle), 0.26, head.hair)
    else:
        for degrees, width, tall in ((-34, 0.60, 0.32), (42, 0.46, 0.28)):
            if head.visibility(degrees) > 0:
                head.oval(0.58 * head.across(degrees), 0.70, width, tall, head.hair)
    if style == "long" and head.figure.forward > 0.3:
        for degrees in (-84, 84):
            top, bottom = (head.at(across * head.across(degrees), y) for across, y in ((1.04, 0.35), (1.12, -1.85)))
            head.brush.limb([top, bottom], [0.18 * head.rx, 0.26 * head.rx], head.hair)


def _draw_age(head: Head) -> None:
    """Gray strands and lines in the face."""
    age = head.figure.identity.age
    if age == "young":
        return
    old = age == "elderly"
    if head.figure.identity.hair_style != "bald":
        _draw_grey_strands(head, (-100, -84, 84, 100) if old else (-90, 90))
    line, width = (*blend(head.skin, SHADE, 0.45), 150 if old else 110), 0.08 * head.rx
    for degrees in (-30, 30):
        if head.visibility(degrees) > 0.25:
            head.brush.line([head.spot(degrees * 0.8, -0.28), head.spot(degrees * 1.15, -0.56)], line, width)
            if old:
                pouch = [head.spot(degrees - 11, -0.15), head.spot(degrees, -0.19), head.spot(degrees + 11, -0.15)]
                head.brush.line(pouch, line, width)
    if old and head.visibility(0) > 0.25:
        for height in (0.38, 0.50):
            head.brush.line([head.spot(degrees, height) for degrees in (-24, 0, 24)], line, width)


def _draw_grey_strands(head: Head, angles: tuple[int, ...]) -> None:
    for degrees in angles:
        if head.visibility(degrees) > -0.4:
            places = ((0.9, 0.62), (1.0, 0.35), (1.1, 0.05))
            strand = [head.at(0.96 * head.across(degrees * part), height) for part, height in places]
            head.brush.line(strand, blend(head.hair, (222, 222, 224), 0.55), 0.12 * head.rx)


def _draw_beard(head: Head) -> None:
    beard = head.figure.identity.beard
    if beard == NONE or head.figure.forward < -0.4:
        return
    color = blend(head.hair, SHADE, 0.12)
    if beard == "beard":
        for degrees in (-66, -44, -22, 0, 22, 44, 66):
            if head.visibility(degrees) > -0.10:
                low = -0.80 + 0.28 * (abs(degrees) / 66) ** 2
                x, y = head.at(0.90 * head.across(degrees), low)
                head.brush.oval((x, y), 0.30 * head.rx, (0.24 + 0.08 * abs(degrees) / 66) * head.ry, color)
    for degrees in (-20, 20):
        if head.visibility(degrees) > 0:
            start, end = head.spot(degrees * 0.25, -0.39), head.spot(degrees * 1.45, -0.50)
            head.brush.fill(capsule(start, end, 0.17 * head.rx, 0.11 * head.rx), color)


def _draw_features(head: Head) -> None:
    """Brows, eyes, nose and mouth."""
    woman = head.figure.identity.gender == "woman"
    brow = blend(head.hair, SHADE, 0.35)
    for degrees in (-EYE_ANGLE, EYE_ANGLE):
        if head.visibility(degrees) < 0.2:
            continue
        x, y = head.spot(degrees, 0.00)
        narrow = 0.5 + 0.5 * head.visibility(degrees)
        head.brush.oval((x, y), 0.11 * narrow * head.rx, 0.105 * head.ry, (44, 34, 36))
        raised = [head.spot(degrees - 13, 0.19), head.spot(degrees, 0.24), head.spot(degrees + 13, 0.19)]
        head.brush.line(raised, brow, (0.08 if woman else 0.13) * head.rx)
    if head.visibility(0) > 0.15:
        nose = [head.spot(0, -0.02), head.spot(6, -0.26)]
        head.brush.line(nose, (*blend(head.skin, SHADE, 0.4), 120), 0.09 * head.rx)
    mouth = [degrees for degrees in (-15, 0, 15) if head.visibility(degrees) > 0.1]
    if len(mouth) > 1:
        color = blend(head.skin, (186, 40, 56), LIPS[head.figure.identity.gender])
        color = blend(color, SHADE, 0.15)
        line = [head.spot(degrees, -0.56 - (0.03 if degrees == 0 else 0.0)) for degrees in mouth]
        head.brush.line(line, color, (0.15 if woman else 0.10) * head.rx)


def _draw_glasses(head: Head) -> None:
    frame, width = (30, 28, 34), 0.12 * head.rx
    for degrees in (-EYE_ANGLE, EYE_ANGLE):
        ear = 92 if degrees > 0 else -92
        if head.visibility(ear) > -0.3:
            start = degrees if head.visibility(degrees) > 0 else ear * 0.8
            head.brush.line([head.spot(start * 1.3, 0.02), head.at(0.98 * head.across(ear), 0.0)], frame, width)
        if head.visibility(degrees) > 0.05:
            x, y = head.spot(degrees, -0.01)
            wide = (0.14 + 0.18 * head.visibility(degrees)) * head.rx
            box = (x - wide, y - 0.23 * head.ry, x + wide, y + 0.21 * head.ry)
            head.brush.draw.ellipse(box, fill=(230, 240, 246, 70), outline=frame, width=max(1, round(width * 1.15)))
    if head.visibility(0) > 0.3:
        head.brush.line([head.spot(-9, 0.02), head.spot(9, 0.02)], frame, width)


def _draw_cap(head: Head, color: Color) -> None:
    top = [(-1.12, 0.34), (-1.08, 0.80), (-0.62, 1.20), (0.0, 1.30), (0.62, 1.20), (1.08, 0.80), (1.12, 0.34)]
    head.brush.fill(smooth([head.at(*place) for place in top]), color)
    dark_half = top[:4] if head.brush.light_side > 0 else top[3:]
    head.brush.fill(smooth([*(head.at(*place) for place in dark_half), head.at(0, 0.34)]), (*SHADE, 30))
    head.oval(0, 1.29, 0.12, 0.07, blend(color, SHADE, 0.3))
    if head.figure.forward > -0.6:
        forward = max(0.0, head.figure.forward)
        visor = blend(color, SHADE, 0.25)
        head.oval(0.85 * head.across(0), 0.34 - 0.06 * forward, 0.55 + 0.45 * forward, 0.15, visor)


def _draw_beanie(head: Head, color: Color) -> None:
    top = [(-1.14, 0.28), (-1.14, 0.85), (-0.70, 1.36), (0.0, 1.48), (0.70, 1.36), (1.14, 0.85), (1.14, 0.28)]
    head.brush.fill(smooth([head.at(*place) for place in top]), color)
    left, upper = head.at(-1.20, 0.60)
    right, lower = head.at(1.20, 0.24)
    head.brush.box(left, upper, right, lower, blend(color, SHADE, 0.22), 0.12 * head.ry)
    for across in (-0.75, -0.25, 0.25, 0.75):
        head.brush.line([head.at(across, 0.56), head.at(across, 0.28)], (*SHADE, 50), 0.08 * head.rx)
    head.oval(0, 1.52, 0.26, 0.19, blend(color, (255, 255, 255), 0.35))


HATS = {"cap": _draw_cap, "beanie": _draw_beanie}
