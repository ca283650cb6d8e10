"""Generated descriptions, joined to the images that they were written for."""

from statistics import mean
from typing import Literal

from pydantic import BaseModel

from .files import scan_file
from .records import DESCRIPTIONS, ImagePath, Listing, Share, Text


class Description(BaseModel):
    """
    What was written about an image, and by kind and attribute the share of its samples that agree, where there were
    several.
    """

    image_id: ImagePath
    identity_description: Text | None = None
    clothing_description: Text | None = None
    agreement: dict[Literal["identity", "clothing"], dict[str, Share]] = {}


def join_descriptions(listing: Listing) -> None:
    """
    Gives each record the descriptions of its image, as far as there are any. Lines that are not as they should be,
    or describe an image for the second time, are left out, and `listing.problems` tells of them.
    """
    path = listing.descriptions
    images = {record.image_id: record for record in listing.records}
    described: dict[str, str] = {}
    for place, description in scan_file(path, Description, listing.problems) if path.is_file() else ():
        image = description.image_id
        if described.setdefault(image, place) != place:
            listing.problems.append(
                f"{path}, {place}: {image} is described on {described[image]} already: remove one."
            )
            continue
        if image not in images:
            listing.unknown_descriptions.append(f"{place}: {image}")
            continue
        for kind in DESCRIPTIONS:
            setattr(images[image], kind, getattr(description, kind))
        for name, shares in description.agreement.items():
            setattr(images[image], f"{name}_agreement", mean(shares.values()) if shares else None)
