"""Draws a dressed person, from the farthest part to the nearest."""

from PIL import Image

from .attributes import NONE, Identity, Outfit
from .bags import draw_backpack, draw_backpack_straps, draw_handbag, draw_shoulder_bag, draw_shoulder_strap
from .body import Figure
from .clothing import draw_arm, draw_arm_shadow, draw_leg, draw_scarf, draw_skirt, draw_torso
from .head import Head, draw_hair_behind, draw_hat, draw_head, draw_neck
from .paint import SHADE
from .view import View


def draw_figure(canvas: Image.Image, identity: Identity, outfit: Outfit, view: View) -> None:
    """Draw a person onto the canvas, which is changed in place."""
    figure = Figure(canvas, identity, outfit, view)
    head = Head(figure)
    faces_camera = figure.forward > 0
    hair_behind_torso = figure.forward > 0.5
    far_arms = figure.arms[:1] if abs(figure.sideways) > 0.35 else []
    near_arms = figure.arms[len(far_arms) :]

    _draw_shadow(figure)
    if outfit.bag == "backpack" and faces_camera:
        draw_backpack(figure)
    if hair_behind_torso:
        draw_hair_behind(head)
    for arm in far_arms:
        draw_arm(figure, arm)
    for leg in figure.legs:
        draw_leg(figure, leg)
    if outfit.lower == "skirt":
        draw_skirt(figure)
    draw_neck(head)
    draw_torso(figure)
    if outfit.bag == "backpack":
        draw_backpack_straps(figure) if faces_camera else draw_backpack(figure)
    if outfit.bag == "shoulder bag":
        draw_shoulder_strap(figure)
    if outfit.scarf != NONE:
        draw_scarf(figure)
    draw_head(head)
    if not hair_behind_torso:
        draw_hair_behind(head)
    if outfit.hat != NONE:
        draw_hat(head)
    for arm in near_arms:
        draw_arm_shadow(figure, arm)
        draw_arm(figure, arm)
    if outfit.bag == "handbag":
        draw_handbag(figure, figure.arms[-1])
    if outfit.bag == "shoulder bag":
        draw_shoulder_bag(figure)


def _draw_shadow(figure: Figure) -> None:
    x, y = figure.foot
    center = (x - 0.05 * figure.brush.light_side * figure.unit, y)
    for size in (1.0, 0.8, 0.6):
        figure.oval(center, 0.19 * size, 0.036 * size, (*SHADE, 46))
