"""Benchmarks whose pictures are listed in annotation files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import read_file
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
        names = ", ".join(map(str, files))
        records = join_records((record for file in files.items() for record in self._read_file(*file)), names)
        if not records:
            raise ValueError(f"{names}: no records: download or write it again.")
        pictures = root / "imgs" if (root / "imgs").is_dir() else root
        return Listing(records, pictures, next(iter(files)).parent / "descriptions.jsonl")

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

    def _read_file(self, path: Path, split: Split | None) -> Iterator[Record]:
        splits = set()
        for place, record in read_file(path, self.model):
            record.split = split or record.split
            splits.add(record.split)
            if self.prefix and record.split is None:
                raise ValueError(f"{path}, {place} {NO_SPLITS}: get {self.names[0]} as it was published.")
            if None in splits and len(splits) > 1:
                raise ValueError(f"{path}, {place}: only some records have a `split`: give it to all, or to none.")
            record.split = record.split or "train"
            yield record

    def _not_found(self, root: Path) -> Exception:
        for path in (root / folder / "caption_all.json" for folder in FOLDERS):
            if path.is_file():
                return ValueError(
                    f"{path} {NO_SPLITS}: put {self.names[0]} beside it, which has the official ones and is linked "
                    "from https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description."
                )
        near = [root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
        meant = next((f" Did you mean {folder}?" for folder in near if self._find(folder)), "")
        return FileNotFoundError(f"{root} holds no {' or '.join(self.names)}, which lists the pictures.{meant}")
