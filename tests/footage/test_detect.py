"""Footage becomes a folder of crops: nobody is lost, nobody is there twice, whatever happens to the run."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from datasets import load_dataset
from filelock import FileLock
from people import Changes, overlap
from PIL import Image
from processes import environment

from bdam.footage.detect import Settings, detect_people


SETTINGS = Settings("changes")


def rows(crops: Path) -> list[dict]:
    return [json.loads(line) for line in (crops / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def contents(crops: Path) -> dict[str, bytes]:
    """All that a run has left but its notes, with rows in any order."""
    files = {str(path.relative_to(crops)): path.read_bytes() for path in crops.rglob("*.*") if path.is_file()}
    files["metadata.jsonl"] = b"".join(sorted(files["metadata.jsonl"].splitlines()))
    return {name: content for name, content in files.items() if not name.startswith(".footage")}


@pytest.fixture(scope="module")
def found(footage, detector, tmp_path_factory) -> Path:
    """The crops of an unbroken run."""
    crops = tmp_path_factory.mktemp("found") / "crops"
    report = detect_people(footage, crops, SETTINGS, detector)
    assert (report.files, report.crops, report.left_out, report.damaged) == (2, len(rows(crops)), {}, {})
    return crops


def test_each_person_is_found_at_each_camera_in_tracks_of_their_own(found, drawn):
    people: dict[str, list] = {}
    for row in rows(found):
        there = [one for one in drawn[1] if one.source == row["source"] and abs(one.time - row["time"]) < 0.01]
        people.setdefault(row["track"], []).extend(one for one in there if overlap(one.box, row["box"]) > 0.6)
    seen = {(one.source, one.person) for track in people.values() for one in track}
    assert seen == {(one.source, one.person) for one in drawn[1]}
    # Where people cross, this detector sees one wide person.
    most = sum(max(Counter(one.person for one in track).values(), default=0) for track in people.values())
    assert most >= 0.8 * sum(map(len, people.values()))
    assert len(people) <= 2 * len(seen)


def test_the_crops_are_an_image_folder(found, footage):
    data = load_dataset("imagefolder", data_dir=str(found), split="train")
    assert len(data) == len(rows(found))
    assert set(data["source"]) == {"north/street.mp4", "south/street.mp4"} and set(data["camera"]) == {
        "north",
        "south",
    }
    for row in data:
        left, top, right, bottom = row["box"]
        assert row["image"].size == (right - left, bottom - top)


def test_a_run_that_is_killed_again_and_again_ends_as_the_unbroken_one(found, footage, tmp_path):
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run(
        [sys.executable, script, footage, tmp_path / "crops"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) >= 5
    assert contents(tmp_path / "crops") == contents(found)


def test_a_second_run_does_what_is_new_or_has_changed(footage, detector, tmp_path):
    copy, crops = tmp_path / "footage", tmp_path / "crops"
    shutil.copytree(footage / "north", copy / "north")
    detect_people(copy, crops, SETTINGS, detector)
    north = rows(crops)
    shutil.copytree(footage / "south", copy / "south")
    report = detect_people(copy, crops, SETTINGS, detector)
    assert (report.before, report.files) == (1, 1) and rows(crops)[: len(north)] == north
    shutil.copy(footage / "south/street.mp4", copy / "north/street.mp4")  # another content
    report = detect_people(copy, crops, SETTINGS, detector)
    times = {
        source: [row["time"] for row in rows(crops) if row["source"] == source]
        for source in ("north/street.mp4", "south/street.mp4")
    }
    assert (report.before, report.files) == (1, 1)
    assert times["north/street.mp4"] == times["south/street.mp4"]
    assert len(list(crops.rglob("*.jpg"))) == len(rows(crops))
    assert detect_people(copy, crops, SETTINGS, detector).before == 2


def test_everybody_on_a_photograph_is_found(tmp_path):
    street = Image.new("RGB", (400, 300), "white")
    photograph = street.copy()
    for x in (40, 180, 320):
        photograph.paste("navy", (x, 60, x + 50, 260))
    (tmp_path / "park").mkdir()
    photograph.save(tmp_path / "park/photograph.png")
    report = detect_people(tmp_path / "park/photograph.png", tmp_path / "crops", SETTINGS, Changes([street]))
    assert (report.tracks, report.crops) == (3, 3)
    assert [row["box"] for row in rows(tmp_path / "crops")] == [[x - 3, 50, x + 53, 270] for x in (40, 180, 320)]
    assert {(row["camera"], row["time"]) for row in rows(tmp_path / "crops")} == {("park", 0.0)}


def test_footage_without_people_gives_no_crops(tmp_path, detector):
    Image.new("RGB", (480, 270)).save(tmp_path / "a.png")
    report = detect_people(tmp_path / "a.png", tmp_path / "crops", SETTINGS, lambda images: [[] for _ in images])
    assert (report.files, report.crops) == (1, 0) and rows(tmp_path / "crops") == []


def test_files_that_cannot_be_read_are_left_out(tmp_path, footage, detector):
    shutil.copytree(footage / "north", tmp_path / "all/north")
    (tmp_path / "all/garbage.mp4").write_bytes(b"garbage" * 99)
    report = detect_people(tmp_path / "all", tmp_path / "crops", SETTINGS, detector)
    assert report.files == 1 and list(report.left_out) == ["garbage.mp4"]
    with pytest.raises(ValueError, match="No file of .* can be read; garbage.mp4: it is no video"):
        detect_people(tmp_path / "all/garbage.mp4", tmp_path / "others", SETTINGS, detector)


def test_a_run_that_had_no_detector_leaves_the_choice_of_another(tmp_path, footage, detector):
    with pytest.raises(FileNotFoundError, match="No detector at"):
        detect_people(footage / "north", tmp_path / "crops", Settings(str(tmp_path / "none")))
    assert detect_people(footage / "north", tmp_path / "crops", SETTINGS, detector).files == 1


def test_folders_that_crops_cannot_be_written_to_are_refused(tmp_path, found, footage, detector):
    copy = tmp_path / "crops"
    shutil.copytree(found, copy)
    with pytest.raises(ValueError, match="was made with threshold 0.5: use that"):
        detect_people(footage, copy, Settings("changes", threshold=0.4), detector)
    with FileLock(copy / ".footage/lock"), pytest.raises(ValueError, match="Another run is writing to"):
        detect_people(footage, copy, SETTINGS, detector)
    with pytest.raises(ValueError, match="lies in .*, and would be searched, too"):
        detect_people(footage, footage / "crops", SETTINGS, detector)
    with pytest.raises(FileExistsError, match="holds other files and no crops"):
        detect_people(footage / "north", footage / "south", SETTINGS, detector)
    (tmp_path / "south/north").mkdir(parents=True)
    shutil.copy(footage / "south/street.mp4", tmp_path / "south/north")
    with pytest.raises(ValueError, match="Both .* and .* are named north/street.mp4"):
        detect_people(tmp_path / "south", copy, SETTINGS, detector)
