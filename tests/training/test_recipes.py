from pathlib import Path

import pytest

from bdam.training.recipes import load_recipe


PLACES = ["data=here", "output_dir=there"]
RECIPES = sorted(Path(__file__).parents[2].joinpath("recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(path):
    recipe = load_recipe(path, *PLACES)
    assert (recipe.data, recipe.output_dir) == ("here", "there")


def test_the_paper_recipe_has_the_papers_numbers():
    recipe = load_recipe(Path(__file__).parents[2] / "recipes/paper.yaml", *PLACES)
    assert (recipe.learning_rate, recipe.weight_decay, recipe.image_size) == (1e-4, 1e-3, (224, 224))
    assert (recipe.vision_encoder, recipe.text_encoder) == (
        "google/vit-base-patch16-224",
        "google-bert/bert-base-uncased",
    )


def test_the_later_source_wins_and_states_only_what_it_changes(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("num_epochs: 3\nmodel: {dropout: 0.2, use_gate: false}\n")
    second.write_text("model: {dropout: 0.3}\n")
    overrides = ["model.num_branch_layers=2", "learning_rate=5e-5", "image_size=[64, 32]"]
    recipe = load_recipe(first, second, *PLACES, *overrides)
    assert recipe.model == {"dropout": 0.3, "use_gate": False, "num_branch_layers": 2}
    assert (recipe.num_epochs, recipe.learning_rate, recipe.image_size) == (3, 5e-5, (64, 32))


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        ("num_epoch: 3", PLACES, "recipe.yaml: unknown key `num_epoch`"),
        ("[1, 2]", PLACES, "must be a mapping"),
        ("num_epochs: [3", PLACES, "not valid YAML"),
        ("num_epochs: 0", PLACES, "`num_epochs`: .*greater than 0, got 0"),
        ("seed: 1", ["output_dir=there"], "`data` is missing: .*data=…"),
        ("seed: 1", [*PLACES, "loss_weights.triplet=2"], "unknown key `loss_weights.triplet`"),
        ("seed: 1", [*PLACES, "mixed_precision=fp8"], "`mixed_precision`"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(path, *overrides)


@pytest.mark.parametrize("source", ["nowhere.yaml", "learning_rate"])
def test_what_is_neither_a_file_nor_an_override_is_named(source):
    with pytest.raises(FileNotFoundError, match=f"{source}.*key=value"):
        load_recipe(source)
