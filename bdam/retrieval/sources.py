"""Sources of a gallery: a folder of images, a data set, or another gallery."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from pydantic import BaseModel, ConfigDict

from bdam.data.benchmarks.files import read_file
from bdam.data.benchmarks.records import ImagePath
from bdam.data.descriptions import DESCRIPTIONS_FILE, read_descriptions
from bdam.data.images import METADATA_FILE, list_images, read_column
from bdam.data.loading import load_split
from bdam.retrieval.rows import RESERVED, ROW, digest, normalize_name, stamp_of
from bdam.retrieval.stores.parts import is_gallery


class Metadata(BaseModel):
    """
    A line of `metadata.jsonl`: an image of its folder, as an `imagefolder` of `datasets` has it, and further columns.

    Args:
        file_name: its path in the folder.
    """

    model_config = ConfigDict(extra="allow")

    file_name: ImagePath


@dataclass(frozen=True)
class ImageSource:
    """
    Images of a folder or of a data set.

    Args:
        rows: a row per image, with the columns of `ROW` except `content`, with `identity_description` if images are
            fused with it, and with the columns to filter by.
        name: of the source, for messages.
    """

    rows: Dataset
    name: str

    @property
    def has_descriptions(self) -> bool:
        """Whether images are fused with their identity descriptions."""
        return "identity_description" in self.rows.column_names


@dataclass(frozen=True)
class FolderSource(ImageSource):
    """
    Images of a folder.

    Args:
        folder: its absolute path.
    """

    folder: Path


@dataclass(frozen=True)
class GallerySource:
    """
    Another gallery, whose images come with their vectors.

    Args:
        path: folder of its files.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the source, for messages."""
        return str(self.path)


Source = ImageSource | GallerySource


def check_is_folder(source: Source) -> FolderSource:
    """
    The source itself.

    Raises:
        ValueError: if it is no folder of images.
    """
    if not isinstance(source, FolderSource):
        raise ValueError(f"Only a folder of images can be pruned, and {source.name} is none.")
    return source


def open_source(
    source: str | Path | Dataset | Source,
    descriptions: Mapping[str, str | None] | None = None,
    split: str = "test",
    own_descriptions: bool = False,
) -> Source:
    """
    The images of a folder or of a data set, or another gallery.

    Args:
        source: one of

            - a folder of images. The `image_id` of each is its path in the folder, and the `folder` of its file can
              be filtered by. With `metadata.jsonl`, its images are those that have a line there, a `file_name` and
              further columns, such as `bdam detect` writes; numbers, strings and booleans can be filtered by, too;
            - a data set with a column `image`: a `datasets.Dataset`, a folder of `DatasetDict.save_to_disk`, or
              `NAME:ROOT`, see [`load_split`]. The `image_id` of each image is that of its row or, without such a
              column, a digest of its content; columns of numbers, strings and booleans can be filtered by;
            - the folder of another gallery.
        descriptions: image id → identity description, which its image is fused with.
        split: of a data set that is given by its name or folder.
        own_descriptions: whether to use the descriptions of the data set, or of `descriptions.jsonl` in the folder,
            instead of `descriptions`.

    Raises:
        FileNotFoundError: if there is nothing at the source, no image in its folder, or no `descriptions.jsonl`.
        ValueError: if a data set has no images, an image has no id, two have the same, or a line of `metadata.jsonl`
            is not valid.
    """
    if isinstance(source, ImageSource | GallerySource):
        return source
    if isinstance(source, Dataset):
        return _data_set_source(source, "the data set", descriptions)
    folder, name = Path(source).expanduser(), str(source)
    if is_gallery(folder):
        return GallerySource(folder)
    if not folder.exists() and ":" not in name:
        raise FileNotFoundError(f"Nothing at {name}: give a folder of images or of a data set, or NAME:ROOT.")
    if folder.is_dir() and not (folder / "dataset_dict.json").is_file():
        return _folder_source(folder.resolve(), name, _read_descriptions(folder) if own_descriptions else descriptions)
    dataset = load_split(name, split)
    if own_descriptions:
        columns = (read_column(dataset, column) for column in ("image_id", "identity_description"))
        descriptions = dict(zip(*columns, strict=True))
    return _data_set_source(dataset, name, descriptions)


def _read_descriptions(folder: Path) -> dict[str, str | None]:
    path = folder / DESCRIPTIONS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No descriptions at {path}: write them by `bdam caption describe {folder}`.")
    return {description.image_id: description.identity_description for description in read_descriptions(path)}


def _folder_source(folder: Path, name: str, descriptions: Mapping[str, str | None] | None) -> FolderSource:
    if (folder / METADATA_FILE).is_file():
        paths, further = _read_metadata(folder / METADATA_FILE)
    else:
        paths, further = [path.relative_to(folder) for path in list_images(folder)], {}
    columns = {
        "image_id": [normalize_name(path.as_posix()) for path in paths],
        "image": [{"path": str(folder / path), "bytes": None} for path in paths],
        "folder": [normalize_name(path.parent.as_posix()) for path in paths],
    }
    kinds = Features.from_arrow_schema(pa.schema({column: values.type for column, values in further.items()}))
    features = {"image_id": ROW["image_id"], "image": ROW["image"], "folder": Value("string"), **kinds}
    values = {column: values.to_pylist() for column, values in further.items()}
    rows = Dataset.from_dict({**columns, **values}, Features(features))
    return FolderSource(_complete(rows, name, descriptions), name, folder)


def _read_metadata(path: Path) -> tuple[list[Path], dict[str, pa.Array]]:
    """The paths of the images that a file lists, and the further columns that rows of a gallery can have."""
    lines = [line for _, line in read_file(path, Metadata)]
    if not lines:
        raise ValueError(f"{path} lists no images.")
    names = dict.fromkeys(name for line in lines for name in line.model_extra or {})
    columns = {}
    for name in names:
        try:
            values = pa.array([(line.model_extra or {}).get(name) for line in lines])
        except pa.ArrowException:
            raise ValueError(f"{path}: `{name}` holds values of several types: give all the same type.") from None
        if _is_number_or_text(values.type) and _is_free(name) and name != "folder":
            columns[name] = values
    return [Path(line.file_name) for line in lines], columns


def _is_number_or_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers, strings, booleans or, as boxes are, lists of numbers."""
    if pa.types.is_list(kind):
        return pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_boolean)
    return any(check(kind) for check in checks)


def _is_free(column: str) -> bool:
    """Whether rows of a gallery can have a further column of this name."""
    return column not in RESERVED and "description" not in column


def _data_set_source(dataset: Dataset, name: str, descriptions: Mapping[str, str | None] | None) -> ImageSource:
    if "image" not in dataset.column_names or not len(dataset):
        raise ValueError(f"{name} has no images: it needs rows, and a column `image`; it has {dataset.column_names}.")
    dataset = dataset.with_format(None).cast_column("image", Image(decode=False))
    filters = [
        column for column, feature in dataset.features.items() if isinstance(feature, Value) and _is_free(column)
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
    """The rows with their stamps and, if these are given, their identity descriptions."""
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
