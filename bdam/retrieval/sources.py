"""Pictures of a folder or of a data set, as rows of one kind."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, Features, Image, Value

from bdam.data.benchmarks.descriptions import Description
from bdam.data.benchmarks.files import read_file
from bdam.data.loading import load_split
from bdam.data.pictures import list_pictures, read_column


# Of every row: the picture's name in the gallery, the picture, and a number that changes when the picture does.
ROW = Features({"picture": Value("string"), "image": Image(decode=False), "state": Value("int64")})
# Names that columns of a data set cannot keep.
RESERVED = (*ROW, "image_id", "path", "part", "vector", "picture_key")


def find_pictures(
    source: str, split: str, use_descriptions: bool = False
) -> tuple[Path | Dataset, dict[str, str | None] | None]:
    """
    What a name on the command line stands for: a folder of pictures or of a gallery, or the split of a data set; and,
    where they are to be used, the identity descriptions by picture, from the data set or from `descriptions.jsonl` in
    the folder.

    Raises:
        FileNotFoundError: if there is nothing of that name, or no descriptions.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() or (folder / "dataset_dict.json").is_file():
        dataset = load_split(source, split)
        columns = (read_column(dataset, name) for name in ("image_id", "identity_description"))
        return dataset, dict(zip(*columns, strict=True)) if use_descriptions else None
    if not use_descriptions:
        return folder, None
    path = folder / "descriptions.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"No descriptions at {path}: write them by `bdam caption describe {folder}`.")
    return folder, {record.image_id: record.identity_description for _, record in read_file(path, Description)}


def read_pictures(source: str | Path | Dataset, descriptions: Mapping[str, str | None] | None = None) -> Dataset:
    """
    Rows with the columns of `ROW`, `identity_description` if descriptions are given, and what can be filtered by: the
    `folder` that a file lies in, or the numbers, words and yes-or-no columns of a data set.

    Args:
        source: a folder, whose pictures are named by their paths in it; or a data set with a column `image`, whose
            pictures are named by `image_id` or, without that, by their content.
        descriptions: identity descriptions by the pictures' names, as far as there are any.

    Raises:
        FileNotFoundError: if there is no such folder, or no picture in it.
        ValueError: if the data set has no pictures, or two of one name.
    """
    rows = _of_data_set(source) if isinstance(source, Dataset) else _of_folder(Path(source).expanduser())
    names = rows["picture"][:]
    (twice, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ValueError(f"Two pictures are named {twice}: give each an `image_id` of its own.")
    if descriptions is not None:
        texts = [descriptions.get(name) for name in names]
        rows = rows.add_column("identity_description", texts, feature=Value("string"))
    return rows


def _of_folder(folder: Path) -> Dataset:
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {folder}: give one with pictures, or a data set.")
    paths = [path.relative_to(folder) for path in list_pictures(folder)]
    files = [(folder / path).resolve() for path in paths]
    columns = {
        "picture": [path.as_posix() for path in paths],
        "image": [{"path": str(file), "bytes": None} for file in files],
        "state": [file.stat().st_mtime_ns for file in files],
        "folder": [path.parent.as_posix() for path in paths],
    }
    return Dataset.from_dict(columns, Features({**ROW, "folder": Value("string")}))


def _of_data_set(dataset: Dataset) -> Dataset:
    if "image" not in dataset.column_names or not len(dataset):
        raise ValueError(f"A data set of pictures has rows and a column `image`; this has {dataset.column_names}.")
    dataset = dataset.with_format(None).cast_column("image", Image(decode=False))
    filters = [
        name
        for name, feature in dataset.features.items()
        if isinstance(feature, Value) and name not in RESERVED and "description" not in name
    ]
    states = [_state(image) for image in dataset["image"]]
    names = dataset["image_id"][:] if "image_id" in dataset.column_names else [f"{state:016x}" for state in states]
    rows = dataset.select_columns(["image", *filters])
    rows = rows.add_column("picture", names, feature=ROW["picture"])
    return rows.add_column("state", states, feature=ROW["state"])


def _state(image: dict) -> int:
    if image["bytes"] is None:
        return Path(image["path"]).stat().st_mtime_ns
    return int.from_bytes(hashlib.sha256(image["bytes"]).digest()[:7], "big")
