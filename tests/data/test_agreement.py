"""How far the samples of a description agree, from descriptions.jsonl to the rows that training reads."""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image
from tiny import tiny_batch, tiny_model

from bdam.data.benchmarks import read_rows
from bdam.data.images import read_column
from bdam.data.loading import load_data
from bdam.data.schema import AGREEMENT_FEATURES, FEATURES
from bdam.recipes.recipe import Recipe, changed_keys
from bdam.training.building import check_agreement


IMAGES = ("0.png", "1.png", "2.png", "3.png")


def own(root: Path, *agreements: dict | None) -> str:
    """Four images of two persons, described with these agreements; the last has no agreement at all."""
    root.mkdir()
    for image in IMAGES:
        Image.new("RGB", (16, 32)).save(root / image)
    records = [
        {"image": image, "person_id": number // 2, "caption": "A man.", "split": "train" if number < 2 else "test"}
        for number, image in enumerate(IMAGES)
    ]
    described = [
        {"image_id": image, "identity_description": "Tall.", "clothing_description": "A coat.", "agreement": agreement}
        for image, agreement in zip(IMAGES, agreements, strict=False)
    ]
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, records)))
    (root / "descriptions.jsonl").write_text("\n".join(map(json.dumps, described)))
    return f"own:{root}"


def test_rows_know_the_mean_agreement_of_each_kind(tmp_path):
    both = {"identity": {"gender": 1.0, "age": 0.5}, "clothing": {"upper": 0.25}}
    data = load_data(own(tmp_path / "people", both, {"identity": {"age": 0.5}}, {}))
    assert data["train"].features.keys() == {**FEATURES, **AGREEMENT_FEATURES}.keys()
    assert read_column(data["train"], "identity_agreement") == [0.75, 0.5]
    assert read_column(data["train"], "clothing_agreement") == [0.25, None]
    assert read_column(data["test"], "identity_agreement") == [None, None]


def test_data_without_it_has_no_such_columns_and_joins_with_data_that_has(tmp_path):
    own(tmp_path / "plain", {})
    plain = read_rows("own", tmp_path / "plain")
    assert plain["train"].features.keys() == FEATURES.keys()
    plain.save_to_disk(tmp_path / "saved")
    agreeing = own(tmp_path / "agreeing", {"identity": {"age": 0.5}})
    for sources, expected in (
        (f"{tmp_path / 'saved'}+{agreeing}", [None, None, 0.5, None]),
        (f"{agreeing}+{tmp_path / 'saved'}", [0.5, None, None, None]),
    ):
        assert read_column(load_data(sources)["train"], "identity_agreement") == expected
    read_rows("own", tmp_path / "agreeing").save_to_disk(tmp_path / "again")
    assert read_column(load_data(tmp_path / "again")["train"], "identity_agreement") == [0.5, None]


@pytest.mark.parametrize(
    "agreement",
    [
        {"identity": {"age": 0}},
        {"identity": {"age": 1.5}},
        {"clothing": {"upper": -0.5}},
        {"clothing": {"upper": "most"}},
        {"clothing": {"upper": float("nan")}},
        {"clothing": {"upper": None}},
        {"identity": 0.5},
        {"posture": {"legs": 0.5}},
        [0.5],
    ],
)
def test_what_is_no_share_is_named_with_its_file_and_record(tmp_path, agreement):
    source = own(tmp_path / "people", {}, agreement)
    with pytest.raises(ValueError, match="descriptions.jsonl, line 2: `agreement`: .*correct or remove the record"):
        load_data(source)


def test_weighing_needs_something_to_weigh_by(tmp_path):
    recipe = Recipe(data="people", output_dir=str(tmp_path), weigh_by_agreement=True)
    plain = Dataset.from_dict({"image_id": ["a"]})
    with pytest.raises(ValueError, match="`weigh_by_agreement` is on, but no image of .*--samples N"):
        check_agreement(recipe, plain)
    check_agreement(recipe, plain.add_column("identity_agreement", [0.5]))
    check_agreement(recipe.model_copy(update={"weigh_by_agreement": False}), plain)


def test_a_recipe_that_does_not_state_a_newer_key_has_not_changed(tmp_path):
    recipe = Recipe(data=str(tmp_path), output_dir=str(tmp_path))
    lines = [f"{name}: {json.dumps(value)}" for name, value in recipe.model_dump(mode="json").items()]
    (tmp_path / "recipe.yaml").write_text("\n".join(line for line in lines if "weigh_by" not in line))
    assert changed_keys(tmp_path, recipe) == {}
    on = recipe.model_copy(update={"weigh_by_agreement": True})
    assert changed_keys(tmp_path, on) == {"weigh_by_agreement": (False, True)}


@pytest.mark.parametrize("symmetric", [True, False])
def test_agreement_weighs_the_loss_that_learns_from_the_description_and_no_other(symmetric):
    model, batch = tiny_model(symmetric_contrast=symmetric), tiny_batch()
    plain = model(**batch, return_loss=True)
    names = list(plain.loss_dict)
    assert len(names) > 3

    def changed(**agreement) -> set[str]:
        outputs = model(**batch, **agreement, return_loss=True)
        return {name for name in names if not outputs.loss_dict[name].equal(plain.loss_dict[name])}

    ones, some = plain.logits_per_image.new_ones(4), plain.logits_per_image.new_tensor([1.0, 0.5, 0.25, 0.75])
    assert changed(identity_agreement=ones, clothing_agreement=ones) == set()
    assert changed(identity_agreement=some) == {"identity_query_loss"}
    assert changed(clothing_agreement=some) == {"alignment_loss"}
    with pytest.raises(ValueError, match="Batch sizes must agree, got .*`identity_agreement` 3"):
        model(**batch, identity_agreement=ones[:3], return_loss=True)
