"""The benchmarks: the layout of each, and what its authors publish about it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets import Features

from bdam.data.images import METADATA_FILE
from bdam.data.schema import CLOTHES_CHANGED_FEATURES, FEATURES

from .annotations import AnnotationFiles
from .composed import ComposedFiles
from .descriptions import join_descriptions
from .files import refuse
from .records import Listing, Record
from .trees import ImageTree, ltcc, prcc, vc_clothes


class Counts(NamedTuple):
    """Numbers of persons, images and captions."""

    persons: int = 0
    images: int = 0
    captions: int = 0


@dataclass(frozen=True)
class Benchmark:
    """
    A benchmark.

    Args:
        layout: finds and reads its records.
        published: the counts that its authors publish, by split; by default none, and none are checked.
        features: the columns of its rows; by default `FEATURES`.
        single_shots: the number of random galleries with one image per person that its official protocol averages
            over; 0 (default) if the gallery has all images.
        is_composed: whether its queries are images with captions of other clothes.
    """

    layout: AnnotationFiles | ComposedFiles | ImageTree
    published: dict[str, Counts] = field(default_factory=dict)
    features: Features = field(default_factory=lambda: FEATURES)
    single_shots: int = 0
    is_composed: bool = False


BENCHMARKS = {
    # Li et al. 2017.
    "cuhk-pedes": Benchmark(
        AnnotationFiles(("reid_raw.json",), prefix="cuhk"),
        {
            "train": Counts(11003, 34054, 68126),
            "validation": Counts(1000, 3078, 6158),
            "test": Counts(1000, 3074, 6156),
        },
    ),
    # Ding et al. 2021; it has no validation split.
    "icfg-pedes": Benchmark(
        AnnotationFiles(("ICFG-PEDES.json", "ICFG_PEDES.json"), prefix="icfg"),
        {"train": Counts(3102, 34674, 34674), "test": Counts(1000, 19848, 19848)},
    ),
    # Zhu et al. 2021.
    "rstpreid": Benchmark(
        AnnotationFiles(("data_captions.json",), prefix="rstp"),
        {
            "train": Counts(3701, 18505, 37010),
            "validation": Counts(200, 1000, 2000),
            "test": Counts(200, 1000, 2000),
        },
    ),
    "own": Benchmark(
        AnnotationFiles((METADATA_FILE, "metadata.csv", "annotations.jsonl", "annotations.csv"), model=Record)
    ),
    "itcpr": Benchmark(ComposedFiles(), features=CLOTHES_CHANGED_FEATURES, is_composed=True),
    "prcc": Benchmark(ImageTree(prcc, "rgb"), features=CLOTHES_CHANGED_FEATURES, single_shots=10),
    "ltcc": Benchmark(ImageTree(ltcc), features=CLOTHES_CHANGED_FEATURES),
    "vc-clothes": Benchmark(ImageTree(vc_clothes), features=CLOTHES_CHANGED_FEATURES),
}


def parse_benchmark(source: str) -> tuple[str, str]:
    """
    The name and the root of a benchmark that is written as `NAME:ROOT`.

    Raises:
        ValueError: if `source` is written otherwise, or there is no such benchmark.
    """
    name, _, root = source.partition(":")
    if name not in BENCHMARKS or not root:
        raise ValueError(f"{source} is no benchmark: give NAME:ROOT, where NAME is one of {', '.join(BENCHMARKS)}.")
    return name, root


def read_listing(name: str, root: str | Path) -> Listing:
    """
    The records of a benchmark, from its annotations and descriptions. Images are not opened.

    Args:
        name: a key of `BENCHMARKS`.
        root: the folder that the benchmark was unpacked to.

    Raises:
        FileNotFoundError: if the root does not exist, or has no annotations or images of this benchmark.
        ValueError: if a record is not valid, naming the first such file and record, the remedy, and the number of
            others.
    """
    listing = scan_listing(name, root)
    refuse(listing.problems, f"{name}:{root}")
    return listing


def scan_listing(name: str, root: str | Path) -> Listing:
    """
    The valid records of a benchmark; those that are not valid are described in `problems` of the listing.

    Args:
        name: a key of `BENCHMARKS`.
        root: the folder that the benchmark was unpacked to.

    Raises:
        FileNotFoundError: if the root does not exist, or has no annotations or images of this benchmark.
        ValueError: if there is no such benchmark, or its annotations have no splits.
    """
    name, folder = parse_benchmark(f"{name}:{root}")[0], Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {folder}: give the one that {name} was unpacked to.")
    listing = BENCHMARKS[name].layout.read(folder)
    join_descriptions(listing)
    return listing
