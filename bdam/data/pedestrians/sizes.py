"""The sizes of the benchmark of generated pedestrians, and the checksums by which a data set is known as one."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from ..schema import FEATURES


# The version of Pillow that drew the sizes. Versions from 11.2 draw the same pixels, older ones do not.
PILLOW = "12.3.0"
TEXTS = [name for name in FEATURES if name != "image"]


class Checksum(NamedTuple):
    """
    What a split holds, however its images are stored.

    Args:
        images: their number.
        texts: a hash of ids, captions and descriptions, 16 hexadecimal digits.
        pixels: a hash of the sizes and pixels of the images, 16 hexadecimal digits.
    """

    images: int
    texts: str
    pixels: str

    def __str__(self) -> str:
        return f"{self.images:,} images, texts {self.texts}, pixels {self.pixels}"


@dataclass(frozen=True)
class Size:
    """
    A size of the benchmark.

    Args:
        arguments: those of [`generate_pedestrians`].
        checksums: of what it draws by them, by split.
    """

    arguments: dict[str, Any]
    checksums: dict[str, Checksum]


SIZES = {
    "small": Size(
        {
            "num_train_persons": 1200,
            "num_validation_persons": 60,
            "num_test_persons": 120,
            "outfits_per_person": 2,
            "images_per_outfit": 2,
            "image_size": (128, 64),
            "seed": 0,
        },
        {
            "train": Checksum(4800, "eb0dbf18e962644a", "0493b7e03c2c1ad5"),
            "validation": Checksum(240, "5108dfdf05beb18b", "079240709ec7559e"),
            "test": Checksum(480, "4f666e5a0b08a03c", "d6abb257d3cbed05"),
        },
    ),
    "medium": Size(
        {
            "num_train_persons": 12_000,
            "num_validation_persons": 200,
            "num_test_persons": 1000,
            "outfits_per_person": 3,
            "images_per_outfit": 2,
            "train_images_per_outfit": 1,
            "image_size": (128, 64),
            "seed": 0,
        },
        {
            "train": Checksum(36_000, "b4e5778fd63212da", "44d7d0f232bc754a"),
            "validation": Checksum(1200, "d176aafdce65e319", "d507f32bdbb26446"),
            "test": Checksum(6000, "7415444783903de7", "e0332c54ae9cdf82"),
        },
    ),
    # More persons to learn from would leave hardly any women to the test split: see docs/benchmark.md.
    "large": Size(
        {
            "num_train_persons": 10_000,
            "num_validation_persons": 500,
            "num_test_persons": 3000,
            "outfits_per_person": 4,
            "images_per_outfit": 2,
            "train_images_per_outfit": 1,
            "image_size": (128, 64),
            "seed": 0,
        },
        {
            "train": Checksum(40_000, "fc87145ac42a1591", "23e14edbff1522e5"),
            "validation": Checksum(4000, "cdd629b6e5e8a337", "48f6530836206807"),
            "test": Checksum(24_000, "dec501a6e568c22e", "fe5e250d1337c756"),
        },
    ),
}


def checksums(data: DatasetDict) -> dict[str, Checksum]:
    """The checksums of a data set, by split; its images are decoded for that."""
    return {split: _checksum(rows, split) for split, rows in data.items()}


def compare_size(found: dict[str, Checksum], size: str) -> list[str]:
    """
    In what a data set differs from a size, a sentence for each split; none if it is that size.

    Args:
        found: the [`checksums`] of the data set.
        size: a key of `SIZES`.
    """
    expected = SIZES[size].checksums
    return [
        f"The split {split} is not that of the size {size}: {_difference(found.get(split), expected.get(split))}."
        for split in expected | found
        if found.get(split) != expected.get(split)
    ]


def find_size(data: DatasetDict) -> str | None:
    """The size that a data set is; None if it is none. Images are decoded only if their numbers are those of one."""
    for name, size in SIZES.items():
        numbers = {split: checksum.images for split, checksum in size.checksums.items()}
        if numbers == {split: len(rows) for split, rows in data.items()}:
            return name if checksums(data) == size.checksums else None
    return None


def _checksum(rows: Dataset, split: str) -> Checksum:
    texts, pixels = sha256(), sha256()
    for row in tqdm(rows.select_columns(list(FEATURES)), desc=f"Checking {split}", unit="image", leave=False):
        image = row["image"]
        texts.update(json.dumps([row[name] for name in TEXTS]).encode())
        pixels.update(repr(image.size).encode() + image.tobytes())
    return Checksum(len(rows), texts.hexdigest()[:16], pixels.hexdigest()[:16])


def _difference(found: Checksum | None, expected: Checksum | None) -> str:
    if found is None or expected is None:
        return "it is missing" if found is None else "the size has none"
    pairs = zip(Checksum._fields, found, expected, strict=True)
    return ", ".join(f"{name} {value}, not {other}" for name, value, other in pairs if value != other)
