"""Generated pedestrians: drawn people who change clothes, and three kinds of text about each image."""

from .attributes import Identity, Outfit, count_identities, draw_identity, draw_outfit
from .drawing import draw_pedestrian
from .generate import generate_pedestrians
from .sheet import contact_sheet
from .view import View, draw_view
from .wording import write_caption, write_clothing_description, write_identity_description


__all__ = [
    "Identity",
    "Outfit",
    "View",
    "contact_sheet",
    "count_identities",
    "draw_identity",
    "draw_outfit",
    "draw_pedestrian",
    "draw_view",
    "generate_pedestrians",
    "write_caption",
    "write_clothing_description",
    "write_identity_description",
]
