import json
from pathlib import Path

import pytest
from PIL import Image

from bdam.data.benchmarks import check_benchmark
from bdam.data.loading import load_data


@pytest.fixture
def root(tmp_path) -> Path:
    """Data that are fit: two persons, two images each, in two folders."""
    records = [
        {"image": f"{side}/{person}.png", "person_id": person, "caption": f"{person} from the {side}.", "split": split}
        for person, split in ((1, "train"), (2, "test"))
        for side in ("left", "right")
    ]
    for record in records:
        (tmp_path / record["image"]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 8), "red").save(tmp_path / record["image"])
    write(tmp_path, records)
    return tmp_path


def read(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "annotations.jsonl").read_text().splitlines()]


def write(root: Path, records: list[dict], name: str = "annotations") -> None:
    (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))


def test_fit_data_are_fit(root):
    check = check_benchmark(f"own:{root}")
    assert check.verdict == "fit" and not check.findings
    assert check.splits == {split: {"persons": 1, "images": 2, "captions": 2} for split in ("train", "test")}
    assert check.folders == {side: {"found": 2, "missing": 0, "unreadable": 0} for side in ("left", "right")}


@pytest.mark.parametrize(
    "content, state, detail",
    [
        (None, "missing", "left/1.png"),
        (b"", "unreadable", "left/1.png: it is no image"),
        (b"no image", "unreadable", "left/1.png: it is no image"),
        (slice(40), "unreadable", "left/1.png: "),
    ],
    ids=["missing", "zero bytes", "foreign", "cut off"],
)
def test_images_that_cannot_be_read_make_data_unfit(root, content, state, detail):
    image = root / "left/1.png"
    whole = image.read_bytes()
    image.unlink()
    if content is not None:
        image.write_bytes(whole[content] if isinstance(content, slice) else content)
    check = check_benchmark(f"own:{root}")
    (finding,) = check.findings
    assert check.verdict == "unfit" and finding.level == "error"
    assert finding.text.startswith(f"1 of 4 images are {state} in ") and finding.details[0].startswith(detail)
    assert check.folders["left"] == {"found": 1, "missing": 0, "unreadable": 0} | {state: 1}


def test_an_extension_in_another_case_is_no_fault(root):
    (root / "left/1.png").rename(root / "left/1.PNG")
    assert check_benchmark(f"own:{root}").verdict == "fit"


WARNINGS = {
    "persons are in two splits": ({"person_id": 1}, "person 1: test, train"),
    "persons have one image only": ({"person_id": 7}, "person 2"),
    "captions are given to several persons": ({"caption": "1 from the left."}, "2 persons: 1 from the left."),
    "captions hold characters": ({"caption": "A \x07 man."}, "right/2.png: A \x07 man."),
    "images have a caption twice": ({"caption": ["A man.", "A man."]}, "right/2.png"),
    "images have no captions": ({"caption": []}, "right/2.png"),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_what_is_odd_is_a_warning(root, text):
    values, detail = WARNINGS[text]
    records = read(root)
    records[3].update(values)
    write(root, records)
    check = check_benchmark(f"own:{root}")
    findings = [finding for finding in check.findings if text in finding.text]
    assert check.verdict == "fit with warnings"
    assert len(findings) == 1 and findings[0].level == "warning" and detail in findings[0].details


def test_descriptions_are_checked_where_there_are_any(root):
    assert check_benchmark(f"own:{root}").verdict == "fit"
    described = [
        {"image_id": record["image"], "identity_description": "Tall.", "clothing_description": "A coat."}
        for record in read(root)[:3]
    ]
    write(root, [*described, {"image_id": "left/9.png"}], "descriptions")
    texts = [finding.text for finding in check_benchmark(f"own:{root}").findings]
    assert [text[:46] for text in texts] == [
        "1 images have no identity_description in " + str(root)[:5],
        "1 images have no clothing_description in " + str(root)[:5],
        f"1 lines of {root}"[:46],
    ]


def test_counts_stand_beside_the_published_ones(tmp_path):
    captions = ["A man = 人", "A man’s coat — red."]
    records = [{"id": 1, "file_path": "cam_a/1.png", "captions": captions, "split": "train"}]
    (tmp_path / "reid_raw.json").write_text(json.dumps(records))
    check = check_benchmark(f"cuhk-pedes:{tmp_path}")
    texts = " ".join(finding.text for finding in check.findings)
    assert check.published["test"] == {"persons": 1000, "images": 3074, "captions": 6156}
    assert "train is not as published" in texts and "1 of 11,003 persons, 1 of 34,054 images, 2 of 68,126" in texts
    assert "test is not as published" in texts and "0 of 1,000 persons" in texts
    assert "1 captions hold characters" in texts


def test_the_exit_code_tells_the_verdict(root, bdam):
    code, output = bdam("data", "check", f"own:{root}", "--json", root / "check.json")
    assert code == 0 and "fit: own" in output and "train" in output
    assert json.loads((root / "check.json").read_text())["verdict"] == "fit"

    write(root, [{**record, "person_id": index} for index, record in enumerate(read(root))])
    code, output = bdam("data", "check", f"own:{root}", "--json", root / "check.json")
    assert code == 1 and "warning: 4 persons have one image only" in output and "… and 1 more" in output
    assert len(json.loads((root / "check.json").read_text())["findings"][0]["details"]) == 4

    (root / "annotations.jsonl").write_text("[")
    code, output = bdam("data", "check", f"own:{root}")
    assert code == 2 and "line 1: damaged" in output and "unfit: own" in output

    code, output = bdam("data", "check", f"mine:{root}")
    assert code == 2 and "give NAME:ROOT" in output


BAD = '{"image": "../x.png", "person_id": 1}'
FAULTY = {
    "jsonl": (
        ["{}", BAD, "{", '{"image": "left/1.png", "person_id": 2, "split": "train"}'],
        [
            "line 5: `image` or",
            "line 6: `image`: must lead",
            "line 7: damaged",
            "line 8: the records of image left/1",
        ],
    ),
    "jsonl of other values": (
        ["7", "null", "[]", '"\\ud800"', "\x00", "[" * 100_000, '{"person_id": ' + "9" * 5000 + "}", "NaN"],
        [f"line {number}: " for number in range(5, 13)],
    ),
}


@pytest.mark.parametrize("lines, problems", FAULTY.values(), ids=FAULTY)
def test_all_bad_lines_are_listed_and_the_good_ones_looked_at(root, lines, problems):
    path = root / "annotations.jsonl"
    path.write_text(path.read_text() + "\n" + "\n".join(lines))
    (root / "left/2.png").unlink()
    check = check_benchmark(f"own:{root}")
    bad, missing = (finding for finding in check.findings if finding.level == "error")
    assert len(bad.details) == len(problems)
    for detail, problem in zip(bad.details, problems, strict=True):
        assert detail.startswith(f"{path}, {problem}") and "\n" not in detail
    assert missing.details == ["left/2.png"] and check.verdict == "unfit"
    assert check.splits["train"] == {"persons": 1, "images": 2, "captions": 2}


def test_loading_names_the_first_problem_and_counts_the_others(root):
    path = root / "annotations.jsonl"
    path.write_text(path.read_text() + f"\n{BAD}\n{{\n{BAD}")
    with pytest.raises(ValueError, match=r"line 5: `image`: .* There are 2 more such problems: `bdam data check own:"):
        load_data(f"own:{root}")


def as_cuhk(root: Path) -> list[str]:
    return [
        json.dumps({**record, "id": record["person_id"], "captions": [record["caption"]]}) for record in read(root)
    ]


@pytest.mark.parametrize(
    "text, images, problems",
    [
        ("[{0},{1},{2},{3}", 4, ["after record 4: damaged, neither"]),
        ("[{0},{1},{2},{3}] []", 4, ["after record 4: damaged, something follows"]),
        ("[{0},{1},{2},{3},]", 4, ["record 5: damaged, Expecting value at line 1"]),
        ('[{0},{1},{2},{{"id": 1, "capt', 3, ["record 4: damaged, Unterminated string"]),
        ("[{0},{1} {2},{3}]", 2, ["after record 2: damaged, neither"]),
        ("[{0},7,{2},{{}},{3}]", 3, ["record 2: must be an object, got 7", "record 4: "]),
        ('[{0},{1},{2},{{"id": "\\ud800"}}]', 3, ["record 4: damaged"]),
        ("[{0},{1},{2}," + "[" * 100_000, 3, ["record 4: damaged, nested too deeply"]),
        ("[{0},{1},{2}," + "[" * 300 + "]" * 300 + ",{3}]", 4, ["record 4: damaged"]),
        ("[]", 0, ["no records"]),
        ("[", 0, ["record 1: damaged"]),
        ("", 0, ["damaged, EOF"]),
        ("{{}}", 0, ["must be a list of records"]),
    ],
)
def test_as_much_of_a_damaged_list_as_can_be_read_is_looked_at(root, text, images, problems):
    path = root / "reid_raw.json"
    path.write_text(text.format(*as_cuhk(root)))
    check = check_benchmark(f"cuhk-pedes:{root}")
    details = [detail for finding in check.findings if finding.level == "error" for detail in finding.details]
    assert len(details) == len(problems)
    for detail, problem in zip(details, problems, strict=True):
        assert detail.startswith(str(path)) and problem in detail and "\n" not in detail
    assert (
        sum(of["images"] for of in check.splits.values())
        == images
        == sum(of["found"] for of in check.folders.values())
    )


CSV = 'image,person_id,caption,split\nleft/1.png,1,One.,train\n{}\nright/1.png,1,"Another, here.",train\n'


@pytest.mark.parametrize(
    "line, problem",
    [
        ('left/2.png,2,"A stray quote.,test', "line 3: damaged"),
        ('left/2.png,2,"A "stray" quote.",test', "line 3: damaged"),
        ("left/2.png,2,A comma, unquoted.,test", "line 3: 5 fields, where the header has 4: put those with ','"),
        ("left/2.png,,Nobody.,test", "line 3: `person_id` or"),
        ('left/2.png,2,"' + "a" * 200_000 + '",test', "line 3: damaged, field larger"),
        ("/etc/2.png,2,Outside.,test", "line 3: `image`: must lead"),
    ],
)
def test_a_bad_line_of_a_table_costs_no_other(root, line, problem):
    path = root / "annotations.csv"
    (root / "annotations.jsonl").unlink()
    path.write_text(CSV.format(line))
    check = check_benchmark(f"own:{root}")
    (bad,) = (finding for finding in check.findings if finding.level == "error")
    assert len(bad.details) == 1 and bad.details[0].startswith(f"{path}, {problem}")
    assert check.splits == {"train": {"persons": 1, "images": 2, "captions": 2}}


def test_all_files_are_looked_at_whatever_is_wrong_with_one(root):
    (root / "descriptions.jsonl").write_text(
        '{"image_id": "left/1.png"}\n{\n{"image_id": "left/1.png"}\n{"image_id": "../a"}'
    )
    (root / "left/1.png").write_bytes(b"")
    (root / "right/1.png").unlink()
    write(root, [*read(root), {"image": "left/9.png"}])
    (bad, missing, unreadable, *_) = check_benchmark(f"own:{root}").findings
    assert [detail.partition(f"{root}/")[2].partition(":")[0] for detail in bad.details] == [
        "annotations.jsonl, line 5",
        *(f"descriptions.jsonl, line {number}" for number in (2, 3, 4)),
    ]
    assert missing.details == ["right/1.png"] and unreadable.details[0].startswith("left/1.png: ")


def test_a_file_that_cannot_be_read_is_told(root):
    (root / "descriptions.jsonl").write_bytes(b"\xff\xfe{}")
    (bad, *_) = check_benchmark(f"own:{root}").findings
    assert bad.details == [
        f"{root}/descriptions.jsonl: is not UTF-8 (invalid start byte at byte 0): save it as UTF-8."
    ]


def test_people_see_the_problems_and_how_many_more_there_are(root, bdam):
    path = root / "annotations.jsonl"
    path.write_text(path.read_text() + f"\n{BAD}" * 25)
    code, output = bdam("data", "check", f"own:{root}")
    assert code == 2 and "error: 25 records" in output and "line 24: `image`" in output and "… and 5 more" in output
