"""Generated pedestrians: drawn people who change clothes, and three kinds of text about each image."""

from .attributes import Identity, Outfit, count_identities, draw_identity, draw_outfit
from .drawing import draw_pedestrian
from .generate import generate_pedestrians
from .sheet import contact_sheet
from .sizes import PILLOW, SIZES, Checksum, Size, checksums, compare_size, find_size
from .view import View, draw_view
from .wording import write_caption, write_clothing_description, write_identity_description


__all__ = [
    "PILLOW",
    "SIZES",
    "Checksum",
    "Identity",
    "Outfit",
    "Size",
    "View",
    "checksums",
    "compare_size",
    "contact_sheet",
    "count_identities",
    "draw_identity",
    "draw_outfit",
    "draw_pedestrian",
    "draw_view",
    "find_size",
    "generate_pedestrians",
    "write_caption",
    "write_clothing_description",
    "write_identity_description",
]
