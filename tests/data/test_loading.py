import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from bdam.data.images import read_column
from bdam.data.loading import load_data, load_split, load_training_data
from bdam.data.pedestrians import generate_pedestrians


def test_images_are_opened_where_they_are_looked_at(tmp_path):
    data = generate_pedestrians(2, 1, 1, 1, 1, image_size=(32, 16))
    data.save_to_disk(tmp_path)
    loaded = load_data(tmp_path)
    assert set(loaded) == {"train", "validation", "test"}
    assert loaded["train"][0]["image"].size == (16, 32)
    assert list(loaded["train"]["captions"]) == list(data["train"]["captions"])


def test_an_unreadable_image_is_named(tmp_path):
    data = generate_pedestrians(1, 0, 0, 1, 2, image_size=(32, 16))["train"]
    rows = [{**row, "image": {"bytes": b"no image", "path": None}} for row in data]
    DatasetDict(train=Dataset.from_list(rows, features=data.features)).save_to_disk(tmp_path)
    dataset = load_data(tmp_path)["train"]
    assert len(dataset["person_id"]) == 2
    with pytest.raises(ValueError, match=r"image train/0000/0/00.png cannot be read .*: restore or remove it"):
        dataset[0]


def test_a_missing_data_set_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="bdam data pedestrians"):
        load_data(tmp_path / "nowhere")
    data = generate_pedestrians(1, 0, 0, 1, 1, image_size=(32, 16))
    data.remove_columns("captions").save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"split 'train': columns \['captions'\] are missing"):
        load_data(tmp_path)


def save_own(root: Path, captions: list[str] | None = None) -> str:
    """Own data of ten persons for training and one for testing, two images each, as `--data` names them."""
    root.mkdir()
    records = [
        {"image": f"{person}{side}.png", "person_id": person, "outfit_id": side, "split": split}
        | ({"captions": [f"Person {person} from the {side}."]} if captions is None else {"captions": captions})
        for person in range(11)
        for side in ("left", "right")
        for split in ("train" if person < 10 else "test",)
    ]
    for record in records:
        Image.new("RGB", (4, 8), "red").save(root / record["image"])
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, records)))
    return f"own:{root}"


def test_benchmarks_and_saved_data_join_without_mixing_up_persons(tmp_path):
    generate_pedestrians(3, 1, 1, 2, 1, image_size=(32, 16)).save_to_disk(tmp_path / "saved")
    saved, own = load_data(tmp_path / "saved"), load_data(save_own(tmp_path / "own"))
    joined = load_data(f"own:{tmp_path / 'own'}+{tmp_path / 'saved'}+own:{tmp_path / 'own'}")
    assert set(joined) == {"train", "validation", "test"}
    for column in ("person_id", "outfit_id"):

        def ids(data, column=column) -> set[int]:
            return {number for rows in data.values() for number in read_column(rows, column)}

        assert len(ids(joined)) == 2 * len(ids(own)) + len(ids(saved))
    assert read_column(joined["test"], "person_id")[:2] == read_column(own["test"], "person_id")
    assert [row["image"].size for row in joined["test"]] == [(4, 8)] * 2 + [(16, 32)] * 2 + [(4, 8)] * 2
    assert "1 persons of train were held out by seed 0" in joined["train"].info.description


def test_what_is_no_data_set_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="cuhk:/data is no benchmark: give NAME:ROOT, where NAME is one of cuhk-pedes"
    ):
        load_data("cuhk:/data")
    with pytest.raises(FileNotFoundError, match="No folder at .*/nowhere"):
        load_data(f"{save_own(tmp_path / 'own')}+own:{tmp_path}/nowhere")
    with pytest.raises(ValueError, match="has no split 'dev': it has train, validation, test"):
        load_split(f"own:{tmp_path / 'own'}", "dev")


def test_training_needs_captions_and_a_validation_split(tmp_path):
    assert set(load_training_data(save_own(tmp_path / "fit"))) == {"train", "validation", "test"}
    with pytest.raises(ValueError, match="split 'train': 18 of 18 images have no captions, .*: write some, or train"):
        load_training_data(save_own(tmp_path / "uncaptioned", captions=[]))
    generate_pedestrians(1, 0, 0, 1, 1, image_size=(32, 16)).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="has no split 'validation': it has train"):
        load_training_data(tmp_path / "saved")
