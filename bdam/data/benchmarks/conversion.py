"""Converts the records of a benchmark into rows of the schema."""

import logging
import posixpath
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from random import Random

from datasets import Dataset, DatasetDict, DatasetInfo, Features

from bdam.data.images import find_image, open_images
from bdam.data.schema import AGREEMENT_FEATURES, SPLITS, choose_split

from .catalogue import BENCHMARKS, read_listing
from .records import SIMILAR_IDS, Listing, Record


logger = logging.getLogger(__name__)


def load_benchmark(name: str, root: str | Path, split: str | None = None) -> DatasetDict | Dataset:
    """
    The rows of a benchmark: all splits, or one.

    Persons keep the numbers of the annotations; if one of them has a name, all get new numbers. `123` is a number;
    `0123`, `1_23` and `12.0` are names. Ids that differ only in spelling are different persons, and a warning lists
    them. If there is no validation split, [`hold_out`] makes one, and `info.description` of each split says so. An
    image is opened when its row is read; `bdam data check NAME:ROOT` reads all of them.

    Args:
        name: a key of `BENCHMARKS`. `own` is a folder of images with `metadata.jsonl` or `.csv`, as the `imagefolder`
            of `datasets` has it, whose fields are `file_name`, `person_id`, `caption` or `captions` and, optionally,
            `outfit_id`, `camera_id`, `split` and the descriptions.
        root: the folder that the benchmark was unpacked to.
        split: `train`, `validation` or `test`; by default all.

    Returns:
        Rows with the columns of `FEATURES` or, for benchmarks with changed clothes, `CLOTHES_CHANGED_FEATURES`.

    Raises:
        FileNotFoundError: if the root does not exist, or has no annotations or images of this benchmark.
        ValueError: if a record is not valid, naming the file, the record and the remedy; or there is no such split.

    Example:

    ```python
    >>> from bdam.data.benchmarks import load_benchmark
    >>> load_benchmark("own", "images", "test")[0]["captions"]
    ['...']
    ```
    """
    source = f"{name}:{root}"
    data = open_images(read_rows(name, root), source)
    return data if split is None else choose_split(data, split, source)


def read_rows(name: str, root: str | Path) -> DatasetDict:
    """All splits of a benchmark, as [`load_benchmark`] returns them, but with images decoded by `datasets`."""
    description = f"{name}:{root}"
    listing = read_listing(name, root)
    _warn(listing, description)
    records = listing.records
    if all(record.split != "validation" for record in records) and (persons := hold_out(records)):
        description += f", without a validation split of its own: {persons} persons of train were held out by seed 0"
    number_ids(records)
    rows = {split: [record for record in records if record.split == split] for split in SPLITS}
    features = BENCHMARKS[name].features
    if any(getattr(record, column) for record in records for column in AGREEMENT_FEATURES):
        features = Features({**features, **AGREEMENT_FEATURES})
    info = DatasetInfo(dataset_name=name, description=description, features=features)
    return DatasetDict({split: _to_dataset(rows[split], listing.images, info) for split in SPLITS if rows[split]})


def hold_out(records: list[Record], max_persons: int = 200, seed: int = 0) -> int:
    """
    The number of persons that were moved from train to validation: a tenth of train, but at most `max_persons`. Models
    are selected on these, never on test.
    """
    persons = sorted({record.person_id for record in records if record.split == "train"}, key=str)
    held_out = set(Random(seed).sample(persons, min(len(persons) // 10, max_persons)))
    for record in records:
        if record.split == "train" and record.person_id in held_out:
            record.split = "validation"
    return len(held_out)


def number_ids(records: list[Record]) -> None:
    """Gives numbers to persons if any of them has a name, and to outfits, which then differ between persons."""
    if not all(isinstance(record.person_id, int) for record in records):
        persons = _numbers(record.person_id for record in records)
        for record in records:
            record.person_id = persons[record.person_id]
    outfits = _numbers((record.person_id, record.outfit_id) for record in records)
    for record in records:
        record.outfit_id = None if record.outfit_id is None else outfits[record.person_id, record.outfit_id]


def _numbers(values: Iterable[Hashable]) -> dict[Hashable, int]:
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _to_dataset(records: list[Record], images: Path, info: DatasetInfo) -> Dataset:
    columns = {name: [getattr(record, name) for record in records] for name in info.features if name != "image"}
    columns["image"] = [f"{images}/{image}" for image in columns["image_id"]]
    return Dataset.from_dict(columns, info=info)


def _warn(listing: Listing, source: str) -> None:
    """Warns of missing folders of images, ids that differ only in spelling, and missing descriptions."""
    records, images, path = listing.records, listing.images, listing.descriptions
    folders = Counter(posixpath.dirname(record.image_id) for record in records)
    firsts = {posixpath.dirname(record.image_id): images / record.image_id for record in reversed(records)}
    gone = [folder for folder in folders if not (images / folder).is_dir()]
    # The name of a folder may have another Unicode form on disk.
    if missing := [folder for folder in gone if not find_image(firsts[folder]).is_file()]:
        count, names = sum(folders[folder] for folder in missing), ", ".join(missing[:7])
        logger.warning(
            f"{source}: {count} of {len(records)} images are missing, their folders not in {images}: {names}."
        )
    if groups := listing.similar_ids():
        logger.warning(f"{source}: {len(groups)} {SIMILAR_IDS}, the first: {groups[0]}.")
    for kind, undescribed in listing.undescribed().items():
        if undescribed:
            logger.warning(f"{path}: {len(undescribed)} of {len(records)} images have no {kind}.")
    if unknown := listing.unknown_descriptions:
        logger.warning(f"{path}: {len(unknown)} lines describe unknown images, the first on {unknown[0]}.")
