"""The files of a gallery in a folder: a Parquet file for each addition, and `gallery.json`, its embedding space."""

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Features, Image, List, Value

from bdam.data.writing import PARTIAL, written_whole
from bdam.retrieval.rows import ROW
from bdam.retrieval.stores.base import EmbeddingSpace
from bdam.retrieval.stores.columns import to_column, to_vectors
from bdam.retrieval.stores.indexes import remove_indexes


ABOUT = "gallery.json"


class Parts:
    """
    The files of a gallery: `part-NUMBER-….parquet`, which `datasets.load_dataset("parquet", …)` reads, too, and
    `gallery.json`.

    Args:
        folder: of the files.
        space: of the vectors that will be added. Default: that of the gallery, which must exist.

    Raises:
        FileNotFoundError: if there is no gallery, and no `space`.
        FileExistsError: if the folder holds other files.
        ValueError: if the vectors of the gallery are of another space.
    """

    def __init__(self, folder: Path, space: EmbeddingSpace | None = None):
        self.folder = folder
        if is_gallery(folder):
            self.space = _read_about(folder / ABOUT)
            if space is not None:
                self.space.check(space, str(folder))
        elif space is None:
            raise FileNotFoundError(f"No gallery at {folder}: make one with `bdam index MODEL IMAGES {folder}`.")
        else:
            self.space = space
            _check_is_free(folder)

    def paths(self) -> list[Path]:
        """The Parquet files, in the order in which they were added."""
        return sorted(self.folder.glob("part-*.parquet"))

    def write(self, rows: pa.Table, vectors: torch.Tensor) -> Path:
        """
        Writes a file of rows with their vectors, all or none; returns its path. Processes may write at the same time.

        Args:
            rows: N rows, see [`Store.add`].
            vectors: (N, D), float32.
        """
        if not is_gallery(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(self.folder / ABOUT) as aside:
                aside.write_text(json.dumps(asdict(self.space), indent=1) + "\n", encoding="utf-8")
        stored = {"image": Image(), "vector": List(Value("float32"), vectors.shape[1])}
        features = Features({**Features.from_arrow_schema(rows.schema), **ROW, **stored})
        table = rows.append_column("vector", to_column(vectors)).cast(features.arrow_schema)
        number = 1 + max((int(path.name.split("-")[1]) for path in self.paths()), default=0)
        path = self.folder / f"part-{number:06d}-{uuid4().hex[:8]}.parquet"
        _write(path, table)
        return path

    def read(self, path: Path, whole: bool = False) -> tuple[pa.Table, torch.Tensor]:
        """
        The rows of a file, and their vectors (N, D).

        Args:
            path: of the file.
            whole: whether to read the column `image`. Otherwise the rows have the `path` of the image, and `part`, the
                name of the file.

        Raises:
            ValueError: if the file is damaged.
        """
        try:
            names = pq.read_schema(path).names
            columns = names if whole else [*(name for name in names if name != "image"), "image.path"]
            table = pq.read_table(path, columns=columns)
            vectors = to_vectors(table["vector"])
            rows = table.drop_columns("vector")
            if not whole:
                rows = rows.append_column("part", pa.array([path.name] * len(rows)))
            return rows, vectors
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete it, then index again; only its images are embedded again."
            ) from error

    def read_image(self, part: str, name: str) -> bytes:
        """The bytes of the image of this id in the file of this name."""
        table = pq.ParquetFile(self.folder / part, memory_map=True).read(["image_id", "image"])
        return table["image"][pc.index(table["image_id"], name).as_py()].as_py()["bytes"]

    def remove(self, names: Collection[str]) -> None:
        """Removes images: writes the files that hold them again, without them, and deletes the indexes of vectors."""
        gone = pa.array(list(names), pa.string())
        for path in self.paths():
            if not pc.any(pc.is_in(pq.read_table(path, columns=["image_id"])["image_id"], gone)).as_py():
                continue
            remove_indexes(self.folder)
            table = pq.read_table(path)
            table = table.filter(pc.invert(pc.is_in(table["image_id"], gone)))
            if len(table):
                _write(path, table)
            else:
                path.unlink()


def is_gallery(folder: Path) -> bool:
    """Whether a folder holds a gallery."""
    return (folder / ABOUT).is_file()


def _check_is_free(folder: Path) -> None:
    """
    Checks that a new gallery can be made in a folder.

    Raises:
        FileExistsError: if it holds other files, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: give a folder for the gallery.")
    if folder.is_dir() and any(not path.name.endswith(PARTIAL) for path in folder.iterdir()):
        raise FileExistsError(f"{folder} holds other files and no gallery: give a new or an empty folder.")


def _write(path: Path, table: pa.Table) -> None:
    with written_whole(path) as aside:
        pq.write_table(table, aside, compression="none")


def _read_about(path: Path) -> EmbeddingSpace:
    try:
        return EmbeddingSpace(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete the folder, and index again.") from error
