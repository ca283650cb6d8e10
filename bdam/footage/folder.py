"""The folder that crops are written to, which a run that was killed can go on with."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image

from bdam.data.images import METADATA_FILE, file_stamp
from bdam.data.writing import keep_lines, remove_incomplete_line, write_json, written_whole
from bdam.footage.crops import Box
from bdam.footage.deletion import SOURCES, WORK, acquire, lock_of, read_lines
from bdam.footage.detection import Detection
from bdam.footage.files import FootageFile
from bdam.footage.tracking import SearchedFrame


FRAMES = "frames.jsonl"
QUALITY = 95  # of JPEG files


@dataclass(frozen=True)
class Crop:
    """
    A part of a frame that is kept.

    Args:
        file_name: of its image, below the folder.
        source, camera: of its file, see [`FootageFile`].
        time: see [`Frame`].
        box: the part.
        track: the name of its track.
    """

    file_name: str
    source: str
    time: float
    box: Box
    camera: str
    track: str


class CropFolder:
    """
    A folder of crops, as a context manager: an image folder as `datasets` reads it, JPEG files and `metadata.jsonl`,
    whose rows are those of [`Crop`]. One run at a time writes to it.

    Its hidden folder `.footage` has the settings that the crops were made with; `sources.jsonl`, a line for each file
    that is finished; and `frames.jsonl`, a line for each frame that was searched of the file that is not.

    Args:
        path: of the folder; it is made if there is none.
        settings: which all crops of the folder have in common.

    Raises:
        FileExistsError: on entering, if the folder holds other files.
        ValueError: on entering, if another run is writing to it, or its crops were made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = dict(settings)
        self._work = path / WORK
        self._lock = lock_of(path)
        self._finished: dict[str, dict[str, Any]] = {}
        self._frames: IO[str] | None = None

    def __enter__(self) -> "CropFolder":
        if not self._work.is_dir() and self.path.is_dir() and any(self.path.iterdir()):
            raise FileExistsError(f"{self.path} holds other files and no crops: give a new or an empty folder.")
        self._work.mkdir(parents=True, exist_ok=True)
        acquire(self._lock, self.path)
        try:
            self._check_settings()
            for path in (self.path / METADATA_FILE, self._work / SOURCES, self._work / FRAMES):
                path.touch()
                remove_incomplete_line(path)
        except BaseException:
            self._lock.release()
            raise
        self._finished = {line["source"]: line for line in read_lines(self._work / SOURCES)}
        return self

    def __exit__(self, *_) -> None:
        self._close()
        self._lock.release()

    def find_unfinished(self, files: Iterable[FootageFile]) -> list[FootageFile]:
        """
        The files that are not finished, or have changed since.

        Raises:
            ValueError: if a file has the name of another one that still exists.
        """
        unfinished = []
        for file in files:
            known = self._finished.get(file.source)
            if known and known["stamp"] == file_stamp(file.path):
                continue
            if known and known["path"] != str(file.path) and Path(known["path"]).exists():
                raise ValueError(
                    f"Both {known['path']} and {file.path} are named {file.source}: give a folder that holds both, or "
                    "another folder for the crops."
                )
            unfinished.append(file)
        return unfinished

    def remove_rows(self, unfinished: Iterable[FootageFile]) -> None:
        """Removes the rows of files that are not finished, which a killed run or an earlier content has left."""
        finished = self._finished.keys() - {file.source for file in unfinished}
        keep_lines(self.path / METADATA_FILE, lambda row: row["source"] in finished)

    def begin(self, file: FootageFile) -> list[SearchedFrame]:
        """Begins a file, or goes on with it; returns the frames that an earlier run has searched."""
        self._close()
        path, header = self._work / FRAMES, _header(file)
        lines = read_lines(path)
        if lines[:1] != [header]:
            lines = [header]
            with written_whole(path) as aside:
                aside.write_text(_to_line(header), encoding="utf-8")
        self._frames = path.open("a", encoding="utf-8")
        return [_to_frame(line) for line in lines[1:]]

    def add(self, frame: SearchedFrame) -> None:
        """Notes a frame that was searched. Once this returns, it stays even if the process is killed."""
        assert self._frames is not None, "begin a file first"
        self._frames.write(_to_line(asdict(frame)))
        self._frames.flush()

    def finish(self, file: FootageFile, crops: Iterable[tuple[Crop, Image.Image]]) -> int:
        """
        Writes the crops of a file, with their rows, and notes that it is finished; returns how many there are. If
        this is interrupted, the next run does it again. The crops are dated as the file is.
        """
        folder, aside, rows = self.path / file.source, self._work / "crops", []
        modified = file.path.stat().st_mtime_ns
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for crop, image in crops:
            path = aside / Path(crop.file_name).name
            image.save(path, "JPEG", quality=QUALITY)
            os.utime(path, ns=(modified, modified))
            rows.append(asdict(crop))
        shutil.rmtree(folder, ignore_errors=True)
        if rows:
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(folder)
        _append(self.path / METADATA_FILE, rows)
        _append(self._work / SOURCES, [_header(file)])
        return len(rows)

    def _close(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    def _check_settings(self) -> None:
        path = self._work / "settings.json"
        if not any(note.is_file() and note.stat().st_size for note in (self._work / SOURCES, self._work / FRAMES)):
            write_json(path, self.settings)  # nothing was searched with others
        known = json.loads(path.read_text(encoding="utf-8"))
        others = [f"{name} {value}" for name, value in known.items() if self.settings.get(name) != value]
        if others:
            raise ValueError(f"{self.path} was made with {', '.join(others)}: use that, or give another folder.")


def _header(file: FootageFile) -> dict[str, str]:
    return {"source": file.source, "path": str(file.path), "stamp": file_stamp(file.path)}


def _to_frame(line: dict[str, Any]) -> SearchedFrame:
    people = [Detection(*person) for person in line["people"]]
    return SearchedFrame(line["number"], line["time"], tuple(line["size"]), people)


def _to_line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _append(path: Path, values: Iterable[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(map(_to_line, values)))
