"""Benchmarks whose images are listed in annotation files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bdam.data.descriptions import DESCRIPTIONS_FILE

from .files import scan_file
from .records import SPLIT_NAMES, CaptionedRecord, Listing, Record, Split, join_records


# Folders below the root that may hold annotation files, and the names of files with one split.
FOLDERS = ("", "annotations", "processed_data", "finetune")
SPLIT_FILES: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
NO_SPLITS = "has no `split`, and results on made-up splits compare with no others"


@dataclass(frozen=True)
class AnnotationFiles:
    """
    A layout in which annotation files list the images.

    Args:
        names: the names that a file with all splits may have.
        prefix: a file with one split may be named `PREFIX_train.json`, besides `train.json` and `train_reid.json`.
            None (default): each split may have a folder with a file of its own, as the `imagefolder` of `datasets`
            has it, and records need no split: it is that of their folder, otherwise train.
        model: the class of the records.
    """

    names: tuple[str, ...]
    prefix: str | None = None
    model: type[Record] = CaptionedRecord

    def read(self, root: Path) -> Listing:
        """
        The records below `root`; those that are not valid are left out and described in `problems`.

        Raises:
            FileNotFoundError: if there is no annotation file.
            ValueError: if there is only the file of CUHK-PEDES that has no splits.
        """
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
        folder = next(iter(files)).parent
        is_of_split = self.prefix is None and folder.name in SPLIT_NAMES
        return Listing(records, images, (root if is_of_split else folder) / DESCRIPTIONS_FILE, problems)

    def _find(self, root: Path) -> dict[Path, Split | None]:
        """The annotation files, each with the split in its name; None where the records have the split."""
        folders = [root / folder for folder in FOLDERS]
        for path in (folder / name for folder in folders for name in self.names):
            if path.is_file():
                return {path: None}
        if self.prefix is None:
            paths = {root / name / file: split for name, split in SPLIT_NAMES.items() for file in self.names}
            return {path: split for path, split in paths.items() if path.is_file()}
        patterns = ("{}.json", "{}_reid.json", f"{self.prefix}_{{}}.json")
        for folder, pattern in ((folder, pattern) for folder in folders for pattern in patterns):
            files = {folder / pattern.format(name): split for name, split in SPLIT_FILES.items()}
            if any(path.is_file() for path in files):
                return {path: split for path, split in files.items() if path.is_file()}
        return {}

    def _scan_file(self, path: Path, split: Split | None, problems: list[str]) -> Iterator[tuple[str, Record]]:
        """
        Yields the records of a file, each with its location. If no record has a split, it is that of their folders;
        if only some have one, the others are problems.
        """
        records = list(scan_file(path, self.model, problems))
        has_splits = any(record.split for _, record in records)
        for location, record in records:
            if split and self.prefix is None:
                record.image_id = f"{path.parent.name}/{record.image_id}"
            record.split = split or record.split
            if record.split is None and self.prefix:
                problems.append(f"{path}, {location} {NO_SPLITS}: get {self.names[0]} as it was published.")
            elif record.split is None and has_splits:
                problems.append(f"{path}, {location}: only some records have a `split`: give it to all, or to none.")
            else:
                record.split = record.split or SPLIT_NAMES.get(record.image_id.partition("/")[0], "train")
                yield f"{path}, {location}", record

    def _not_found(self, root: Path) -> Exception:
        for path in (root / folder / "caption_all.json" for folder in FOLDERS):
            if path.is_file():
                return ValueError(
                    f"{path} {NO_SPLITS}: put {self.names[0]} next to it, which has the official ones and is linked "
                    "from https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description."
                )
        near = [root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
        suggestion = next((f" Did you mean {folder}?" for folder in near if self._find(folder)), "")
        return FileNotFoundError(f"{root} holds no {' or '.join(self.names)}, which lists the images.{suggestion}")
