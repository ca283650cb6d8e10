import pytest
from datasets import Dataset, DatasetDict

from bdam.data.loading import load_data
from bdam.data.pedestrians import generate_pedestrians


def test_pictures_are_opened_where_they_are_looked_at(tmp_path):
    data = generate_pedestrians(2, 1, 1, 1, 1, image_size=(32, 16))
    data.save_to_disk(tmp_path)
    loaded = load_data(tmp_path)
    assert set(loaded) == {"train", "validation", "test"}
    assert loaded["train"][0]["image"].size == (16, 32)
    assert list(loaded["train"]["captions"]) == list(data["train"]["captions"])


def test_an_unreadable_picture_is_named(tmp_path):
    data = generate_pedestrians(1, 0, 0, 1, 2, image_size=(32, 16))["train"]
    rows = [{**row, "image": {"bytes": b"no picture", "path": None}} for row in data]
    DatasetDict(train=Dataset.from_list(rows, features=data.features)).save_to_disk(tmp_path)
    dataset = load_data(tmp_path)["train"]
    assert len(dataset["person_id"]) == 2
    with pytest.raises(ValueError, match=r"picture train/0000/0/00.png cannot be read .*: restore or remove it"):
        dataset[0]


def test_a_missing_data_set_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="bdam data pedestrians"):
        load_data(tmp_path / "nowhere")
    data = generate_pedestrians(1, 0, 0, 1, 1, image_size=(32, 16))
    data.remove_columns("captions").save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"split 'train': columns \['captions'\] are missing"):
        load_data(tmp_path)
