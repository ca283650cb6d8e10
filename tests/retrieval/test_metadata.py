"""Folders with `metadata.jsonl`, such as crops of people in footage: rows of a gallery have its columns."""

import json

import pytest
from PIL import Image
from tiny import SENTENCES

from bdam.commands.search import open_frames_of
from bdam.retrieval.display import hits_table, show_frame
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hit, Hits
from bdam.retrieval.sources import open_source


@pytest.fixture
def crops(images):
    """The folder of images with a line for each but the last, with numbers, texts, boxes and what rows cannot hold."""
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    lines = [
        {"file_name": name, "source": "gate.mp4", "time": place / 4, "box": [place, 0, 9, 9], "path": "x", "note": {}}
        for place, name in enumerate(names[:-1])
    ]
    lines[0].pop("time")
    (images / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return images, names


def test_rows_have_the_columns_of_the_lines(embedder, crops):
    folder, names = crops
    gallery = Gallery.from_images(embedder, folder)
    rows = {image.image_id: image.row for image in gallery.store.find(names)}
    assert list(rows) == names[:-1]
    assert [row["box"] for row in rows.values()] == [[place, 0, 9, 9] for place in range(5)]
    assert [row["time"] for row in rows.values()] == [None, 0.25, 0.5, 0.75, 1.0]
    assert rows[names[0]]["path"] == str(folder / names[0]) and "note" not in rows[names[0]]
    assert set(gallery.store.choices()) == {"folder", "source", "time"}  # nobody chooses among boxes
    assert len(gallery.search(SENTENCES[0], filter={"source": "gate.mp4", "time": 0.5})) == 1


@pytest.mark.parametrize("uri", ["gallery", "gallery.lancedb", "gallery.db"])
def test_every_store_keeps_them(embedder, crops, tmp_path, uri):
    Gallery.from_images(embedder, crops[0], uri=tmp_path / uri)
    (hit,) = Gallery.load(tmp_path / uri, embedder).search(SENTENCES[0], filter={"time": 0.5}, k=1)
    assert (list(hit.row["box"]), hit.row["time"], hit.row["source"]) == ([2, 0, 9, 9], 0.5, "gate.mp4")


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "lists no images"),
        ('{"name": "a.png"}\n', "line 1"),
        ('{"file_name": "../a.png"}\n', "line 1"),
        ('{"file_name": "a.png", "floor": 1}\n{"file_name": "b.png", "floor": "top"}\n', "`floor` holds values of"),
    ],
)
def test_lines_that_are_not_valid_are_named(tmp_path, line, message):
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=f"{tmp_path}.metadata.jsonl.*{message}"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("time", "source", "shown"),
    [
        (0.0, "a.mp4", "0:00.0"),
        (59.96, "a.mp4", "1:00.0"),
        (3725.44, "a.mp4", "62:05.4"),
        (0.0, "a.jpg", ""),
        ("noon", None, ""),
    ],
)
def test_hits_of_videos_are_shown_with_their_time(time, source, shown):
    hits = Hits([Hit("a.png", 1.0, 0.5, 0.5, {"path": None, "time": time, "source": source})])
    columns = {column.header: list(column.cells) for column in hits_table("", hits).columns}
    assert columns.get("time", [""]) == [shown] and columns["image"] == ["a.png"]


def test_people_are_found_and_indexed_by_one_command(bdam, checkpoint, photographs, tmp_path):
    gallery = tmp_path / "gallery"
    code, output = bdam("index", checkpoint, photographs, gallery, "--detect", "hog")
    assert code == 0 and "2 images of 2 tracks in 2 files" in output and "gallery: 2 images, 2 of them new" in output
    (hit,) = Gallery.load(gallery).search(SENTENCES[0], filter={"camera": "south"})
    assert hit.row["path"] == str(tmp_path / "gallery.crops/south/b.png/0001-1.jpg")
    assert (hit.row["source"], hit.row["track"], len(hit.row["box"])) == ("south/b.png", "south/b.png/0001", 4)
    assert bdam("index", checkpoint, photographs, gallery, "--detect", "hog")[0] == 0  # again: nothing to do


def test_the_grid_shows_hits_in_their_frames(bdam, checkpoint, photographs, tmp_path):
    gallery, plain, framed = (tmp_path / name for name in ("gallery", "plain.png", "framed.png"))
    assert bdam("index", checkpoint, photographs, gallery, "--detect", "hog")[0] == 0
    search = ("search", gallery, SENTENCES[0], "--grid")
    assert bdam(*search, plain)[0] == bdam(*search, framed, "--footage", photographs)[0] == 0
    with Image.open(plain) as alone, Image.open(framed) as both:
        assert both.width > alone.width and both.height > alone.height
    hits = Gallery.load(gallery).search(SENTENCES[0])
    in_frame = open_frames_of(photographs, hide_others=False)
    shown = {label: frame.size for frame, label in (show_frame(hit.row, in_frame) for hit in hits)}
    assert shown == {"north/a.png": (320, 400), "south/b.png": (320, 400)}
    code, output = bdam(*search, framed, "--footage", tmp_path / "nowhere")
    assert code == 1 and "error: No footage at" in output
    code, output = bdam(*search[:-1], "--footage", photographs)
    assert code == 1 and "error: --footage draws on the grid: give --grid, too." in output


def test_a_frame_says_its_source_and_time():
    row, frame = {"source": "gate.mp4", "time": 61.5, "box": [0, 0, 9, 9]}, Image.new("RGB", (32, 16))
    assert show_frame(row, lambda row: frame) == (frame, "gate.mp4 1:01.5")
    gone, label = show_frame({"source": "gate.png", "time": 0.0}, lambda row: None)
    assert gone.size == (320, 180) and label == "gate.png"  # a placeholder
    assert show_frame({"folder": "north"}, lambda row: frame) is None


def test_both_commands_tell_what_is_left_out(bdam, checkpoint, photographs, tmp_path):
    (photographs / "garbage.mp4").write_bytes(b"garbage")
    code, output = bdam("detect", photographs, tmp_path / "crops", "--detector", "hog")
    assert code == 3 and "left out: garbage.mp4: it is no video" in output
    code, output = bdam("index", checkpoint, photographs, tmp_path / "gallery", "--detect", "hog")
    assert code == 3 and "gallery: 2 images" in output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{gallery}", "--detect", "hog", "--dry-run"], "error: Before --dry-run, find people by `bdam detect"),
        (["http://127.0.0.1:9", "--detect", "hog"], "give --crops FOLDER"),
        (["{gallery}", "--detect", "{none}"], "error: No detector at {none}"),
    ],
)
def test_what_cannot_be_detected_first_is_refused(bdam, checkpoint, photographs, tmp_path, arguments, message):
    names = {"gallery": tmp_path / "gallery", "none": tmp_path / "none"}
    code, output = bdam("index", checkpoint, photographs, *(argument.format(**names) for argument in arguments))
    assert code == 1 and message.format(**names) in output
    assert not (tmp_path / "gallery").exists()


def test_footage_without_people_is_said(bdam, checkpoint, tmp_path):
    Image.new("RGB", (200, 200)).save(tmp_path / "empty.png")
    code, output = bdam("index", checkpoint, tmp_path / "empty.png", tmp_path / "gallery", "--detect", "hog")
    assert code == 1 and "0 images of 0 tracks in 1 files" in output and "metadata.jsonl lists no images" in output
