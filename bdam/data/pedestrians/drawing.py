"""Draws an image of a pedestrian: the scene, the person, and the effects of the camera."""

from random import Random

from PIL import Image, ImageChops, ImageFilter

from .attributes import Identity, Outfit
from .figure import draw_figure
from .scenery import ASPECT, GROUND, draw_scene
from .view import View


SUPERSAMPLING = 3


def draw_pedestrian(identity: Identity, outfit: Outfit, view: View, size: tuple[int, int] = (256, 128)) -> Image.Image:
    """An image of a pedestrian.

    Args:
        identity: The person.
        outfit: What they wear and carry.
        view: Viewpoint, pose, scene and camera.
        size: `(height, width)` in pixels. The image is composed twice as high as wide, as pedestrian crops are,
            and stretched to any other shape.

    Returns:
        An RGB image; the same arguments always give the same pixels.
    """
    height, width = size
    canvas_height = SUPERSAMPLING * height
    # The scene is drawn at half the detail: it lies behind the focus, and the figure stands out.
    scene = draw_scene(view.scene, view.scene_seed, canvas_height // 2)
    canvas = scene.resize((round(ASPECT * canvas_height), canvas_height), Image.Resampling.BILINEAR)
    draw_figure(canvas, identity, outfit, view)
    return _expose(_frame(canvas, view, (width, height)), view)


def _frame(canvas: Image.Image, view: View, size: tuple[int, int]) -> Image.Image:
    """Crop the canvas around the ground where the person stands, and bring it to its final size."""
    width, height = canvas.width / view.zoom, canvas.height / view.zoom
    left, top = (canvas.width - width) / 2, (canvas.height - height) * GROUND
    return canvas.resize(size, Image.Resampling.BOX, box=(left, top, left + width, top + height))


def _expose(image: Image.Image, view: View) -> Image.Image:
    """Blur, brightness, color cast and grain."""
    if view.blur:
        image = image.filter(ImageFilter.GaussianBlur(view.blur * image.height))
    gains = [view.brightness * (1 + 0.05 * view.warmth * sign) for sign in (1, 0, -1)]
    image = image.point([level * gain for gain in gains for level in range(256)])
    if not view.grain:
        return image
    noise = Image.frombytes("L", image.size, Random(view.grain_seed).randbytes(image.width * image.height))
    noise = noise.point([round(view.grain * (level / 127.5 - 1)) + view.grain for level in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), offset=-view.grain)
