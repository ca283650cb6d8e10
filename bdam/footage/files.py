"""The files of footage: photographs and videos, each with its name and camera."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from bdam.data.images import is_image, list_files


# Endings of containers that FFmpeg reads and cameras, telephones and recorders write.
VIDEOS = frozenset(
    f".{name}"
    for name in (
        "3gp",
        "asf",
        "avi",
        "dav",
        "flv",
        "m2ts",
        "m4v",
        "mkv",
        "mov",
        "mp4",
        "mpeg",
        "mpg",
        "mts",
        "mxf",
        "ogv",
        "ts",
        "vob",
        "webm",
        "wmv",
    )
)


@dataclass(frozen=True)
class FootageFile:
    """
    A photograph or a video.

    Args:
        path: of the file.
        source: its name: the path below the folder of all footage, with `/` between the folders.
        camera: the camera that took it, as [`list_footage`] names it.
    """

    path: Path
    source: str
    camera: str

    @property
    def is_photograph(self) -> bool:
        """Whether the name of the file has the extension of an image."""
        return is_image(self.path)


def list_footage(path: Path) -> list[FootageFile]:
    """
    The photographs and videos of a folder and its subfolders, sorted by path, or the one of a file.

    The camera of a file is the folder that holds it, by its path. What lies in no subfolder was taken by a camera
    of its own name, if it is a video, and by one of the name of the folder, if it is a photograph.

    Raises:
        FileNotFoundError: if there is nothing at the path, or no photograph and no video in the folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"Nothing at {path}: give a photograph, a video or a folder of them.")
    if path.is_file():
        return [_name(path, path.absolute().parent)]
    files = list_files(path, _is_footage, "photographs or videos", "such as JPEG or MP4")
    return [_name(file, path.absolute()) for file in files]


def _is_footage(path: Path) -> bool:
    return is_image(path) or (path.suffix.lower() in VIDEOS and not path.name.startswith("."))


def _name(path: Path, root: Path) -> FootageFile:
    path = path.absolute()
    relative = path.relative_to(root)
    own = root.name if is_image(path) else path.stem
    camera = own if relative.parent == Path() else relative.parent.as_posix()
    source, camera = (unicodedata.normalize("NFC", name) for name in (relative.as_posix(), camera))
    return FootageFile(path, source, camera)
