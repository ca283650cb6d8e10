"""Reads data sets of the Hub into rows of the schema."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, Image, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetNotFoundError

from bdam.data.benchmarks.conversion import hold_out, number_ids
from bdam.data.benchmarks.files import validate
from bdam.data.benchmarks.records import SPLIT_NAMES, Record, SplitName
from bdam.data.schema import AGREEMENT_FEATURES, CLOTHES_CHANGED_FEATURES, FEATURES, SPLITS


# What stands before the colon in the name of a data set of the Hub.
HUB = "hf"
ADDRESS = re.compile(r"(?P<repo_id>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<config>.+))?")
# The columns that records fill.
COLUMNS = {**CLOTHES_CHANGED_FEATURES, **AGREEMENT_FEATURES}


def read_hub(address: str) -> DatasetDict:
    """
    The splits of a data set of the Hub. One that has the schema is taken as it is. Of others, such as a folder of
    images with `metadata.jsonl`, each row is checked as a [`Record`]: `image`, `person_id`, `caption` or `captions`
    and, where known, `outfit_id`, `camera_id` and the descriptions; further columns are kept.

    Args:
        address: `USER/NAME[@REVISION][/CONFIG]`.

    Raises:
        FileNotFoundError: if there is no such data set or revision, or no access to it.
        ValueError: if the address is none, a file is broken, there is no split of the schema, or a row is not valid.
    """
    source = f"{HUB}:{address}"
    data = download(address, source)
    splits = {SPLIT_NAMES[name]: rows for name, rows in data.items() if name in SPLIT_NAMES}
    if not splits:
        raise ValueError(f"{source} has no split train, validation or test, but {', '.join(data)}: name its files so.")
    has_schema = all(rows.features.get(name) == kind for rows in splits.values() for name, kind in FEATURES.items())
    return DatasetDict(splits) if has_schema else _convert(splits, source)


def download(address: str, source: str, **options) -> Any:
    """
    What `load_dataset` gives for an address.

    Args:
        address: `USER/NAME[@REVISION][/CONFIG]`.
        source: the data set in errors.
        options: of `load_dataset`.

    Raises:
        FileNotFoundError, ValueError: see [`read_hub`].
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{source} is no data set: give hf:USER/NAME, with @REVISION and /CONFIG after it if needed.")
    try:
        return load_dataset(match["repo_id"], match["config"], revision=match["revision"], **options)
    except DatasetNotFoundError:
        raise FileNotFoundError(
            f"{source} is not there, or not for you: check its name and revision, log in by `hf auth login`, and ask "
            "for access on its page if it is gated."
        ) from None
    except Exception as error:  # of the Hub, of the HTTP library and of readers of files, without a common class
        raise ValueError(f"{source} cannot be loaded: {reason_of(error.__cause__ or error)}.") from error


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, without its full stop; the name of its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _convert(splits: Mapping[SplitName, Dataset], source: str) -> DatasetDict:
    for split, rows in splits.items():
        for name in ("image", "person_id"):
            if name not in rows.column_names:
                has = ", ".join(rows.column_names)
                raise ValueError(f"{source}, split {split!r}, has no column `{name}`, but {has}: name it.")
    problems: list[str] = []
    records = [record for split, rows in splits.items() for record in _records(rows, split, source, problems)]
    if problems:
        more = f" There are {len(problems) - 1} more such rows." if len(problems) > 1 else ""
        raise ValueError(problems[0] + more)
    if "validation" not in splits:
        hold_out(records)
    number_ids(records)
    known = {*Record.model_fields, "caption"}
    kept = [rows.remove_columns([name for name in rows.column_names if name in known]) for rows in splits.values()]
    images = concatenate_datasets(kept).cast_column("image", Image())
    joined = concatenate_datasets([images, _columns(records)], axis=1)
    rows_of = {split: [row for row, record in enumerate(records) if record.split == split] for split in SPLITS}
    return DatasetDict({split: joined.select(rows) for split, rows in rows_of.items() if rows})


def _columns(records: list[Record]) -> Dataset:
    """The columns of the schema but the images, and those beyond it that have any value."""
    names = [name for name in COLUMNS if name in FEATURES or any(getattr(one, name) is not None for one in records)]
    features = Features({name: COLUMNS[name] for name in names if name != "image"})
    return Dataset.from_dict({name: [getattr(record, name) for record in records] for name in features}, features)


def _records(rows: Dataset, split: str, source: str, problems: list[str]) -> Iterator[Record]:
    names = _image_names(rows, split)
    plain = rows.select_columns([name for name in rows.column_names if name in {*Record.model_fields, "caption"}])
    for number, (row, name) in enumerate(zip(plain, names, strict=True), 1):
        found = validate({**row, "image": row.get("image_id") or name, "split": split}, Record)
        if isinstance(found, str):
            problems.append(f"{source}, split {split!r}, row {number}: {found}")
        else:
            yield found


def _image_names(rows: Dataset, split: str) -> list[str]:
    """What the images of rows are called: by their files or, if these have no names, by their numbers."""
    stored = rows.cast_column("image", Image(decode=False)).with_format("arrow")["image"]
    paths = pc.struct_field(stored, "path").to_pylist()
    if None in paths or len({*paths}) < len(paths):
        return [f"{split}/{number:06}" for number in range(len(paths))]
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return [f"{split}/{posixpath.relpath(path, folder) if folder else path}" for path in paths]
