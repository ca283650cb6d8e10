"""Benchmarks whose images are listed in annotation files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bdam.data.descriptions import DESCRIPTIONS_FILE

from .files import scan_file
from .records import CaptionedRecord, Listing, Record, Split, join_records


# Where annotation files lie, below the root, and what the files of single splits are called.
FOLDERS = ("", "annotations", "processed_data", "finetune")
SPLIT_FILES: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
NO_SPLITS = "has no `split`, and numbers on invented splits compare with nobody's"


@dataclass(frozen=True)
class AnnotationFiles:
    """
    Args:
        names: what the file with all splits may be called.
        prefix: what the file with one split may be called, besides `train.json` and `train_reid.json`:
            `PREFIX_train.json`. None: splits are no files, and may be missing.
        model: what its records must look like.
    """

    names: tuple[str, ...]
    prefix: str | None = None
    model: type[Record] = CaptionedRecord

    def read(self, root: Path) -> Listing:
        files = self._find(root)
        if not files:
            raise self._not_found(root)
        problems: list[str] = []
        records = join_records(
            (found for path, split in files.items() for found in self._scan_file(path, split, problems)), problems
        )
        if not records and not problems:
            problems.append(f"{', '.join(map(str, files))}: no records: download or write it again.")
        images = root / "imgs" if (root / "imgs").is_dir() else root
        return Listing(records, images, next(iter(files)).parent / DESCRIPTIONS_FILE, problems)

    def _find(self, root: Path) -> dict[Path, Split | None]:
        """Files, each with the split that its name tells; None where its records tell."""
        folders = [root / folder for folder in FOLDERS]
        for path in (folder / name for folder in folders for name in self.names):
            if path.is_file():
                return {path: None}
        patterns = ("{}.json", "{}_reid.json", f"{self.prefix}_{{}}.json") if self.prefix else ()
        for folder, pattern in ((folder, pattern) for folder in folders for pattern in patterns):
            files = {folder / pattern.format(name): split for name, split in SPLIT_FILES.items()}
            if any(path.is_file() for path in files):
                return {path: split for path, split in files.items() if path.is_file()}
        return {}

    def _scan_file(self, path: Path, split: Split | None, problems: list[str]) -> Iterator[tuple[str, Record]]:
        """
        Yields the records of a file, each with its place. Where no record names a split, all belong to train; a split
        that only some of them name is a problem.
        """
        records = list(scan_file(path, self.model, problems))
        has_splits = any(record.split for _, record in records)
        for place, record in records:
            record.split = split or record.split
            if record.split is None and self.prefix:
                problems.append(f"{path}, {place} {NO_SPLITS}: get {self.names[0]} as it was published.")
            elif record.split is None and has_splits:
                problems.append(f"{path}, {place}: only some records have a `split`: give it to all, or to none.")
            else:
                record.split = record.split or "train"
                yield f"{path}, {place}", record

    def _not_found(self, root: Path) -> Exception:
        for path in (root / folder / "caption_all.json" for folder in FOLDERS):
            if path.is_file():
                return ValueError(
                    f"{path} {NO_SPLITS}: put {self.names[0]} beside it, which has the official ones and is linked "
                    "from https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description."
                )
        near = [root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
        meant = next((f" Did you mean {folder}?" for folder in near if self._find(folder)), "")
        return FileNotFoundError(f"{root} holds no {' or '.join(self.names)}, which lists the images.{meant}")
