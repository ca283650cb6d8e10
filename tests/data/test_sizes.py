"""The sizes of generated pedestrians are known by what they hold."""

from io import BytesIO
from typing import get_args

import pytest
from datasets import DatasetDict

from bdam.commands.data import SizeName
from bdam.data.loading import load_data
from bdam.data.pedestrians import (
    PILLOW,
    SIZES,
    Checksum,
    Size,
    checksums,
    compare_size,
    find_size,
    generate_pedestrians,
)
from bdam.data.schema import PEDESTRIAN_FEATURES


ARGUMENTS = {
    "num_train_persons": 2,
    "num_validation_persons": 1,
    "num_test_persons": 2,
    "outfits_per_person": 2,
    "images_per_outfit": 1,
    "image_size": (32, 16),
    "seed": 0,
}


@pytest.fixture(scope="module")
def people() -> DatasetDict:
    return generate_pedestrians(**ARGUMENTS)


@pytest.fixture
def tiny(people, monkeypatch) -> Size:
    """The size small, made tiny."""
    size = Size(ARGUMENTS, checksums(people))
    monkeypatch.setitem(SIZES, "small", size)
    return size


def changed(people: DatasetDict, **values) -> DatasetDict:
    """The same people, with other values in the first row of the split test."""
    first = {**people["test"].to_list()[0], **values}
    rows = people["test"].from_list([first, *people["test"].to_list()[1:]], PEDESTRIAN_FEATURES)
    return DatasetDict({**people, "test": rows})


def stored(people: DatasetDict, format: str, change: int = 0) -> dict:
    """The first image of the split test in another format, with `change` in one value of one pixel."""
    image, file = people["test"][0]["image"].copy(), BytesIO()
    red, *others = image.getpixel((0, 0))
    image.putpixel((0, 0), (red ^ change, *others))
    image.save(file, format)
    return {"bytes": file.getvalue(), "path": None}


def test_the_sizes_are_those_of_the_command_and_hold_the_images_that_their_numbers_say():
    assert list(SIZES) == list(get_args(SizeName))
    for size in SIZES.values():
        numbers, images = size.arguments, size.arguments["images_per_outfit"]
        per_outfit = {"train": numbers.get("train_images_per_outfit", images), "validation": images, "test": images}
        assert {split: checksum.images for split, checksum in size.checksums.items()} == {
            split: numbers[f"num_{split}_persons"] * numbers["outfits_per_person"] * count
            for split, count in per_outfit.items()
        }


def test_the_checksum_is_of_pixels_and_texts_however_images_are_stored(people, tiny):
    assert find_size(people) == "small"
    assert find_size(changed(people, image=stored(people, "BMP"))) == "small"
    for other, name in [
        (changed(people, image=stored(people, "PNG", change=1)), "pixels"),
        (changed(people, captions=["Somebody else."]), "texts"),
        (changed(people, outfit_id=99), "texts"),
    ]:
        assert find_size(other) is None
        (difference,) = compare_size(checksums(other), "small")
        assert difference.startswith(f"The split test is not that of the size small: {name} ")
        assert sum(field in difference for field in Checksum._fields) == 1


def test_missing_and_further_splits_are_named(people, tiny):
    parts = DatasetDict({"train": people["train"], "more": people["test"]})
    assert find_size(parts) is None
    assert [text.partition(": ")[2] for text in compare_size(checksums(parts), "small")] == [
        "it is missing.",
        "it is missing.",
        "the size has none.",
    ]


def test_a_size_is_drawn_checked_and_read_back(people, tiny, bdam, tmp_path):
    code, output = bdam("data", "pedestrians", tmp_path / "people", "--size", "small")
    assert code == 0 and f"test: {tiny.checksums['test']}" in output and "Wrote" in output
    assert checksums(load_data(tmp_path / "people")) == tiny.checksums
    code, output = bdam("data", "check", tmp_path / "people", "--size", "small")
    assert code == 0 and "fit:" in output

    bdam("data", "pedestrians", tmp_path / "others", "--seed", 1)
    code, output = bdam("data", "check", tmp_path / "others", "--size", "small", "--json", tmp_path / "report.json")
    assert code == 2 and "error: The split train is not that of the size small: texts " in output
    assert "unfit:" in output and '"verdict": "unfit"' in (tmp_path / "report.json").read_text()


def test_what_another_pillow_draws_is_not_written(people, monkeypatch, bdam, tmp_path):
    drawn = checksums(changed(people, image=stored(people, "PNG", change=1)))
    monkeypatch.setitem(SIZES, "small", Size(ARGUMENTS, drawn))
    code, output = bdam("data", "pedestrians", tmp_path / "people", "--size", "small")
    assert code == 1 and "error: The split test is not that of the size small: pixels" in output
    assert f"pip install pillow=={PILLOW}" in output and not (tmp_path / "people").exists()


def test_numbers_that_are_not_given_are_those_of_the_size_small(tiny, bdam, tmp_path):
    bdam("data", "pedestrians", tmp_path / "people", "--train", 1, "--height", 48)
    drawn = generate_pedestrians(**{**ARGUMENTS, "num_train_persons": 1, "image_size": (48, 24)})
    assert checksums(load_data(tmp_path / "people")) == checksums(drawn)


@pytest.mark.parametrize("numbers", [("--train", 3), ("--seed", 0), ("--height", 64, "--outfits", 3)])
def test_a_size_is_not_mixed_with_numbers(numbers, bdam, tmp_path):
    code, output = bdam("data", "pedestrians", tmp_path / "people", "--size", "small", *numbers)
    assert code == 1 and "error: --size says what to draw: leave out" in output
    assert not (tmp_path / "people").exists()
