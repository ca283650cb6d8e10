import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from bdam.data.benchmarks import load_benchmark
from bdam.data.images import read_column
from bdam.data.schema import CLOTHES_CHANGED_FEATURES, FEATURES


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def paint(folder: Path, images: Iterable[str]) -> None:
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), "red").save(folder / image)


def cuhk() -> list[dict]:
    """Three persons; an image with three captions, and a person with one image, as the original has them."""
    images = [
        ("train", 1, "cam_a/001_45.bmp", ["A man in red.", "He carries a bag."]),
        ("train", 1, "CUHK03/001_46.jpg", ["A man.", "In a red coat.", "With a hat."]),
        ("val", 11004, "Market/0002_c1.jpg", ["A woman in blue.", "She has long hair."]),
        ("test", 12004, "test_query/p1_s1.jpg", ["A boy.", "A girl in green."]),
    ]
    return [
        {"split": split, "captions": captions, "file_path": path, "processed_tokens": [["a"]], "id": person}
        for split, person, path, captions in images
    ]


def icfg(persons: int = 30) -> list[dict]:
    """Persons from 0, one caption per image, images in MSMT17's folders, and no validation split."""
    return [
        {
            "split": "train" if person < persons - 2 else "test",
            "captions": [f"Person {person} from the {side}."],
            "file_path": f"{'test' if person % 3 else 'train'}/{person:04}/{person:04}_{side}.jpg",
            "processed_tokens": [["person"]],
            "id": person,
        }
        for person in range(persons)
        for side in ("left", "right")
    ]


def rstp() -> list[dict]:
    return [
        {"id": person, "img_path": f"{person:04}_c14_{frame:04}.jpg", "captions": ["One.", "Two."], "split": split}
        for person, split in enumerate(("train", "val", "test"))
        for frame in (31, 32)
    ]


def persons(data) -> dict[str, list[int]]:
    return {split: read_column(rows, "person_id") for split, rows in data.items()}


def test_cuhk_pedes(tmp_path):
    write(tmp_path / "reid_raw.json", cuhk())
    paint(tmp_path / "imgs", (record["file_path"] for record in cuhk()))
    data = load_benchmark("cuhk-pedes", tmp_path)
    assert persons(data) == {"train": [1, 1], "validation": [11004], "test": [12004]}
    assert data["train"].features.keys() == FEATURES.keys()
    row = data["train"][1]
    assert row["image"].size == (4, 8) and row["image"].mode == "RGB"
    assert row["image_id"] == "CUHK03/001_46.jpg"
    assert row["captions"] == ["A man.", "In a red coat.", "With a hat."]
    assert row["outfit_id"] is row["identity_description"] is row["clothing_description"] is None
    assert "held out" not in data["train"].info.description
    assert load_benchmark("cuhk-pedes", str(tmp_path), "test")[0]["person_id"] == 12004
    with pytest.raises(ValueError, match="has no split 'val': it has train, validation, test"):
        load_benchmark("cuhk-pedes", tmp_path, "val")


@pytest.mark.parametrize("name", ["ICFG-PEDES.json", "ICFG_PEDES.json", "annotations/ICFG-PEDES.json"])
def test_icfg_pedes_lends_its_validation_split_from_train(tmp_path, name):
    write(tmp_path / name, icfg())
    data = load_benchmark("icfg-pedes", tmp_path)
    by_split = persons(data)
    assert len(set(by_split["train"])) == 26 and len(set(by_split["validation"])) == 2
    assert not set(by_split["train"]) & set(by_split["validation"])
    assert set(by_split["test"]) == {28, 29}
    assert persons(load_benchmark("icfg-pedes", tmp_path)) == by_split
    assert all("2 persons of train were held out by seed 0" in rows.info.description for rows in data.values())


def test_at_most_200_persons_are_held_out(tmp_path):
    write(tmp_path / "ICFG-PEDES.json", icfg(3002))
    data = load_benchmark("icfg-pedes", tmp_path)
    assert {split: len(set(who)) for split, who in persons(data).items()} == {
        "train": 2800,
        "validation": 200,
        "test": 2,
    }


def test_rstpreid_lies_flat_and_has_no_tokens(tmp_path):
    write(tmp_path / "data_captions.json", rstp())
    paint(tmp_path / "imgs", (record["img_path"] for record in rstp()))
    data = load_benchmark("rstpreid", tmp_path)
    assert persons(data) == {"train": [0, 0], "validation": [1, 1], "test": [2, 2]}
    assert data["test"][0]["image"].size == (4, 8)


@pytest.mark.parametrize("pattern", ["processed_data/{}.json", "annotations/{}.json", "{}_reid.json"])
def test_a_file_per_split(tmp_path, pattern):
    for split in ("train", "val", "test"):
        records = [{**record, "captions_bt": [""]} for record in cuhk() if record["split"] == split]
        write(tmp_path / pattern.format(split), records)
    assert persons(load_benchmark("cuhk-pedes", tmp_path)) == {"train": [1, 1], "validation": [11004], "test": [12004]}


def test_files_whose_train_split_has_a_record_per_caption_and_whose_image_id_is_the_person(tmp_path):
    for split in ("train", "val", "test"):
        records = [
            {"image": f"imgs/{record['file_path']}", "caption": caption, "image_id": record["id"]}
            for record in cuhk()
            if record["split"] == split
            for caption in (record["captions"] if split == "train" else [record["captions"]])
        ]
        write(tmp_path / f"finetune/cuhk_{split}.json", records)
    write(tmp_path / "reid_raw.json", cuhk())
    expected = load_benchmark("cuhk-pedes", tmp_path)
    (tmp_path / "reid_raw.json").unlink()
    data = load_benchmark("cuhk-pedes", tmp_path)
    for column in ("image_id", "person_id", "captions"):
        for split, rows in expected.items():
            assert read_column(data[split], column) == read_column(rows, column)


def test_the_empty_validation_file_of_icfg_is_no_split(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path / f"processed_data/{split}.json", [record for record in icfg() if record["split"] == split])
    assert len(set(persons(load_benchmark("icfg-pedes", tmp_path))["validation"])) == 2


def test_images_may_lie_in_the_root_and_write_their_extension_in_another_case(tmp_path):
    write(tmp_path / "data_captions.json", [*rstp(), {**rstp()[0], "img_path": "0000_c1_9.JPG"}])
    paint(tmp_path, [*(record["img_path"].replace("jpg", "JPG") for record in rstp()[1:]), "0000_c1_9.jpg"])
    paint(tmp_path, [rstp()[0]["img_path"]])
    assert [row["image"].size for row in load_benchmark("rstpreid", tmp_path, "train")] == [(4, 8)] * 3


def test_splits_are_read_in_any_case_and_byte_order_marks_skipped(tmp_path):
    records = [{**record, "split": record["split"].upper()} for record in rstp()]
    (tmp_path / "data_captions.json").write_text(json.dumps(records), encoding="utf-8-sig")
    assert len(load_benchmark("rstpreid", tmp_path)) == 3


def own() -> list[dict]:
    return [
        {"image": "a/1.png", "person_id": "ann", "caption": "Ann in red.", "outfit_id": 1, "split": "train"},
        {"image": "a/2.png", "person_id": "ann", "captions": ["Ann.", "In blue."], "outfit_id": 2, "split": "train"},
        {"image": "b/1.png", "person_id": "bob", "caption": "Bob.", "outfit_id": 1, "split": "test"},
        {"image": "b/2.png", "person_id": "bob", "outfit_id": 1, "split": "test"},
    ]


def test_ones_own_jsonl_names_persons_and_tells_their_outfits_apart(tmp_path):
    write(tmp_path / "annotations.jsonl", "\n".join(map(json.dumps, own())) + "\n\n")
    paint(tmp_path, (record["image"] for record in own()))
    data = load_benchmark("own", tmp_path)
    assert persons(data) == {"train": [0, 0], "test": [1, 1]}
    assert read_column(data["train"], "outfit_id") == [0, 1]
    assert read_column(data["test"], "outfit_id") == [2, 2]
    assert read_column(data["test"], "captions") == [["Bob."], []]
    assert data["train"][0]["image"].size == (4, 8)


def test_ones_own_csv_has_a_line_per_caption_and_needs_no_split(tmp_path):
    with (tmp_path / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "person_id", "caption", "outfit_id"])
        table.writerows([("1.png", "7", "He, in\nred.", ""), ("1.png", "7", "A man.", ""), ("2.png", "9", "She.", "")])
    rows = load_benchmark("own", tmp_path)["train"]
    assert read_column(rows, "person_id") == [7, 9]
    assert read_column(rows, "captions") == [["He, in\nred.", "A man."], ["She."]]
    assert read_column(rows, "outfit_id") == [None, None]


def test_prcc_knows_clothes_cameras_and_roles(tmp_path):
    images = ["train/001/A_1.jpg", "train/001/B_1.jpg", "train/001/C_1.jpg", "val/001/A_2.jpg"]
    images += ["test/A/150/1.jpg", "test/B/150/1.jpg", "test/C/150/1.jpg"]
    paint(tmp_path / "rgb", images)
    (tmp_path / "rgb/train/001/._A_1.jpg").write_bytes(b"")
    data = load_benchmark("prcc", tmp_path)
    assert data["test"].features.keys() == CLOTHES_CHANGED_FEATURES.keys()
    assert persons(data) == {"train": [1, 1, 1], "validation": [1], "test": [150, 150, 150]}
    a, b, c = read_column(data["train"], "outfit_id")
    assert a == b != c and not {a, c} & set(read_column(data["test"], "outfit_id"))
    assert read_column(data["test"], "role") == ["gallery", "query", "query"]
    assert read_column(data["test"], "camera_id") == [0, 1, 2]
    assert read_column(data["train"], "role") == [None] * 3
    assert read_column(data["test"], "captions") == [[]] * 3
    assert data["test"][0]["image"].size == (4, 8)


def test_ltcc_knows_clothes_cameras_and_roles(tmp_path):
    paint(tmp_path, ["train/001_1_c2_0158.png", "query/094_1_c9_0041.png", "test/094_2_c3_0020.png"])
    rows = load_benchmark("ltcc", tmp_path)["test"]
    assert read_column(rows, "image_id") == ["query/094_1_c9_0041.png", "test/094_2_c3_0020.png"]
    assert read_column(rows, "role") == ["query", "gallery"]
    assert read_column(rows, "camera_id") == [9, 3]
    assert len(set(read_column(rows, "outfit_id"))) == 2 and set(read_column(rows, "person_id")) == {94}


def test_descriptions_belong_to_images_and_what_is_missing_is_counted(tmp_path, caplog):
    write(tmp_path / "annotations/reid_raw.json", cuhk())
    paint(tmp_path / "imgs", (record["file_path"] for record in cuhk()))
    described = [
        {"image_id": "CUHK03/001_46.jpg", "identity_description": "Tall.", "clothing_description": "A red coat."},
        {"image_id": "cam_a/001_45.bmp", "identity_description": "Short hair."},
        {"image_id": "cam_a/removed.bmp", "identity_description": "Nobody."},
    ]
    write(tmp_path / "annotations/descriptions.jsonl", "\n".join(map(json.dumps, described)))
    data = load_benchmark("cuhk-pedes", tmp_path)
    assert read_column(data["train"], "identity_description") == ["Short hair.", "Tall."]
    assert read_column(data["train"], "clothing_description") == [None, "A red coat."]
    assert read_column(data["test"], "identity_description") == [None]
    assert "2 of 4 images have no identity_description" in caplog.text
    assert "3 of 4 images have no clothing_description" in caplog.text
    assert "1 lines describe unknown images, the first on line 3: cam_a/removed.bmp" in caplog.text


def test_missing_folders_of_images_are_named_before_training_finds_out(tmp_path, caplog):
    write(tmp_path / "reid_raw.json", cuhk())
    paint(tmp_path / "imgs", ["cam_a/001_45.bmp", "CUHK03/001_46.jpg"])
    data = load_benchmark("cuhk-pedes", tmp_path)
    assert "2 of 4 images are missing" in caplog.text and "Market, test_query" in caplog.text
    assert data["train"][0]["image"].size == (4, 8)
    with pytest.raises(ValueError, match=r"image test_query/p1_s1.jpg cannot be read .*: restore .* `bdam data check"):
        data["test"][0]


def test_rows_are_read_without_opening_images(tmp_path):
    write(tmp_path / "reid_raw.json", cuhk())
    assert len(read_column(load_benchmark("cuhk-pedes", tmp_path, "train"), "captions")) == 2


def change(**values) -> list[dict]:
    """CUHK-PEDES, whose third record is not as it should be."""
    records = cuhk()
    records[2].update(values)
    return [{key: value for key, value in record.items() if value is not ...} for record in records]


MALFORMED = {
    "truncated": (
        json.dumps(cuhk())[:-40],
        r"reid_raw.json, record 4: damaged, Unterminated string .*: download or write it again",
    ),
    "empty file": ("", r"reid_raw.json: damaged, .*: download or write it again"),
    "no list": ({"a": 1}, r"reid_raw.json: must be a list of records, got .*: correct it"),
    "no records": ([], r"reid_raw.json: no records: download or write it again"),
    "no object": ([*cuhk(), 7], r"reid_raw.json, record 5: must be an object, got 7"),
    "id missing": (change(id=...), r"record 3: `person_id` or `id` or `image_id` is missing: add it"),
    "image missing": (change(file_path=...), r"record 3: `image` or `file_name` or .* is missing: add it"),
    "captions missing": (change(captions=...), r"record 3: `captions` or `caption` is missing: add it"),
    "split missing": (change(split=...), r"record 3 has no `split`, .*: get reid_raw.json as it was published"),
    "split null": (change(split=None), r"record 3 has no `split`"),
    "id a string": (change(id="1"), r"record 3: `id`: Input should be a valid integer, got '1': correct or remove"),
    "id a fraction": (change(id=1.5), r"record 3: `id`: .*, got 1.5: correct or remove"),
    "id true": (change(id=True), r"record 3: `id`: .*, got True: correct or remove"),
    "id too large": (change(id=10**30), r"record 3: `id`: .* less than"),
    "id negative": (change(id=-1), r"record 3: `id`: .* greater than or equal to 0, got -1"),
    "image a number": (change(file_path=5), r"record 3: `file_path`: .* valid string, got 5"),
    "image without a name": (change(file_path=""), r"record 3: `file_path`: must lead from the image folder"),
    "image a folder": (change(file_path="./."), r"record 3: `file_path`: must lead from the image folder"),
    "image absolute": (change(file_path="/etc/a.jpg"), r"record 3: `file_path`: must lead .*, got '/etc/a.jpg'"),
    "image on a drive": (change(file_path="C:/a.jpg"), r"record 3: `file_path`: must lead"),
    "image with a null": (change(file_path="a\0.jpg"), r"record 3: `file_path`: must lead"),
    "image outside": (change(file_path="cam_a/../../a.jpg"), r"record 3: `file_path`: must lead .* inside it"),
    "image with backslashes": (change(file_path="cam_a\\1.jpg"), r"record 3: `file_path`: must lead .* with /"),
    "captions a number": (change(captions=3), r"record 3: `captions`: .*, got 3: correct or remove"),
    "captions none": (change(captions=[]), r"record 3: `captions`: .* at least 1 item"),
    "caption blank": (
        change(captions=["A man.", " "]),
        r"record 3: `captions\[1\]`: .* at least 1 character, got ' '",
    ),
    "caption a list": (change(captions=[["A", "man"]]), r"record 3: `captions\[0\]`: .* valid string"),
    "split unknown": (change(split="all"), r"record 3: `split`: .*'train', 'validation' or 'test', got 'all'"),
    "two persons": (
        [*cuhk(), {**cuhk()[0], "id": 2}],
        r"image cam_a/001_45.bmp disagree on its person, 1 and 2: rem",
    ),
    "two splits": ([*cuhk(), {**cuhk()[0], "split": "test"}], r"disagree on its split, 'train' and 'test': remove"),
}


@pytest.mark.parametrize("content, message", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_is_named_with_its_remedy(tmp_path, content, message):
    path = write(tmp_path / "reid_raw.json", content)
    with pytest.raises(ValueError, match=message) as error:
        load_benchmark("cuhk-pedes", tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "reid_raw.json").write_bytes('[{"id": "é"}]'.encode("latin-1"))
    with pytest.raises(ValueError, match="reid_raw.json: is not UTF-8 .* at byte 9.*: save it as UTF-8"):
        load_benchmark("cuhk-pedes", tmp_path)


def test_captions_without_splits_are_refused(tmp_path):
    records = [{key: record[key] for key in ("id", "file_path", "captions")} for record in cuhk()]
    write(tmp_path / "caption_all.json", records)
    with pytest.raises(ValueError, match=r"caption_all.json has no `split`, .*: put reid_raw.json next to it"):
        load_benchmark("cuhk-pedes", tmp_path)


def test_another_folder_than_the_root_is_refused_with_the_one_that_was_meant(tmp_path):
    root = tmp_path / "CUHK-PEDES"
    write(root / "reid_raw.json", cuhk())
    paint(root / "imgs", ["cam_a/001_45.bmp"])
    for folder in (root / "imgs", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"holds no reid_raw.json, .* Did you mean {root}\?"):
            load_benchmark("cuhk-pedes", folder)
    with pytest.raises(FileNotFoundError, match=r"No folder at .*: give the one that cuhk-pedes was unpacked to"):
        load_benchmark("cuhk-pedes", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="give NAME:ROOT, where NAME is one of cuhk-pedes, icfg-pedes"):
        load_benchmark("cuhk", root)
    with pytest.raises(FileNotFoundError, match="no images in folders train and test"):
        load_benchmark("prcc", root)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            '{"image_id": "cam_a/001_45.bmp", "identity_description": " "}',
            "line 2: `identity_description`: .* at least 1",
        ),
        ('{"image_id": "cam_a/001_45.bmp"', "line 2: damaged"),
        ('{"identity_description": "Tall."}', "line 2: `image_id` is missing"),
        ('{"image_id": "../001_45.bmp"}', "line 2: `image_id`: must lead"),
        (
            '{"image_id": "Market/0002_c1.jpg"}',
            "line 2: Market/0002_c1.jpg is described on line 1 already: remove one",
        ),
    ],
)
def test_a_malformed_description_is_named(tmp_path, line, message):
    write(tmp_path / "reid_raw.json", cuhk())
    write(tmp_path / "descriptions.jsonl", '{"image_id": "Market/0002_c1.jpg"}\n' + line)
    with pytest.raises(ValueError, match=f"descriptions.jsonl, {message}"):
        load_benchmark("cuhk-pedes", tmp_path)


def test_splits_are_for_all_of_ones_own_records_or_for_none(tmp_path):
    records = [own()[0], {key: value for key, value in own()[1].items() if key != "split"}]
    write(tmp_path / "annotations.jsonl", "\n".join(map(json.dumps, records)))
    with pytest.raises(ValueError, match="line 2: only some records have a `split`: give it to all, or to none"):
        load_benchmark("own", tmp_path)


VC_CLOTHES = [
    *("train/0001-01-01-02.jpg", "train/0001-04-03-11.jpg", "train/0002-02-01-05.jpg"),
    *("query/0257-03-01-01.jpg", "gallery/0257-02-01-04.jpg", "gallery/0257-04-02-09.jpg"),
]


def test_vc_clothes_has_several_outfits_per_person(tmp_path):
    paint(tmp_path, VC_CLOTHES)
    paint(tmp_path, ["processed/0001-01-01-02.png"])
    data = load_benchmark("vc-clothes", tmp_path)
    assert persons(data) == {"train": [1, 1, 2], "test": [257] * 3}
    assert len(set(read_column(data["train"], "outfit_id"))) == 3
    query, same_clothes, changed_clothes = read_column(data["test"], "outfit_id")
    assert query == same_clothes != changed_clothes
    assert read_column(data["test"], "role") == ["query", "gallery", "gallery"]
    assert read_column(data["test"], "camera_id") == [3, 2, 4]
    assert read_column(data["train"], "role") == [None] * 3
    paint(tmp_path, ["query/0257-03-hat.jpg"])
    with pytest.raises(ValueError, match=r"0257-03-hat.jpg: the name has no person, .*: rename or remove it"):
        load_benchmark("vc-clothes", tmp_path)


def test_images_without_person_outfit_and_camera_in_their_names_are_named(tmp_path):
    paint(tmp_path, ["train/001_1_c2_0158.png", "test/094_2_c3_0020.png", "test/stray.png"])
    with pytest.raises(ValueError, match=r"stray.png: the name has no person, .*: rename or remove it"):
        load_benchmark("ltcc", tmp_path)


def test_a_broken_csv_is_named(tmp_path):
    (tmp_path / "annotations.csv").write_text("image,person_id\n1.png,\n")
    with pytest.raises(ValueError, match=r"annotations.csv, line 2: `person_id` or `id` or `image_id` is missing"):
        load_benchmark("own", tmp_path)
    (tmp_path / "annotations.csv").write_text('image,person_id\n"1.png,1')
    with pytest.raises(ValueError, match=r"annotations.csv, line 2: damaged, .*: write it again"):
        load_benchmark("own", tmp_path)
