"""Checks the folder of a benchmark: its counts, images, persons and captions."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, computed_field
from rich.box import SIMPLE
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from bdam.data.images import ImageError, MissingImageError, open_image
from bdam.data.schema import SPLITS

from .catalogue import BENCHMARKS, Counts, parse_benchmark, scan_listing
from .records import SIMILAR_IDS, Listing, Record


# The results of a check; the index is the exit code.
VERDICTS = ("fit", "fit with warnings", "unfit")
STATES = ("found", "missing", "unreadable")
# Characters that English captions do not have: letters of other scripts, and pieces of code.
NOT_ENGLISH = re.compile(r"[^ -~‘’“”–—…]|[{}<>\\=_]")
# Details of a finding that the tables show; the JSON file has all.
SHOWN = {"warning": 3, "error": 20}
# Characters of a detail that the tables show.
LENGTH = 500


class Finding(BaseModel):
    """
    One result of a check.

    Args:
        level: an error makes the data unfit, a warning does not.
        text: a sentence with a number and, where there is one, the remedy.
        details: the images, persons, captions or records that it is about.
    """

    level: Literal["warning", "error"]
    text: str
    details: list[str] = []


class Check(BaseModel):
    """
    The result of checking a benchmark.

    Args:
        source: the benchmark, as `NAME:ROOT`.
        splits: numbers of persons, images and captions, by split.
        published: the numbers that the authors publish, by split.
        folders: numbers of images that are found, missing and unreadable, by folder.
        findings: what is wrong.
    """

    source: str
    splits: dict[str, dict[str, int]] = {}
    published: dict[str, dict[str, int]] = {}
    folders: dict[str, dict[str, int]] = {}
    findings: list[Finding] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> str:
        levels = {finding.level for finding in self.findings}
        return VERDICTS[2 if "error" in levels else len(levels)]


def check_benchmark(source: str) -> Check:
    """
    The state of a benchmark, from its annotations, its descriptions and every image. Errors become findings.

    Args:
        source: the benchmark, as `NAME:ROOT`.
    """
    try:
        name, root = parse_benchmark(source)
        listing = scan_listing(name, root)
    except (ValueError, OSError) as error:
        return Check(source=source, findings=[Finding(level="error", text=str(error))])
    splits, published = _count(listing.records), BENCHMARKS[name].published
    folders, image_findings = _check_images(listing)
    return Check(
        source=source,
        splits={split: counts._asdict() for split, counts in splits.items()},
        published={split: counts._asdict() for split, counts in published.items()},
        folders=folders,
        findings=[
            *_list_problems(listing),
            *image_findings,
            *_compare_counts(splits, published),
            *_check_persons(listing),
            *_check_captions(listing, is_english=bool(published)),
            *_check_descriptions(listing),
        ],
    )


def check_tables(check: Check) -> Group:
    """The tables and lines that show a check in a terminal."""
    splits = Table("split", *Counts._fields, box=SIMPLE)
    for split in check.splits | check.published:
        found = check.splits.get(split, Counts()._asdict())
        expected = check.published.get(split, found)
        pairs = ((found[name], expected[name]) for name in Counts._fields)
        splits.add_row(split, *(f"{count:,}" if count == of else f"{count:,} of {of:,}" for count, of in pairs))
    folders = Table("folder", *STATES, box=SIMPLE)
    for folder, counts in check.folders.items():
        folders.add_row(folder, *(f"{counts[state]:,}" for state in STATES))
    lines = []
    for finding in check.findings:
        color = "bold red" if finding.level == "error" else "yellow"
        lines.append(f"[{color}]{finding.level}:[/] {escape(finding.text)}")
        shown = SHOWN[finding.level]
        lines += [f"  {escape(detail[:LENGTH])}{'…' * (len(detail) > LENGTH)}" for detail in finding.details[:shown]]
        lines += [f"  … and {len(finding.details) - shown} more"] if len(finding.details) > shown else []
    tables = [table for table in (splits, folders) if table.row_count]
    return Group(*tables, *lines, f"[bold]{check.verdict}:[/] {escape(check.source)}")


def _count(records: list[Record]) -> dict[str, Counts]:
    counts = {}
    for split in SPLITS:
        if images := [record for record in records if record.split == split]:
            persons = {record.person_id for record in images}
            counts[split] = Counts(len(persons), len(images), sum(len(record.captions) for record in images))
    return counts


def _list_problems(listing: Listing) -> Iterator[Finding]:
    if problems := listing.problems:
        text = f"{len(problems)} records or files are not valid, and were left out."
        yield Finding(level="error", text=text, details=problems)


def _compare_counts(splits: dict[str, Counts], published: dict[str, Counts]) -> Iterator[Finding]:
    for split, expected in published.items():
        found = splits.get(split, Counts())
        if found != expected:
            pairs = zip(Counts._fields, found, expected, strict=True)
            numbers = ", ".join(f"{count:,} of {of:,} {name}" for name, count, of in pairs if count != of)
            text = f"{split} is not as published, so that results on it compare with no others: {numbers}."
            yield Finding(level="warning", text=text)


def _check_images(listing: Listing) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Numbers of images in each state, by folder, and what is wrong; every image is read."""
    images = [record.image_id for record in listing.records]
    folders: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATES, 0))
    details = defaultdict(list)
    with ThreadPoolExecutor() as threads:  # Pillow decodes without holding the interpreter
        states = threads.map(_image_state, (listing.images / image for image in images))
        progress = track(states, "Reading images", len(images), console=Console(stderr=True), transient=True)
        for image, (state, reason) in zip(images, progress, strict=True):
            folders[image.partition("/")[0] if "/" in image else "."][state] += 1
            details[state].append(f"{image}{reason}")
    return dict(folders), [
        Finding(
            level="error",
            text=f"{len(details[state])} of {len(images)} images are {state} in {listing.images}: restore them.",
            details=details[state],
        )
        for state in STATES[1:]
        if state in details
    ]


def _image_state(path: Path) -> tuple[str, str]:
    """One of `STATES`, and why an image is unreadable."""
    try:
        open_image(path)
    except MissingImageError:
        return "missing", ""
    except ImageError as error:
        return "unreadable", f": {error.reason}"
    return "found", ""


def _check_persons(listing: Listing) -> Iterator[Finding]:
    splits = defaultdict(set)
    num_images = Counter(record.person_id for record in listing.records)
    for record in listing.records:
        splits[record.person_id].add(str(record.split))
    shared = [f"person {person}: {', '.join(sorted(names))}" for person, names in splits.items() if len(names) > 1]
    yield from _warn("persons are in two splits: a model is tested on persons that it was trained on.", shared)
    single = [f"person {person}" for person, number in num_images.items() if number == 1]
    yield from _warn("persons have one image only, which in training is its own positive.", single)
    yield from _warn(f"{SIMILAR_IDS}: if they mean the same, spell them the same.", listing.similar_ids())


def _check_captions(listing: Listing, is_english: bool) -> Iterator[Finding]:
    persons, unusual, repeated, without = defaultdict(set), [], [], []
    for record in listing.records:
        for caption in record.captions:
            persons[caption].add(record.person_id)
            if _is_unusual(caption, is_english):
                unusual.append(f"{record.image_id}: {caption}")
        if len(set(record.captions)) < len(record.captions):
            repeated.append(record.image_id)
        if not record.captions:
            without.append(record.image_id)
    shared = [f"{len(ids)} persons: {caption}" for caption, ids in persons.items() if len(ids) > 1]
    yield from _warn("captions are given to several persons: no search can distinguish these.", shared)
    yield from _warn("captions hold characters that captions usually do not have.", unusual)
    yield from _warn("images have a caption twice, which counts it twice.", repeated)
    yield from _warn("images have no captions, though others have.", without if persons else [])


def _is_unusual(caption: str, is_english: bool) -> bool:
    text = " ".join(caption.split())
    return bool(NOT_ENGLISH.search(text)) if is_english else not text.isprintable() or "\ufffd" in text


def _check_descriptions(listing: Listing) -> Iterator[Finding]:
    for kind, images in listing.undescribed().items():
        yield from _warn(f"images have no {kind} in {listing.descriptions}.", images)
    yield from _warn(f"lines of {listing.descriptions} describe unknown images.", listing.unknown_descriptions)


def _warn(text: str, details: list[str]) -> Iterator[Finding]:
    if details:
        yield Finding(level="warning", text=f"{len(details)} {text}", details=details)
