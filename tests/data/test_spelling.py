"""Ids stay as they are written: what reads alike is told, and never taken for one."""

import csv
import json

import pytest
from PIL import Image

from bdam.data.benchmarks import check_benchmark, read_rows
from bdam.data.benchmarks.spelling import find_similar_ids
from bdam.data.images import read_column


ALIKE = [
    ("1_23", "12_3", "123", "0123"),
    ("7", "007", "+7", "7.0", "7.", "0.7e1", "７", " 7 ", "7\u200b"),
    ("Ann", "ann", "ANN ", "Ａnn"),
    ("Jos\u00e9", "Jose\u0301"),
    ("12345678901234567890", "+12345678901234567890"),
    ("true", "True"),
]


def write(root, records: list[dict], kind: str) -> str:
    path = root / f"annotations.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["image", "person_id", "outfit_id", "caption"])
            table.writeheader()
            table.writerows(records)
    for record in records:
        Image.new("RGB", (4, 8)).save(root / record["image"])
    return f"own:{root}"


def persons(root) -> list[int]:
    return [person for rows in read_rows("own", root).values() for person in read_column(rows, "person_id")]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("words", ALIKE)
def test_persons_who_are_spelled_in_several_ways_stay_apart_and_are_told(tmp_path, words, kind, caplog):
    records = [
        {"image": f"{index}{side}.png", "person_id": word, "caption": f"{index} {side}"}
        for index, word in enumerate(words)
        for side in "ab"
    ]
    source = write(tmp_path, records, kind)
    check = check_benchmark(source)
    assert check.splits["train"]["persons"] == len(words)
    (finding,) = [finding for finding in check.findings if "spelling" in finding.text]
    assert check.verdict == "fit with warnings" and len(finding.details) == 1
    found = persons(tmp_path)
    assert len(set(found)) == len(words) and found[::2] == found[1::2]
    assert "1 groups of ids differ only in spelling" in caplog.text


def test_outfits_stay_apart_too(tmp_path):
    outfits = ["1_2", "12", "012"]
    records = [{"image": f"{i}.png", "person_id": 5, "outfit_id": outfit} for i, outfit in enumerate(outfits)]
    check = check_benchmark(write(tmp_path, records, "csv"))
    assert [finding.details for finding in check.findings if "spelling" in finding.text] == [
        ["outfits of person 5: '1_2', 12, '012'"]
    ]
    rows = read_rows("own", tmp_path)["train"]
    assert len(set(read_column(rows, "outfit_id"))) == 3


def test_a_number_is_the_same_in_json_and_in_csv(tmp_path):
    records = [{"image": f"{i}.png", "person_id": word} for i, word in enumerate([123, "123", 0, "0", 10**17])]
    assert not [
        finding
        for finding in check_benchmark(write(tmp_path, records, "jsonl")).findings
        if "spelling" in finding.text
    ]
    found = persons(tmp_path)
    (tmp_path / "annotations.jsonl").unlink()
    write(tmp_path, records, "csv")
    assert persons(tmp_path) == found == [123, 123, 0, 0, 10**17]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_numbers_too_large_for_a_column_and_negative_ones_are_names(tmp_path, kind):
    words = [2**63, 2**63 + 1, 10**30, -1, 5, "5a"]
    write(tmp_path, [{"image": f"{i}.png", "person_id": word} for i, word in enumerate(words)], kind)
    assert persons(tmp_path) == list(range(6))


@pytest.mark.parametrize("value", ["true", "12.0", "1e3", "NaN", "Infinity", "1e999", "[1]", "{}", '" "', '""'])
@pytest.mark.parametrize("key", ["person_id", "outfit_id"])
def test_what_is_neither_a_whole_number_nor_a_name_is_refused(tmp_path, key, value):
    line = f'{{"image": "1.png", "person_id": 1, "{key}": {value}}}'
    (tmp_path / "annotations.jsonl").write_text(line)
    with pytest.raises(
        ValueError, match=rf"annotations.jsonl, line 1: `{key}`: must .*: correct or remove the record"
    ):
        read_rows("own", tmp_path)


@pytest.mark.parametrize("camera", ["1_2", "02", "+2", "２", " 2", "2.0", "a"])
def test_a_camera_is_a_plain_number(tmp_path, camera):
    (tmp_path / "annotations.jsonl").write_text(json.dumps({"image": "1.png", "person_id": 1, "camera_id": camera}))
    with pytest.raises(ValueError, match="line 1: `camera_id`: must be a whole number, written as 12 is"):
        read_rows("own", tmp_path)


def test_ids_that_are_not_alike_are_not_told():
    words = [
        1,
        10,
        "1a",
        "a1",
        "ann",
        "anna",
        "1.5",
        "0.15e1x",
        "nan",
        "inf",
        "-1",
        "10" * 20,
        "10" * 20 + "1",
        "1e9999999999999",
    ]
    assert find_similar_ids(words) == []


@pytest.mark.parametrize("name", ["1_2", "+12", "１２", "12.0", "0x12", "a"])
def test_folders_that_are_no_numbers_are_named(tmp_path, name):
    for folder in ("train/0012", "test/A/0150", f"train/{name}"):
        (tmp_path / "rgb" / folder).mkdir(parents=True)
        Image.new("RGB", (4, 8)).save(tmp_path / "rgb" / folder / "A_1.png")
    with pytest.raises(ValueError, match="A_1.png: the name has no person, outfit and camera"):
        read_rows("prcc", tmp_path)


@pytest.mark.parametrize("twin", ["train/12_1_c2_1.png", "train/012_01_c2_1.png", "query/012_1_c02_1.png"])
def test_two_spellings_of_one_number_in_file_names_are_named(tmp_path, twin):
    for name in ("train/012_1_c2_0.png", "test/094_1_c2_0.png", twin):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 8)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"are one (person|outfit|camera), or two: rename one of them"):
        read_rows("ltcc", tmp_path)
