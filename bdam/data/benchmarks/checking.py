"""What is wrong with the folder of a benchmark, before it costs anybody a night."""

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
from .records import LOOKALIKES, Listing, Record


# What a check ends with; its index is the exit code.
VERDICTS = ("fit", "fit with warnings", "unfit")
STATES = ("found", "missing", "unreadable")
# The published benchmarks are English: letters of other scripts and pieces of code have strayed into them.
NOT_ENGLISH = re.compile(r"[^ -~‘’“”–—…]|[{}<>\\=_]")
# Places of a finding that people see; programs see all.
SHOWN = {"warning": 3, "error": 20}
# Letters of a place that people see.
LENGTH = 500


class Finding(BaseModel):
    """What was found, and where; an error makes the data unfit."""

    level: Literal["warning", "error"]
    text: str
    places: list[str] = []


class Check(BaseModel):
    """The state of a benchmark: what its splits hold and should hold, its images by sub-folder, what is wrong."""

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
    """Reads annotations, descriptions and every image of `NAME:ROOT`; what is wrong is found, not raised."""
    try:
        name, root = parse_benchmark(source)
        listing = scan_listing(name, root)
    except (ValueError, OSError) as error:
        return Check(source=source, findings=[Finding(level="error", text=str(error))])
    splits, published = _count(listing.records), BENCHMARKS[name].published
    folders, findings = _look_at_images(listing)
    findings = [*_list_problems(listing), *findings, *_compare(splits, published), *_look_at_persons(listing)]
    findings += _look_at_texts(listing, is_english=bool(published))
    held, expected = ({split: counts._asdict() for split, counts in of.items()} for of in (splits, published))
    return Check(source=source, splits=held, published=expected, folders=folders, findings=findings)


def check_tables(check: Check) -> Group:
    """The state of a benchmark for people."""
    splits = Table("split", *Counts._fields, box=SIMPLE)
    for split in check.splits | check.published:
        held = check.splits.get(split, Counts()._asdict())
        pairs = ((held[name], check.published.get(split, held)[name]) for name in Counts._fields)
        splits.add_row(
            split, *(f"{ours:,}" if ours == theirs else f"{ours:,} of {theirs:,}" for ours, theirs in pairs)
        )
    folders = Table("folder", *STATES, box=SIMPLE)
    for folder, counts in check.folders.items():
        folders.add_row(folder, *(f"{counts[state]:,}" for state in STATES))
    lines = []
    for finding in check.findings:
        color = "bold red" if finding.level == "error" else "yellow"
        lines.append(f"[{color}]{finding.level}:[/] {escape(finding.text)}")
        shown = SHOWN[finding.level]
        lines += [f"  {escape(place[:LENGTH])}{'…' * (len(place) > LENGTH)}" for place in finding.places[:shown]]
        lines += [f"  … and {len(finding.places) - shown} more"] if len(finding.places) > shown else []
    return Group(splits, folders, *lines, f"[bold]{check.verdict}:[/] {escape(check.source)}")


def _count(records: list[Record]) -> dict[str, Counts]:
    splits = {split: [record for record in records if record.split == split] for split in SPLITS}
    return {
        split: Counts(len({record.person_id for record in of}), len(of), sum(len(record.captions) for record in of))
        for split, of in splits.items()
        if of
    }


def _list_problems(listing: Listing) -> Iterator[Finding]:
    if problems := listing.problems:
        text = f"{len(problems)} records or files are not as they should be, and were left out."
        yield Finding(level="error", text=text, places=problems)


def _compare(splits: dict[str, Counts], published: dict[str, Counts]) -> Iterator[Finding]:
    for split, expected in published.items():
        held = splits.get(split, Counts())
        if held != expected:
            pairs = zip(Counts._fields, held, expected, strict=True)
            numbers = ", ".join(f"{ours:,} of {theirs:,} {name}" for name, ours, theirs in pairs if ours != theirs)
            text = f"{split} is not as published, so that figures on it compare with nobody's: {numbers}."
            yield Finding(level="warning", text=text)


def _look_at_images(listing: Listing) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Reads every image: how many are in which state, by sub-folder, and what is wrong."""
    images = [record.image_id for record in listing.records]
    folders: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATES, 0))
    places = defaultdict(list)
    with ThreadPoolExecutor() as threads:  # Pillow decodes without holding the interpreter
        looks = threads.map(_look_at, (listing.images / image for image in images))
        progress = track(looks, "Reading images", len(images), console=Console(stderr=True), transient=True)
        for image, (state, reason) in zip(images, progress, strict=True):
            folders[image.partition("/")[0] if "/" in image else "."][state] += 1
            places[state].append(f"{image}{reason}")
    return dict(folders), [
        Finding(
            level="error",
            text=f"{len(places[state])} of {len(images)} images are {state} in {listing.images}: restore them.",
            places=places[state],
        )
        for state in STATES[1:]
        if state in places
    ]


def _look_at(path: Path) -> tuple[str, str]:
    try:
        open_image(path)
    except MissingImageError:
        return "missing", ""
    except ImageError as error:
        return "unreadable", f": {error.reason}"
    return "found", ""


def _look_at_persons(listing: Listing) -> Iterator[Finding]:
    splits, images = defaultdict(set), Counter(record.person_id for record in listing.records)
    for record in listing.records:
        splits[record.person_id].add(str(record.split))
    shared = [f"person {person}: {', '.join(sorted(of))}" for person, of in splits.items() if len(of) > 1]
    yield from _warn("persons are in two splits: what was learned of them is tested on them.", shared)
    lone = [f"person {person}" for person, number in images.items() if number == 1]
    yield from _warn("persons have one image only, which in training pairs with itself.", lone)
    yield from _warn(f"{LOOKALIKES}: write them in one way if they are one.", listing.lookalikes())


def _look_at_texts(listing: Listing, is_english: bool) -> Iterator[Finding]:
    persons, strays, repeated, bare = defaultdict(set), [], [], []
    for record in listing.records:
        for caption in record.captions:
            persons[caption].add(record.person_id)
            if _is_stray(caption, is_english):
                strays.append(f"{record.image_id}: {caption}")
        if len(set(record.captions)) < len(record.captions):
            repeated.append(record.image_id)
        if not record.captions:
            bare.append(record.image_id)
    shared = [f"{len(of)} persons: {caption}" for caption, of in persons.items() if len(of) > 1]
    yield from _warn("captions are given to several persons: no search can tell them apart.", shared)
    yield from _warn("captions hold characters that seem to have strayed in.", strays)
    yield from _warn("images have a caption twice, which counts it twice.", repeated)
    yield from _warn("images have no captions, though others have.", bare if persons else [])
    for kind, images in listing.undescribed().items():
        yield from _warn(f"images have no {kind} in {listing.descriptions}.", images)
    yield from _warn(f"lines of {listing.descriptions} describe unknown images.", listing.unknown_descriptions)


def _is_stray(caption: str, is_english: bool) -> bool:
    text = " ".join(caption.split())
    return bool(NOT_ENGLISH.search(text)) if is_english else not text.isprintable() or "\ufffd" in text


def _warn(text: str, places: list[str]) -> Iterator[Finding]:
    if places:
        yield Finding(level="warning", text=f"{len(places)} {text}", places=places)
