import os
import shutil
from pathlib import Path

import pytest
import yaml
from tiny import TEXT, VISION

from bdam.commands.training import parse_arguments
from bdam.recipes.recipe import Recipe, changed_keys, load_recipe, read_recipe, write_recipe
from bdam.recipes.yaml_text import dump_yaml, parse_yaml


PATHS = ["data=here", "output_dir=there"]
RECIPES = sorted(Path(__file__).parents[2].joinpath("recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(path):
    recipe = load_recipe(path, *PATHS)
    assert (recipe.data, recipe.output_dir) == ("here", os.path.abspath("there"))


def test_the_paper_recipe_has_the_papers_numbers():
    recipe = load_recipe(Path(__file__).parents[2] / "recipes/paper.yaml", *PATHS)
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
    recipe = load_recipe(first, second, *PATHS, *overrides)
    assert recipe.model == {"dropout": 0.3, "use_gate": False, "num_branch_layers": 2}
    assert (recipe.num_epochs, recipe.learning_rate, recipe.image_size) == (3, 5e-5, (64, 32))
    assert load_recipe(second, first, second, *PATHS).model["dropout"] == 0.3


# What YAML 1.2's core schema makes of a word, and YAML 1.1 makes something else of, or not.
WORDS = {
    **{word: word for word in ("no", "No", "off", "on", "yes", "y", "n", "1:30", "2001-01-01", "1_000", "0b11", "=")},
    **{"007": 7, "1e-3": 1e-3, "1E5": 1e5, "0o17": 15, "0x1F": 31, "017": 17, "~": None, "null": None, "": None},
    **{"true": True, "FALSE": False, "tRUE": "tRUE", "+.5e1": 5.0, ".5": 0.5, "-.inf": -float("inf"), "nan": "nan"},
    **{"<<": "<<", "0o8": "0o8", "-0x1": "-0x1", "+12": 12, "1.": 1.0, "'no'": "no", '"7"': "7"},
}


@pytest.mark.parametrize("word, value", WORDS.items())
def test_words_are_read_by_the_core_schema(word, value):
    found = parse_yaml(f"key: {word}", "x")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "value", [*WORDS, *WORDS.values(), 5e-5, 1e16, 10**20, "5e-5", "a: b", "é", "a\nb", " x", "#1"]
)
def test_what_is_written_is_read_back_by_readers_of_both_versions(value):
    text = dump_yaml({"key": value, "list": [value]})
    for values in (parse_yaml(text, "x"), yaml.safe_load(text)):
        assert values == {"key": value, "list": [value]} and type(values["key"]) is type(value)


def test_the_default_precision_can_be_written_down(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("mixed_precision: no\nlearning_rate: 1e-3\n")
    recipe = load_recipe(path, *PATHS)
    assert (recipe.mixed_precision, recipe.learning_rate) == ("no", 1e-3)
    assert load_recipe(path, *PATHS, "mixed_precision=bf16", "mixed_precision=no").mixed_precision == "no"


@pytest.mark.parametrize(
    "word", ["007", "true", "no", "1e3", "~", "x #1", "a: b", "[a", "{", "1_0", "2001-01-01", "'x"]
)
@pytest.mark.parametrize("key", ["data", "output_dir"])
def test_names_of_folders_are_taken_as_they_are_typed(tmp_path, monkeypatch, key, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).mkdir()
    expected = os.path.abspath(os.path.expanduser(word))
    assert getattr(load_recipe(*PATHS, f"{key}={word}"), key) == expected


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        ("num_epoch: 3", PATHS, "recipe.yaml: unknown key `num_epoch`"),
        ("[1, 2]", PATHS, "recipe.yaml must be a mapping"),
        ("num_epochs: [3", PATHS, "recipe.yaml is not valid YAML: line 1, column 15"),
        ("num_epochs: 0", PATHS, "recipe.yaml: `num_epochs`: .*greater than 0, got 0"),
        ("seed: 1", ["output_dir=there"], "recipe.yaml: `data` is missing: .*data=…"),
        ("seed: 1", [*PATHS, "loss_weights.triplet=2"], "unknown key `loss_weights.triplet`"),
        ("seed: 1", [*PATHS, "loss_delays.triplet=2"], "unknown key `loss_delays.triplet`"),
        ("seed: 1", [*PATHS, "mixed_precision=fp8"], "override 'mixed_precision=fp8': `mixed_precision`"),
        ("seed: 1", [*PATHS, "model.num_layers=3"], "override 'model.num_layers=3': unknown key `model.num_layers`"),
        ("seed: 1", [*PATHS, "model.vision_config={}"], "unknown key `model.vision_config`"),
        ("data: 007", PATHS[1:], "recipe.yaml: `data`: .* string, got 7: put it in quotes"),
        ("seed: 1\nseed: 2", PATHS, "line 2, column 1: found duplicate key, in `seed: 2`"),
        ("seed: 1\n---\nseed: 2", PATHS, "line 2, column 1: .*another document"),
        ("1: 2", PATHS, "recipe.yaml: `1`: Keys should be strings"),
        ("? [1]\n: 2", PATHS, "line 1, .* unhashable key"),
        ("seed: !!python/object:os.x 1", PATHS, "line 1, .* could not determine a constructor"),
        ("seed: !!int x", PATHS, "recipe.yaml is not valid YAML: a value is not what its tag says"),
        ("seed: " + "9" * 5000, PATHS, "recipe.yaml is not valid YAML: .* too long"),
        ("text_encoder: &a {b: *a}", PATHS, "recipe.yaml is too large"),
        ("text_encoder: " + "{a: " * 60 + "}" * 60, PATHS, "recipe.yaml is too large for a recipe: 50 levels"),
        ("a: " + "[" * 50_000, PATHS, "recipe.yaml is nested too deeply"),
        ("a: 1\n" * 250_000, PATHS, "recipe.yaml is too large for a recipe: 1,000,001 bytes"),
        ("seed: \x00", PATHS, "recipe.yaml is not valid YAML: special characters are not allowed at position 6"),
        ("vision_encoder: ~", PATHS, "`vision_encoder`: must be the name of an encoder, or a config, got None"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_recipe(path, *overrides)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("=5", "override '=5' must be KEY=VALUE"),
        ("model.=3", "override 'model.=3' must be KEY=VALUE"),
        (".model=3", "must be KEY=VALUE"),
        ("model..dropout=3", "must be KEY=VALUE"),
        ("a b=3", "must be KEY=VALUE"),
        ("model.dropout.x=1", "override 'model.dropout.x=1': `model.dropout`: .*number"),
        ("model.use_gate=no", "`model.use_gate`: .*boolean, got 'no': write true or false"),
        ("model.num_branch_layers=2.5", "`model.num_branch_layers`: .*integer"),
        ("model=5", "`model`: .*dictionary, got 5"),
        ("augment=true", "`augment`: .*list, got True"),
        ("augment=[blur]", "`augment.0`: .*'flip', 'shift' or 'erase', got 'blur'"),
        ("torch_compile=off", "`torch_compile`: .*boolean, got 'off': write true or false"),
        ("seed=1_0", "`seed`: .*integer, got '1_0'"),
        ("num_epochs=1:30", "`num_epochs`: .*integer, got '1:30'"),
        ("seed=99999999999", "`seed`: .*less than 4294967296"),
        ("persons_per_batch=1e9", "`persons_per_batch`: .*integer, got 1000000000.0"),
        ("learning_rate=.nan", "`learning_rate`: .*finite number, got nan"),
        ("loss_weights.triplet_loss=.inf", "`loss_weights.triplet_loss`: .*finite number, got inf"),
        ("image_size=[0,16]", "override 'image_size=\\[0,16\\]': `image_size.0`: .*greater than 0, got 0"),
        ("image_size=8", "`image_size`: .*tuple, got 8"),
        ("loss_weights=[", "value of the override 'loss_weights=\\[' is not valid YAML: line 1"),
        ("vision_encoder={a: 1, a: 2}", "found duplicate key"),
        ("data=", "override 'data=': `data`: .*at least 1 character"),
        ("model." + ".".join("a" * 5000) + "=1", "override 'model.a.a.a....a.a.a.a.a.a=1' is too large"),
        ("text_encoder=" + "[" * 5000, "nested too deeply"),
        ("learning_rate=\x00", "not valid YAML"),
        ("learning_rate=\ud800", "not valid YAML"),
        ("seed=\n1\n2", "`seed`: .*integer, got '1 2'"),
    ],
)
def test_an_override_that_is_none_is_named(override, message):
    with pytest.raises(ValueError, match=message) as error:
        load_recipe(*PATHS, "model.use_fusion=false", override)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_aliases_of_aliases_are_refused_before_they_are_expanded(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "recipe.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"recipe.yaml is too large for a recipe: .* with aliases expanded"):
        load_recipe(tmp_path / "recipe.yaml", *PATHS)


def test_a_file_in_utf_16_is_read_and_one_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "a=b.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("seed: 5  # é", encoding=encoding)
        assert load_recipe(str(path), *PATHS).seed == load_recipe(path, *PATHS).seed == 5
    path.write_bytes(bytes(range(9, 256)))
    with pytest.raises(ValueError, match="a=b.yaml is not valid YAML: .*: save it as text in UTF-8"):
        load_recipe(path, *PATHS)
    with pytest.raises(IsADirectoryError, match="is a folder: give the YAML file"):
        load_recipe(tmp_path, *PATHS)


@pytest.mark.parametrize("source", ["nowhere.yaml", "learning_rate"])
def test_what_is_neither_a_file_nor_an_override_is_named(source):
    with pytest.raises(FileNotFoundError, match=f"{source}.*key=value"):
        load_recipe(source)


def test_a_recipe_means_the_same_in_any_folder(tmp_path, monkeypatch):
    root = tmp_path / "a+b"
    for folder in ("saved+1", "CUHK", "vit"):
        (root / folder).mkdir(parents=True)
    sources = {
        "saved+1": f"{root}/saved+1",
        "./saved+1/../saved+1": f"{root}/saved+1",
        "cuhk-pedes:CUHK": f"cuhk-pedes:{root}/CUHK",
        "own:saved+1+cuhk-pedes:CUHK+saved+1": f"own:{root}/saved+1+cuhk-pedes:{root}/CUHK+{root}/saved+1",
        "own:gone": "own:gone",
        "own:gone+cuhk-pedes:CUHK": f"own:gone+cuhk-pedes:{root}/CUHK",
        "own:~/.": f"own:{Path.home()}",
        "mine:x": "mine:x",
    }
    for source, expected in sources.items():
        monkeypatch.chdir(root)
        encoders = ["vision_encoder=vit", "text_encoder=google-bert/bert-base-uncased"]
        recipe = load_recipe(f"data={source}", "output_dir=run", *encoders)
        assert recipe.data == expected and recipe.output_dir == f"{root}/run"
        assert (recipe.vision_encoder, recipe.text_encoder) == (f"{root}/vit", "google-bert/bert-base-uncased")
        write_recipe(root, recipe)
        monkeypatch.chdir(tmp_path)
        assert load_recipe(root / "recipe.yaml").model_dump() == recipe.model_dump() and not changed_keys(root, recipe)


def test_recipes_that_were_stored_as_typed_still_compare_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_recipe(tmp_path, Recipe(data="own:data", output_dir="run", vision_encoder=VISION, text_encoder=TEXT))
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml")["data"] == "own:data" and recipe.data == f"own:{tmp_path}/data"
    assert not changed_keys(tmp_path, recipe)
    shutil.copy(tmp_path / "recipe.yaml", tmp_path / "other.yaml")
    assert changed_keys(tmp_path, load_recipe(tmp_path / "other.yaml", "seed=1")) == {"seed": (0, 1)}


COMMANDS = [
    (["demo.yaml", "data=X", "--cpu", "output_dir=Y"], ["demo.yaml", "data=X", "output_dir=Y"], None, True),
    (
        ["--cpu", "demo.yaml", "data=X", "--keep-checkpoints", "3", "seed=1"],
        ["demo.yaml", "data=X", "seed=1"],
        None,
        True,
    ),
    (["demo.yaml", "--resume", "data=X", "seed=1"], ["demo.yaml", "data=X", "seed=1"], "latest", False),
    (["--resume", "demo.yaml", "--cpu", "data=X"], ["demo.yaml", "data=X"], "latest", True),
    (["demo.yaml", "data=X", "--resume"], ["demo.yaml", "data=X"], "latest", False),
    (
        ["demo.yaml", "--resume", "RUN/checkpoints/step_1", "data=X"],
        ["demo.yaml", "data=X"],
        "RUN/checkpoints/step_1",
        False,
    ),
    (["demo.yaml", "--resume=a=b", "data=X"], ["demo.yaml", "data=X"], "a=b", False),
]


@pytest.mark.parametrize("words, recipe, resume, cpu", COMMANDS)
def test_options_stand_anywhere(words, recipe, resume, cpu):
    arguments = parse_arguments(words)
    assert (arguments.recipe, arguments.resume, arguments.cpu) == (recipe, resume, cpu)


@pytest.mark.parametrize(
    "words, message",
    [
        (["demo.yaml", "--gpu", "data=X"], "unknown: --gpu. There are --resume [CHECKPOINT], --keep-checkpoints N"),
        (["demo.yaml", "--learning_rate=1e-4"], "keys of the recipe are written without dashes"),
        (["--cpu"], "recipe"),
        (["demo.yaml", "--keep-checkpoints", "0"], "must be a whole number from 1, got '0'"),
        (["demo.yaml", "--keep-checkpoints", "1_0"], "must be a whole number from 1, got '1_0'"),
    ],
)
def test_unknown_options_say_what_is_known(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(words)
    assert stop.value.code == 2 and message in " ".join(capsys.readouterr().err.split())
