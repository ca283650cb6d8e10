"""What a gallery is made of: a folder of images, a data set, or another gallery."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, Image, Value

from bdam.data.descriptions import DESCRIPTIONS_FILE, read_descriptions
from bdam.data.images import list_images, read_column
from bdam.data.loading import load_split
from bdam.retrieval.rows import RESERVED, ROW, digest, normalize_name, stamp_of
from bdam.retrieval.stores.parts import is_gallery


@dataclass(frozen=True)
class ImageSource:
    """
    Images of a folder or of a data set.

    Args:
        rows: the columns of `ROW` but for `content`, `identity_description` if images are fused with it, and what can
            be filtered by.
        name: what errors call them.
        folder: where they lie, if they are those of a folder.
    """

    rows: Dataset
    name: str
    folder: Path | None = None

    @property
    def has_descriptions(self) -> bool:
        return "identity_description" in self.rows.column_names


@dataclass(frozen=True)
class GallerySource:
    """
    Another gallery, whose images come with their vectors.

    Args:
        path: where its files are.
        folder: none, since it is not its own images that lie there.
    """

    path: Path
    folder: None = None

    @property
    def name(self) -> str:
        return str(self.path)


Source = ImageSource | GallerySource


def open_source(
    source: str | Path | Dataset | Source,
    descriptions: Mapping[str, str | None] | None = None,
    split: str = "test",
    own_descriptions: bool = False,
) -> Source:
    """
    Finds out what a source is, and reads which images it has.

    Args:
        source: one of

            - a folder of images, which are named by their paths in it and can be filtered by the `folder` that a file
              lies in;
            - a data set with a column `image`, as an object, as a folder of `DatasetDict.save_to_disk` or as
              `NAME:ROOT`, see [`load_split`]. Its images are named by `image_id` or, without that, by their content,
              and can be filtered by its columns of numbers, words and truth values;
            - the folder of another gallery.
        descriptions: identity descriptions by the images' names, as far as there are any.
        split: of a data set that is no object.
        own_descriptions: whether to take, in place of `descriptions`, those of the data set, or those that the folder
            has in `descriptions.jsonl`.

    Raises:
        FileNotFoundError: if there is nothing at the source, no image in a folder, or no file of descriptions.
        ValueError: if a data set has no images, one without a name, or two of one name.
    """
    if isinstance(source, ImageSource | GallerySource):
        return source
    if isinstance(source, Dataset):
        return _of_data_set(source, "the data set", descriptions)
    folder, name = Path(source).expanduser(), str(source)
    if is_gallery(folder):
        return GallerySource(folder)
    if not folder.exists() and ":" not in name:
        raise FileNotFoundError(f"Nothing at {name}: give a folder of images or of a data set, or NAME:ROOT.")
    if folder.is_dir() and not (folder / "dataset_dict.json").is_file():
        return _of_folder(folder.resolve(), name, _read_descriptions(folder) if own_descriptions else descriptions)
    dataset = load_split(name, split)
    if own_descriptions:
        columns = (read_column(dataset, column) for column in ("image_id", "identity_description"))
        descriptions = dict(zip(*columns, strict=True))
    return _of_data_set(dataset, name, descriptions)


def _read_descriptions(folder: Path) -> dict[str, str | None]:
    path = folder / DESCRIPTIONS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No descriptions at {path}: write them by `bdam caption describe {folder}`.")
    return {description.image_id: description.identity_description for description in read_descriptions(path)}


def _of_folder(folder: Path, name: str, descriptions: Mapping[str, str | None] | None) -> ImageSource:
    paths = [path.relative_to(folder) for path in list_images(folder)]
    columns = {
        "image_id": [normalize_name(path.as_posix()) for path in paths],
        "image": [{"path": str(folder / path), "bytes": None} for path in paths],
        "folder": [normalize_name(path.parent.as_posix()) for path in paths],
    }
    features = {"image_id": ROW["image_id"], "image": ROW["image"], "folder": Value("string")}
    rows = Dataset.from_dict(columns, Features(features))
    return ImageSource(_complete(rows, name, descriptions), name, folder)


def _of_data_set(dataset: Dataset, name: str, descriptions: Mapping[str, str | None] | None) -> ImageSource:
    if "image" not in dataset.column_names or not len(dataset):
        raise ValueError(f"{name} has no images: it needs rows, and a column `image`; it has {dataset.column_names}.")
    dataset = dataset.with_format(None).cast_column("image", Image(decode=False))
    filters = [
        column
        for column, feature in dataset.features.items()
        if isinstance(feature, Value) and column not in RESERVED and "description" not in column
    ]
    rows = dataset.select_columns(["image", *filters])
    rows = rows.add_column("image_id", _names(dataset, name), feature=ROW["image_id"])
    return ImageSource(_complete(rows, name, descriptions), name)


def _names(dataset: Dataset, name: str) -> list[str]:
    if "image_id" not in dataset.column_names:
        return [f"{digest(image):016x}" for image in dataset["image"]]
    names = dataset["image_id"][:]
    if None in names:
        raise ValueError(f"{name}, row {names.index(None)}: `image_id` is missing: give each image a name.")
    return [normalize_name(str(image_id)) for image_id in names]


def _complete(rows: Dataset, name: str, descriptions: Mapping[str, str | None] | None) -> Dataset:
    """Rows with their descriptions, if these are given, and stamps."""
    names = rows["image_id"][:]
    (twice, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise ValueError(f"{name}: two images are named {twice}: give each a name of its own.")
    if descriptions is not None:
        by_name = {normalize_name(image_id): text for image_id, text in descriptions.items()}
        texts = [by_name.get(image_id) for image_id in names]
        rows = rows.add_column("identity_description", texts, feature=Value("string"))
    stamps = [stamp_of(image) for image in rows["image"]]
    return rows.add_column("stamp", stamps, feature=ROW["stamp"])
