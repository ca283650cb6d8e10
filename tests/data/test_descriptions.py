"""Files of descriptions, read as they are and while they are written."""

import pytest

from bdam.data.descriptions import Description, count_descriptions, read_descriptions, write_descriptions


def test_written_descriptions_are_read_again(tmp_path):
    descriptions = [
        Description(image_id="a.png", identity_description="A tall man.", agreement={"identity": {"height": 0.5}}),
        Description(image_id="b.png", failures={"identity": "it is empty", "clothing": "it has 1 words: short"}),
    ]
    path = tmp_path / "descriptions.jsonl"
    write_descriptions(path, descriptions)
    assert list(read_descriptions(path)) == descriptions
    states, reasons = count_descriptions(descriptions)
    assert states == {"described": 1, "failed": 1}
    assert reasons == {"identity: it is empty": 1, "clothing: it has 1 words": 1}
    assert not list(read_descriptions(tmp_path / "none.jsonl"))


def test_blank_lines_and_a_line_that_is_not_complete_are_left_out(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    path.write_text('\ufeff{"image_id": "a.png"}\n\n{"image_id": "b.png"}\n{"image_id": "c.p', "utf-8")
    assert [description.image_id for description in read_descriptions(path)] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "line 2: image_id: Field required: remove the line, and its image is asked for again"),
        (b'{"image_id": "b.png"', "line 2: the line: Invalid JSON: "),
        (b'{"image_id": "b.png", "attempts": {"pose": 1}}', "line 2: attempts.pose"),
        (b'{"image_id": "\xff.png"}', "line 2 is not UTF-8: save the file as UTF-8"),
    ],
)
def test_a_line_that_is_no_description_is_named(tmp_path, line, message):
    path = tmp_path / "descriptions.jsonl"
    path.write_bytes(b'{"image_id": "a.png"}\n' + line + b"\n")
    with pytest.raises(ValueError, match=f"descriptions.jsonl, {message}"):
        list(read_descriptions(path))
