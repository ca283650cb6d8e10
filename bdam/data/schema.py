"""The columns and splits of all data sets, which have one row per image."""

from datasets import Dataset, DatasetDict, Features, Image, List, Value


SPLITS = ("train", "validation", "test")

IDENTITY_ATTRIBUTES = (
    "gender",
    "age",
    "build",
    "height",
    "hair_style",
    "hair_colour",
    "skin_tone",
    "glasses",
    "beard",
)
CLOTHING_ATTRIBUTES = (
    "upper",
    "upper_colour",
    "pattern",
    "pattern_colour",
    "lower",
    "lower_colour",
    "shoes",
    "shoes_colour",
    "bag",
    "bag_colour",
    "hat",
    "hat_colour",
    "scarf",
    "scarf_colour",
)

FEATURES = Features(
    {
        "image": Image(),
        "image_id": Value("string"),
        "person_id": Value("int64"),
        # Different for different persons; None in benchmarks without outfits.
        "outfit_id": Value("int64"),
        # Queries that people wrote. The two descriptions below belong to the image in the gallery.
        "captions": List(Value("string")),
        "identity_description": Value("string"),
        "clothing_description": Value("string"),
    }
)

# The columns with texts: several in each row of the first, one or None in the others.
TEXT_COLUMNS = ("captions", "identity_description", "clothing_description")

# How far several descriptions of an image agree: the share of equal values, in (0, 1], mean over attributes. None if
# there was one description; a data set without any value lacks the columns.
AGREEMENT_FEATURES = Features({"identity_agreement": Value("float32"), "clothing_agreement": Value("float32")})

PEDESTRIAN_FEATURES = Features(
    {
        **FEATURES,
        "identity_attributes": {name: Value("string") for name in IDENTITY_ATTRIBUTES},
        "clothing_attributes": {name: Value("string") for name in CLOTHING_ATTRIBUTES},
    }
)

CLOTHES_CHANGED_FEATURES = Features(
    {
        **FEATURES,
        "camera_id": Value("int64"),
        # "query" or "gallery" in the official protocol; None outside the test split.
        "role": Value("string"),
    }
)


def choose_split(data: DatasetDict, split: str, source: str) -> Dataset:
    """
    One split of a data set.

    Args:
        data: the splits.
        split: the name of one of them.
        source: the name of the data set in errors.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in data:
        raise ValueError(f"{source} has no split {split!r}: it has {', '.join(data)}.")
    return data[split]
