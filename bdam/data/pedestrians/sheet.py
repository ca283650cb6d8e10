"""A contact sheet: an image of several persons, each in all their outfits."""

from datasets import Dataset
from PIL import Image


PAPER = (250, 248, 244)


def contact_sheet(dataset: Dataset, rows: int, columns: int) -> Image.Image:
    """Lay out images of a data set.

    Args:
        dataset: Rows with `image`, `person_id` and `outfit_id`, the rows of a person in one run.
        rows: Number of rows of persons.
        columns: Number of persons in a row; each is shown once per outfit, side by side.

    Returns:
        An RGB image in which a wider margin separates persons.

    Raises:
        ValueError: The data set has fewer persons than `rows * columns`.
    """
    first_rows: dict[int, dict[int, int]] = {}
    for index, (person_id, outfit_id) in enumerate(zip(dataset["person_id"], dataset["outfit_id"], strict=True)):
        first_rows.setdefault(person_id, {}).setdefault(outfit_id, index)
    persons = list(first_rows.values())[: rows * columns]
    if len(persons) < rows * columns:
        raise ValueError(
            f"A sheet of {rows} x {columns} persons needs {rows * columns} of them, got {len(persons)}; "
            "ask for fewer rows or columns."
        )
    width, height = dataset[0]["image"].size
    margin, gap = max(4, height // 12), max(2, height // 48)
    outfits = max(map(len, persons))
    person_width = outfits * (width + gap) - gap
    size = (columns * (person_width + margin) + margin, rows * (height + margin) + margin)
    sheet = Image.new("RGB", size, PAPER)
    for index, images in enumerate(persons):
        row, column = divmod(index, columns)
        left, top = margin + column * (person_width + margin), margin + row * (height + margin)
        for offset, row_index in enumerate(images.values()):
            sheet.paste(dataset[row_index]["image"], (left + offset * (width + gap), top))
    return sheet
