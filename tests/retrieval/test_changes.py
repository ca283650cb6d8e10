"""Galleries and images that change, move, break or go away between two runs of `bdam index`."""

import os
import shutil
import unicodedata

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import COLOURS, SENTENCES

from bdam.retrieval.gallery import Gallery
from bdam.retrieval.sources import open_source


def paint(path, colour: str, size: tuple[int, int] = (16, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def colour_of(gallery: Gallery, name: str) -> tuple[int, ...]:
    return gallery.image(name).getpixel((0, 0))


def vectors(gallery: Gallery) -> dict[str, torch.Tensor]:
    return {stored.image_id: stored.vector for stored in gallery.store.find(list(gallery.store.states()))}


@pytest.fixture
def gallery(embedder, images, tmp_path) -> Gallery:
    return Gallery.from_images(embedder, images, uri=tmp_path / "gallery")


class Unused:
    """Stands for the image encoder, and fails if it is called."""

    def __call__(self, *arguments, **options):
        raise AssertionError("embedded again")


def test_a_file_that_was_replaced_is_embedded_again(gallery, images):
    """Also where the copy has the time and the size of what it replaces."""
    red, navy = images / "camera0/red.bmp", images / "camera0/navy.bmp"
    for path, colour in ((red, "red"), (navy, "navy")):
        paint(path, colour)
        os.utime(path, ns=(10**18, 10**18))
    assert gallery.add(images).added == 2
    shutil.copy2(navy, red)
    assert red.stat().st_mtime_ns == 10**18 and red.stat().st_size == navy.stat().st_size
    assert gallery.add(images).added == 1
    after = vectors(gallery)
    torch.testing.assert_close(after["camera0/red.bmp"], after["camera0/navy.bmp"])


def test_a_file_that_was_only_touched_or_copied_back_keeps_its_vector(gallery, images, monkeypatch):
    monkeypatch.setattr(gallery.embedder.encoder, "embed_images", Unused())
    before = vectors(gallery)
    path = images / "camera0/red.png"
    os.utime(path, ns=(1, 1))
    assert gallery.add(images).moved == 1
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert gallery.add(images).moved == 1 and gallery.add(images).moved == 0
    assert all(torch.equal(vector, before[name]) for name, vector in vectors(gallery).items())


@pytest.mark.parametrize("is_touched", [False, True])
def test_cameras_that_name_their_images_alike_are_told_apart(embedder, tmp_path, is_touched):
    """Two cameras that wrote `frame_0001.png` in the same second, one folder after the other."""
    for camera, colour in (("north", "red"), ("south", "navy")):
        path = tmp_path / camera / "frame_0001.png"
        paint(path, colour)
        if is_touched:
            os.utime(path, ns=(10**18, 10**18))
    gallery = Gallery.from_images(embedder, tmp_path / "north", uri=tmp_path / "gallery")
    with pytest.raises(ValueError, match="Both .*north/frame_0001.png and .*south/frame_0001.png are named frame"):
        gallery.add(tmp_path / "south")
    assert colour_of(gallery, "frame_0001.png") == (255, 0, 0)
    whole = Gallery.from_images(embedder, tmp_path, uri=tmp_path / "whole")
    assert set(whole.store.states()) == {"north/frame_0001.png", "south/frame_0001.png"}


@pytest.mark.parametrize("how", ["renamed", "copied", "renamed inside"])
def test_a_folder_that_moved_keeps_its_vectors(gallery, images, tmp_path, monkeypatch, how):
    monkeypatch.setattr(gallery.embedder.encoder, "embed_images", Unused())
    before, moved = vectors(gallery), tmp_path / "elsewhere"
    if how == "renamed":
        images.rename(moved)
    elif how == "copied":  # to another disk, with new times
        shutil.copytree(images, moved, copy_function=shutil.copyfile)
        shutil.rmtree(images)
    else:
        moved = images
        (images / "camera1").rename(images / "camera2")
    addition = gallery.add(moved)
    assert (addition.added, addition.moved) == (0, 3 if how == "renamed inside" else 6)
    for after in (gallery, Gallery.load(tmp_path / "gallery", gallery.embedder)):
        assert len(after) == 6
        for name, vector in vectors(after).items():
            assert torch.equal(vector, before[name.replace("camera2", "camera1")])
            assert gallery.image(name).size == (16, 32)
            assert after.store.find([name])[0].row["folder"] == name.partition("/")[0]


def test_a_new_description_embeds_its_image_again(embedder, images, tmp_path):
    gallery = Gallery.from_images(embedder, images, {"camera0/red.png": SENTENCES[0]}, uri=tmp_path / "gallery")
    before = vectors(gallery)
    assert gallery.add(images).added == 0  # without descriptions, those that are there stay
    assert gallery.add(images, {"camera0/red.png": SENTENCES[3]}).added == 1
    changed = [name for name, vector in vectors(gallery).items() if not torch.equal(vector, before[name])]
    assert changed == ["camera0/red.png"]
    images.rename(tmp_path / "moved")
    assert gallery.add(tmp_path / "moved").moved == 6
    assert gallery.add(tmp_path / "moved", {"camera0/red.png": SENTENCES[3]}).added == 0


BROKEN = {"empty.png": b"", "torn.jpg": b"\xff\xd8\xff\xe0", "page.webp": b"<html>", "text.gif": b"GIF89a"}


def test_broken_files_are_left_out_and_the_others_indexed(bdam, checkpoint, images, tmp_path):
    for name, content in BROKEN.items():
        (images / name).write_bytes(content)
    Image.new("1", (20_000, 10_000)).save(images / "bomb.png")
    gallery = tmp_path / "gallery"
    code, output = bdam("index", checkpoint, images, gallery)
    assert code == 3 and "6 images, 6 of them new, 5 left out." in output
    assert "1 cannot be read (it has over 89,478,485 pixels): bomb.png" in output
    assert all(name in output for name in BROKEN)
    code, output = bdam("index", checkpoint, images, gallery)
    assert code == 3 and "6 images, 0 of them new, 5 left out." in output
    for name in [*BROKEN, "bomb.png"]:
        paint(images / name, "pink")
    code, output = bdam("index", checkpoint, images, gallery)
    assert code == 0 and "11 images, 5 of them new." in output


def test_where_no_image_can_be_read_nothing_is_made(bdam, checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for name, content in BROKEN.items():
        (tmp_path / "images" / name).write_bytes(content)
    code, output = bdam("index", checkpoint, tmp_path / "images", tmp_path / "gallery")
    assert code == 1 and "error: No image of " in output and "empty.png" in output
    assert not (tmp_path / "gallery").exists()


def test_what_is_no_place_for_a_gallery_is_refused_before_anything_is_written(bdam, checkpoint, images, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    (tmp_path / "bare").mkdir()
    for source, place, message in (
        (images, images, "holds other files and no gallery: give a new or an empty folder"),
        (images, tmp_path / "full", "holds other files and no gallery"),
        (images, tmp_path / "file", "is a file: give a folder"),
        (tmp_path / "bare", tmp_path / "gallery", "No images in"),
        (tmp_path / "nowhere", tmp_path / "gallery", "Nothing at"),
        (tmp_path / "bare", tmp_path / "gallery.db", "No images in"),
    ):
        before = sorted(tmp_path.rglob("*"))
        code, output = bdam("index", checkpoint, source, place)
        assert code == 1 and output.count("error:") == 1 and message in output
        assert sorted(tmp_path.rglob("*")) == before
    code, output = bdam("index", checkpoint, images, tmp_path / "bare")
    assert code == 0 and "6 images" in output


def test_a_disk_that_is_not_there_costs_nothing(bdam, checkpoint, gallery, images, tmp_path):
    place = tmp_path / "gallery"
    index = ("index", checkpoint, images, place, "--prune")
    images.rename(tmp_path / "unmounted")
    assert bdam(*index)[0] == 1
    images.mkdir()
    code, output = bdam(*index)
    assert code == 1 and "No images in" in output
    paint(images / "camera0/red.png", "red")
    code, output = bdam(*index)
    assert code == 1 and "5 of the 6 images of the gallery below" in output and "--force" in output
    assert len(Gallery.load(place, gallery.embedder)) == 6
    code, output = bdam(*index, "--dry-run", "--force")
    assert code == 0 and output.count("would remove camera") == 5 and "nothing was done" in output
    assert len(Gallery.load(place, gallery.embedder)) == 6
    code, output = bdam(*index, "--force")
    assert code == 0 and output.count("removed camera") == 5 and "1 images, 0 of them new, 1 moved" in output


def test_pruning_removes_only_what_lay_below_the_folder(bdam, checkpoint, gallery, images, tmp_path):
    """The gallery also holds images of another folder, which is not there."""
    other = tmp_path / "other"
    for colour in ("pink", "gold"):
        paint(other / f"{colour}.png", colour)
    gallery.add(other)
    shutil.rmtree(other)
    (images / "camera0/red.png").unlink()
    code, output = bdam("index", checkpoint, images, tmp_path / "gallery", "--prune")
    assert code == 0 and "removed camera0/red.png " in output and " 1 removed." in output
    assert set(Gallery.load(tmp_path / "gallery", gallery.embedder).store.states()) >= {"pink.png", "gold.png"}
    code, output = bdam("index", checkpoint, tmp_path / "gallery", tmp_path / "copy", "--prune")
    assert code == 1 and "Only a folder of images can be pruned" in output


def test_a_renamed_folder_is_moved_and_not_removed(bdam, checkpoint, gallery, images, tmp_path):
    for camera in ("camera0", "camera1"):
        (images / camera).rename(images / f"new {camera}")
    code, output = bdam("index", checkpoint, images, tmp_path / "gallery", "--prune")
    assert code == 0 and "6 images, 0 of them new, 6 moved." in output


def rows(**columns) -> Dataset:
    images = [Image.new("RGB", (16, 32), colour) for colour in COLOURS]
    return Dataset.from_dict({"image": images, **columns})


def test_data_sets_are_taken_with_what_they_have(embedder, caplog):
    numbered = Gallery.from_images(embedder, rows(image_id=list(range(6))))
    assert set(numbered.store.states()) == {"0", "1", "2", "3", "4", "5"}
    images = [None, *rows()["image"][1:]]
    partly = Gallery.from_images(embedder, Dataset.from_dict({"image": images, "image_id": list(COLOURS)}))
    assert len(partly) == 5 and "the record has none): red" in caplog.text
    with pytest.raises(ValueError, match="the data set, row 2: `image_id` is missing: give each image a name"):
        Gallery.from_images(embedder, rows(image_id=["a", "b", None, "d", "e", "f"]))
    with pytest.raises(ValueError, match="No image of the data set was added: 1 cannot be read .the record"):
        Gallery.from_images(embedder, Dataset.from_dict({"image": [images[1], None]}).select([1]))


def test_names_are_found_in_either_spelling(embedder, tmp_path):
    for form in ("NFC", "NFD"):
        paint(tmp_path / form / unicodedata.normalize(form, "café/zoë.png"), "red")
        gallery = Gallery.from_images(embedder, tmp_path / form)
        for other in ("NFC", "NFD"):
            name, folder = (unicodedata.normalize(other, text) for text in ("café/zoë.png", "café"))
            assert gallery.image(name).size == (16, 32) and gallery.search(like=name) == []
            assert len(gallery.search(SENTENCES[0], filter={"folder": folder})) == 1


@pytest.mark.parametrize("folder", ["on", "off", "no", "007", "1_2", "true", "null", "~", "1:30", "1e3", "0x10"])
def test_filters_read_words_as_their_column_has_it(bdam, checkpoint, embedder, tmp_path, folder):
    paint(tmp_path / "images" / folder / "1.png", "red")
    paint(tmp_path / "images/other/1.png", "navy")
    Gallery.from_images(embedder, tmp_path / "images", uri=tmp_path / "gallery")
    search = ("search", tmp_path / "gallery", "--model", checkpoint, SENTENCES[0], "--json", "--filter")
    code, output = bdam(*search, f"folder={folder}")
    assert code == 0 and f'"image_id": "{folder}/1.png"' in output and output.count('"score"') == 1


def test_filters_of_numbers_and_truth_values(bdam, checkpoint, embedder, tmp_path):
    columns = {
        "person_id": [*range(6)],
        "is_day": [True, False] * 3,
        "height": [1.5] * 6,
        "time": [0.0, 59.0, 60.5, 65.0, 3600.0, 4000.0],
    }
    Gallery.from_images(embedder, rows(image_id=list(COLOURS), **columns), uri=tmp_path / "gallery")
    search = ("search", tmp_path / "gallery", "--model", checkpoint, SENTENCES[0], "--json", "--filter")
    for words, count in (
        ("person_id=2,3", 2),
        ("person_id=4..", 2),
        ("is_day=true", 3),
        ("is_day=0", 3),
        ("height=1.5", 6),
        ("person_id=1..3", 3),
        ("time=0:59..1:05", 3),
        ("time=..1:00.5", 3),
        ("time=1:00:00..", 2),
    ):
        code, output = bdam(*search, words)
        assert code == 0 and output.count('"score"') == count, words
    for words in (
        "person_id=99999999999999999999",
        "person_id=1_0",
        "person_id=red",
        "is_day=on",
        "height=tall",
        "time=0:59",
    ):
        code, output = bdam(*search, words)
        assert code == 1 and f"error: '{words.partition('=')[0]}' holds " in output, words
    with pytest.raises(ValueError, match="'person_id' holds int64"):
        Gallery.load(tmp_path / "gallery", embedder).search(SENTENCES[0], filter={"person_id": 10**20})


def test_an_image_that_cannot_be_read_is_no_example(bdam, checkpoint, gallery, tmp_path):
    search = ("search", tmp_path / "gallery", "--model", checkpoint, "--like")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    for name, message in (
        ("bomb.png", "bomb.png cannot be read (it has over 89,478,485 pixels): make it smaller."),
        ("torn.png", "torn.png cannot be read (it is no image)"),
        ("nowhere.png", "is neither a file nor the id of an image of the gallery"),
    ):
        code, output = bdam(*search, tmp_path / name)
        assert code == 1 and "error:" in output and message in output


def test_rows_say_where_their_images_are_from_any_folder(embedder, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Gallery.from_images(embedder, "images", uri="gallery")
    monkeypatch.chdir("/")
    gallery = Gallery.load(tmp_path / "gallery", embedder)
    assert gallery.image("camera0/red.png").size == (16, 32)
    assert gallery.add(open_source(images)).added == 0


LONG = "A tall man with grey hair walks by, " * 20 + "in a red coat."


@pytest.mark.parametrize(
    "options, messages",
    [
        ({"text": LONG}, ["The sentence was cut after "]),
        ({"text": "A xqzt man."}, ['The model does not know: "xqzt".']),
        ({"identity": "A tall xqzt.", "clothing": LONG}, ['"xqzt"', "The sentence was cut after "]),
        ({"text": "A tall man."}, []),
    ],
)
def test_a_search_says_which_words_it_lost(gallery, caplog, options, messages):
    warnings = gallery.search(**options).warnings
    assert all(part in message for part, message in zip(messages, warnings, strict=True))
    assert caplog.messages == []


@pytest.mark.parametrize("sentence", ["xqzt", "¿?", "…!", "🧥🧥", "𝔛𝔜"])
def test_a_sentence_of_which_nothing_is_left_is_an_error(gallery, bdam, checkpoint, tmp_path, sentence):
    for half in ("text", "identity", "clothing"):
        with pytest.raises(ValueError, match="no word"):
            gallery.search(**{half: sentence})
    code, output = bdam("search", tmp_path / "gallery", "--model", checkpoint, sentence)
    assert code == 1 and "error: " in output and "word" in output


def test_the_shell_says_once_which_words_are_lost(gallery, bdam, checkpoint, tmp_path):
    search = ("search", tmp_path / "gallery", "--model", checkpoint, "A tall man, xqzt.")
    code, output = bdam(*search, "--json")
    assert code == 0 and r'"warnings": ["The model does not know: \"xqzt\"."]' in output
    code, output = bdam(*search)
    assert code == 0 and output.count('warning: The model does not know: "xqzt".') == output.count("not know") == 1
