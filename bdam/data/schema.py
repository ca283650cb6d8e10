"""The columns and splits of every data set: one row per image, under the same names from the reader to the loss."""

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
        # Unique over all persons; None where a benchmark does not know who changed clothes.
        "outfit_id": Value("int64"),
        # What people write when they search, as opposed to the two descriptions of the image in the gallery.
        "captions": List(Value("string")),
        "identity_description": Value("string"),
        "clothing_description": Value("string"),
    }
)

# How far several descriptions of an image agree: the share that says the same, in (0, 1], mean over attributes.
# None where there was one description; data without any such image lacks the columns.
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
        # What the official protocol has the image for, "query" or "gallery"; None outside the test split.
        "role": Value("string"),
    }
)


def choose_split(data: DatasetDict, split: str, source: str) -> Dataset:
    """
    Raises:
        ValueError: if `data`, which came from `source`, has no such split.
    """
    if split not in data:
        raise ValueError(f"{source} has no split {split!r}: it has {', '.join(data)}.")
    return data[split]
