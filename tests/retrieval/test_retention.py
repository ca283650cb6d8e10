"""`bdam prune` forgets old images."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import Dataset
from filelock import FileLock
from PIL import Image
from tiny import SENTENCES

from bdam.retrieval.gallery import Gallery


def date(path: Path, days: float) -> None:
    """Sets the date of a file to so many days ago."""
    modified = time.time() - days * 24 * 60 * 60
    os.utime(path, (modified, modified))


@pytest.fixture
def old(images) -> list[str]:
    """The names of two images of the folder that are forty days old; the others are twenty days old."""
    names = ["camera0/red.png", "camera1/navy.png"]
    for path in images.rglob("*.png"):
        date(path, 40 if path.relative_to(images).as_posix() in names else 20)
    return names


def known(uri: Path, embedder) -> set[str]:
    return set(Gallery.load(uri, embedder).store.states())


@pytest.mark.parametrize("name", ["gallery", "gallery.lancedb", "gallery.db"])
def test_every_store_forgets_what_is_old(bdam, embedder, images, old, tmp_path, name):
    uri = tmp_path / name
    everything = set(Gallery.from_images(embedder, images, uri=uri).store.states())
    code, output = bdam("prune", uri, "--older-than", 50)
    assert code == 0 and f"{name}: 6 images, 0 removed, 0 files deleted." in output and "stay" not in output
    code, output = bdam("prune", uri, "--older-than", 30, "--dry-run")
    assert code == 0 and all(f"would remove {image_id}" in output for image_id in old)
    assert "2 images and 0 files would be removed; nothing was done." in output and known(uri, embedder) == everything
    code, output = bdam("prune", uri, "--older-than", 30)
    assert code == 0 and all(f"removed {image_id}" in output for image_id in old)
    assert "4 images, 2 removed, 0 files deleted." in output and "2 files stay" in output
    assert known(uri, embedder) == everything - {*old} and all((images / image_id).exists() for image_id in old)
    code, output = bdam("prune", uri, "--older-than", 10)
    assert code == 1 and "error: 4 of the 4 images are older than 10 days" in output and "--force" in output
    assert len(known(uri, embedder)) == 4
    code, output = bdam("prune", uri, "--older-than", 10, "--force")
    assert code == 0 and "0 images, 4 removed, 0 files deleted." in output and not known(uri, embedder)


def test_files_are_deleted_where_that_is_wanted(bdam, checkpoint, embedder, images, old, tmp_path):
    """Their lines in `metadata.jsonl` are deleted, too, so that the folder can be indexed again."""
    names = [path.relative_to(images).as_posix() for path in images.rglob("*.png")]
    (images / "metadata.jsonl").write_text("".join(json.dumps({"file_name": name}) + "\n\n" for name in names))
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    prune = ("prune", tmp_path / "gallery", "--older-than", 30, "--delete-files")
    code, output = bdam(*prune, "--dry-run")
    assert code == 0 and "2 images and 2 files would be removed" in output and len([*images.rglob("*.png")]) == 6
    code, output = bdam(*prune)
    assert code == 0 and "4 images, 2 removed, 2 files deleted." in output and "stay" not in output
    left = {path.relative_to(images).as_posix() for path in images.rglob("*.png")}
    assert left == {*names} - {*old} == known(tmp_path / "gallery", embedder)
    code, output = bdam("index", checkpoint, images, tmp_path / "gallery")
    assert code == 0 and "4 images, 0 of them new." in output


@pytest.fixture
def street(bdam, checkpoint, photographs, tmp_path) -> Path:
    """A gallery of the people on two photographs, of which one is old."""
    date(photographs / "north/a.png", 40)
    assert bdam("index", checkpoint, photographs, tmp_path / "street", "--detect", "hog")[0] == 0
    return tmp_path / "street"


def test_crops_are_as_old_as_their_footage_and_do_not_come_back(bdam, checkpoint, embedder, photographs, street):
    crops = street.with_name("street.crops")
    code, output = bdam("prune", street, "--older-than", 30)
    assert code == 0 and "1 images, 1 removed, 1 files deleted." in output and "stay" not in output
    code, output = bdam("index", checkpoint, photographs, street, "--detect", "hog")
    assert code == 0 and "1 images, 0 of them new." in output
    assert known(street, embedder) == {"south/b.png/0001-1.jpg"}
    assert [path.relative_to(crops).as_posix() for path in crops.rglob("*.jpg")] == ["south/b.png/0001-1.jpg"]
    assert (crops / "metadata.jsonl").read_text().count("\n") == 1 and not (crops / "north/a.png").exists()
    assert (photographs / "north/a.png").exists()


def test_only_what_was_cut_out_is_deleted_from_a_folder_of_crops(bdam, checkpoint, street):
    """And only while nobody else writes to it."""
    crops = street.with_name("street.crops")
    Image.new("RGB", (16, 32)).save(crops / "mine.png")
    date(crops / "mine.png", 40)
    with (crops / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "mine.png"}\n')
    assert bdam("index", checkpoint, crops, street)[0] == 0
    before = (crops / "metadata.jsonl").read_text()
    with FileLock(crops / ".footage/lock"):
        code, output = bdam("prune", street, "--older-than", 30, "--force")
    assert code == 1 and "Another run is writing to" in output and (crops / "metadata.jsonl").read_text() == before
    code, output = bdam("prune", street, "--older-than", 30, "--force")
    assert code == 0 and "1 images, 2 removed, 1 files deleted." in output and "1 files stay" in output
    assert (crops / "mine.png").exists()


def test_what_has_no_date_stays_and_is_counted(bdam, embedder, images, old, tmp_path):
    gallery = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    gallery.add(Dataset.from_dict({"image_id": ["a"], "image": [Image.new("RGB", (16, 32))]}))
    (images / old[0]).unlink()
    code, output = bdam("prune", tmp_path / "gallery", "--older-than", 30)
    assert code == 0 and "6 images, 1 removed, 0 files deleted." in output
    assert "1 images have no file any more: `bdam index … --prune` forgets them." in output
    assert "1 images are stored in the gallery, and have no date: they stay." in output
    assert known(tmp_path / "gallery", embedder) >= {old[0], "a"}


def test_indexes_of_vectors_are_forgotten_too(bdam, embedder, images, old, tmp_path):
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    Gallery.load(tmp_path / "gallery", embedder, "hnsw").search(SENTENCES[0])
    assert len([*tmp_path.glob("gallery/*.faiss")]) == 1
    assert bdam("prune", tmp_path / "gallery", "--older-than", 30)[0] == 0
    assert not [*tmp_path.glob("gallery/*.faiss")]


def test_no_optional_requirement_is_needed(embedder, images, old, tmp_path):
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    block = "import sys; sys.modules |= dict.fromkeys(['av', 'cv2', 'norfair', 'gradio', 'faiss']); "
    arguments = ["prune", str(tmp_path / "gallery"), "--older-than", "30"]
    program = f"{block}from bdam import cli; sys.argv[1:] = {arguments}; cli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "4 images, 2 removed" in done.stdout, done.stderr


def test_where_there_is_no_gallery_none_is_made(bdam, tmp_path):
    code, output = bdam("prune", tmp_path / "gallery", "--older-than", 30)
    assert code == 1 and "error: No gallery at" in output and not (tmp_path / "gallery").exists()
