"""Generated descriptions, joined to the records of their images."""

from statistics import mean

from bdam.data.descriptions import COLUMNS, Description

from .files import scan_file
from .records import ImagePath, Listing


class BenchmarkDescription(Description):
    """A description whose image is named as the records of a benchmark name theirs."""

    image_id: ImagePath


def join_descriptions(listing: Listing) -> None:
    """
    Sets the descriptions of each record to those that `listing.descriptions` has of its image, and its agreement of
    each kind to the mean over attributes. A line that is no description, or describes an image for the second time, is
    left out and added to `listing.problems`; a line whose image no record has is added to
    `listing.unknown_descriptions`.
    """
    path = listing.descriptions
    records = {record.image_id: record for record in listing.records}
    first_places: dict[str, str] = {}
    for place, description in scan_file(path, BenchmarkDescription, listing.problems) if path.is_file() else ():
        image_id = description.image_id
        first_place = first_places.setdefault(image_id, place)
        if first_place != place:
            listing.problems.append(f"{path}, {place}: {image_id} is described on {first_place} already: remove one.")
            continue
        if image_id not in records:
            listing.unknown_descriptions.append(f"{place}: {image_id}")
            continue
        for column in COLUMNS:
            setattr(records[image_id], column, getattr(description, column))
        for kind, shares in description.agreement.items():
            setattr(records[image_id], f"{kind}_agreement", mean(shares.values()) if shares else None)
