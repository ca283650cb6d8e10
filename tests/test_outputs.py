"""What a command is to write is checked before the work that fills it."""

import pytest
from PIL import Image

from bdam.data.writing import written_whole


COMMANDS = {
    "evaluate": ("evaluate", "MODEL", "--data", "DATA", "--output", "PATH"),
    "search": ("search", "GALLERY", "A man.", "--grid", "PATH"),
    "check": ("data", "check", "own:ROOT", "--json", "PATH"),
    "sheet": ("data", "pedestrians", "DATA", "--sheet", "PATH"),
    "merge": ("caption", "merge", "one.jsonl", "--output", "PATH"),
    "export": ("caption", "export", "ROOT", "PATH", "--model", "m"),
}
FOLDERS = {
    "analyze": ("analyze", "RUN", "--output", "PATH"),
    "study": ("study", "recipe.yaml", "--output", "PATH"),
    "onnx": ("export", "MODEL", "PATH"),
    "styles": ("caption", "styles", "DATA", "--output", "PATH"),
    "pedestrians": ("data", "pedestrians", "PATH"),
}


@pytest.mark.parametrize("name", [*COMMANDS, *FOLDERS])
def test_what_cannot_be_written_is_said_first(bdam, tmp_path, name):
    (tmp_path / "file").touch()
    for place, message in (
        (tmp_path / "file/deep/output", "file is a file"),
        (tmp_path, "is a folder: give the name"),
    ):
        if name in FOLDERS and place == tmp_path:
            continue
        arguments = [place if word == "PATH" else word for word in (COMMANDS | FOLDERS)[name]]
        code, output = bdam(*arguments)
        assert code == 1 and output.startswith(f"error: {place}") and message in output


def test_folders_on_the_way_are_made(tmp_path, bdam):
    sheet = tmp_path / "no/such/sheet.xyz"
    sizes = [option for split in ("train", "validation", "test") for option in (f"--{split}", 1)]
    code, output = bdam("data", "pedestrians", tmp_path / "data", *sizes, "--height", 32, "--sheet", sheet)
    assert code == 0, output
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "no/such/file.json"
    with pytest.raises(KeyboardInterrupt), written_whole(path) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("file*")) == []
    with written_whole(path) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"
