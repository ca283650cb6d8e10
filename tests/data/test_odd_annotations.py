"""Annotation files as people and programs write them: records, or one clear error that names the file."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from bdam.data.benchmarks import check_benchmark, load_benchmark, read_rows
from bdam.data.benchmarks.files import read_file
from bdam.data.benchmarks.records import CaptionedRecord, Record
from bdam.data.descriptions import Description
from bdam.data.images import read_column


TABLE = [["image", "person_id", "caption"], ["a/1.png", "ann", "Red, all over."], ["a/2.png", "7", "Blue; or green."]]


def table(separator: str, header: list[str] = TABLE[0], quote: str = '"', end: str = "\n") -> str:
    return end.join(separator.join(f"{quote}{cell}{quote}" for cell in row) for row in [header, *TABLE[1:]])


@pytest.mark.parametrize(
    "text",
    [
        table(","),
        table(";"),
        table("\t"),
        table("\t", quote=""),
        table(";", end="\r\n"),
        table(",", end="\r"),
        table(", "),
        table("; "),
        "\ufeff" + table(";"),
        table(",", ["Image", "Person_ID", "Caption"]),
        table(",", ["IMAGE", " Person ID ", "caption "]),
        table(";", ["Img_Path", "ID", "Captions"]),
        table(",", ["file-path", "Person-Id", "CAPTION"]),
        table(",") + "\n,,\n\n, ,\n",
    ],
)
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, text):
    (tmp_path / "annotations.csv").write_text(text, encoding="utf-8", newline="")
    rows = read_rows("own", tmp_path)["train"]
    assert read_column(rows, "image_id") == ["a/1.png", "a/2.png"]
    assert read_column(rows, "person_id") == [0, 1]
    assert read_column(rows, "captions") == [["Red, all over."], ["Blue; or green."]]


@pytest.mark.parametrize(
    "header, message",
    [
        (["photo", "person_id", "caption"], "line 1: no column `image` or .* has `photo`, `person_id`, `caption`"),
        (["image", "person", "caption"], "line 1: no column `person_id` or `id` or `image_id` in the header"),
        (["image", "person_id", "Image"], "line 1: two columns are called `image`"),
        (["image,person_id|caption", "", ""], "line 1: no column"),
    ],
)
def test_a_header_that_does_not_tell_is_named_once(tmp_path, header, message):
    (tmp_path / "annotations.csv").write_text(table(",", header))
    with pytest.raises(ValueError, match=f"annotations.csv, {message}") as error:
        read_rows("own", tmp_path)
    assert "more such problems" not in str(error.value)


@pytest.mark.parametrize("captions", [None, [], [None], [None, None], ...])
@pytest.mark.parametrize("key", ["caption", "captions"])
def test_what_is_null_is_not_there(tmp_path, key, captions):
    records = [{"image": "1.png", "person_id": 1, key: captions, "split": None, "outfit_id": None, "id": None}]
    records += [{"image": "2.png", "person_id": None, "id": 2, "captions": None, "caption": [None, "A man."]}]
    lines = [json.dumps({key: value for key, value in record.items() if value is not ...}) for record in records]
    (tmp_path / "annotations.jsonl").write_text("\n".join(lines))
    rows = read_rows("own", tmp_path)["train"]
    assert read_column(rows, "captions") == [[], ["A man."]] and read_column(rows, "person_id") == [1, 2]


@pytest.mark.parametrize("record", [{"captions": None}, {"captions": [None]}, {"id": None}, {"file_path": None}])
def test_what_is_null_and_needed_is_missing(tmp_path, record):
    whole = {"id": 1, "file_path": "1.png", "captions": ["A man."], "split": "train"}
    (tmp_path / "reid_raw.json").write_text(json.dumps([whole, {**whole, **record}]))
    with pytest.raises(ValueError, match="record 2: `(captions|person_id|image)`.*(is missing|at least 1 item)"):
        load_benchmark("cuhk-pedes", tmp_path)


def test_a_path_has_one_unicode_form_so_that_descriptions_and_captions_join(tmp_path):
    composed, apart = (unicodedata.normalize(form, "José/Zoë.png") for form in ("NFC", "NFD"))
    records = [{"image": name, "person_id": 1, "caption": name} for name in (composed, apart)]
    (tmp_path / "annotations.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "descriptions.jsonl").write_text(json.dumps({"image_id": apart, "identity_description": "Tall."}))
    (row,) = read_rows("own", tmp_path)["train"].select_columns(["image_id", "captions", "identity_description"])
    assert row == {"image_id": composed, "captions": [composed, apart], "identity_description": "Tall."}


# Whatever a file holds: keys that are known with values that are not, and bytes that are no text.
KEYS = ["image", "file_path", "person_id", "id", "image_id", "captions", "caption", "split", "outfit_id", "camera_id"]
KEYS += ["role", "identity_description", "clothing_description", "other"]
TEXTS = some.one_of(
    some.text(some.characters(), max_size=8),  # lone surrogates and NULs, too
    some.sampled_from(
        ["a/1.png", "../1.png", "train", "Val", "7", "1_0", "007", "１", "\ud800", "\0", "", " ", "nan"]
    ),
)
VALUES = some.recursive(
    some.one_of(some.none(), some.booleans(), some.floats(), some.integers(), some.just(10**4000), TEXTS),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
RECORDS = some.dictionaries(some.sampled_from(KEYS), VALUES, max_size=6) | VALUES
NESTED = some.integers(1, 2000).map(lambda depth: "[" * depth)


def spoil(draw, text: str) -> bytes:
    """The file, whole or with a part cut out or put in."""
    data = text.encode("utf-8", "surrogatepass")
    start, end = sorted(draw(some.tuples(*[some.integers(0, len(data))] * 2)))
    return draw(some.sampled_from([data, data, data[:start], data[:start] + data[end:], data[:end] + data[start:]]))


@some.composite
def json_files(draw) -> bytes:
    return spoil(draw, json.dumps(draw(some.lists(RECORDS, max_size=4) | VALUES), ensure_ascii=draw(some.booleans())))


@some.composite
def jsonl_files(draw) -> bytes:
    lines = draw(some.lists(RECORDS.map(json.dumps) | NESTED | TEXTS, max_size=4))
    return spoil(draw, "\n".join(lines))


@some.composite
def csv_files(draw) -> bytes:
    separator = draw(some.sampled_from(",;\t|"))
    rows = [draw(some.permutations(KEYS))[:4], *draw(some.lists(some.lists(TEXTS, max_size=5), max_size=4))]
    return spoil(draw, draw(some.sampled_from(["\n", "\r\n", "\r"])).join(separator.join(row) for row in rows))


FILES = {
    "reid_raw.json": (CaptionedRecord, json_files()),
    "annotations.jsonl": (Record, jsonl_files()),
    "annotations.csv": (Record, csv_files()),
    "descriptions.jsonl": (Description, jsonl_files()),
}


@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_it_is_records_or_one_clear_error(tmp_path, name):
    path, (model, files) = tmp_path / name, FILES[name]

    @settings(
        derandomize=True, max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(files | some.binary(max_size=40))
    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            assert all(isinstance(record, model) for _, record in read_file(path, model))
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error) and "\r" not in str(error)
        source = write_around(path)
        check = check_benchmark(source)
        try:
            read_rows(*source.split(":", 1))
        except ValueError as error:
            assert check.verdict == "unfit" and str(tmp_path) in str(error)
        assert "\ud800" not in check.model_dump_json()

    read()


def write_around(path: Path) -> str:
    """The benchmark that a file belongs to, with what else it needs."""
    if path.name == "descriptions.jsonl":
        (path.parent / "annotations.jsonl").write_text('{"image": "a/1.png", "person_id": 1, "caption": "A man."}')
    return f"{'cuhk-pedes' if path.suffix == '.json' else 'own'}:{path.parent}"
