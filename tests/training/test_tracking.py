import json
from pathlib import Path

import pytest

from bdam.recipes.recipe import load_recipe
from bdam.training.tracking import JSONLTracker, check_trackers, hyperparameters, tracker_options


def test_a_tracker_that_is_not_there_is_named():
    check_trackers([])
    with pytest.raises(ValueError, match=r"names nowhere, which is not installed.*pip install bdam\[tracking\]"):
        check_trackers(["nowhere"])


def test_hyperparameters_are_flat():
    recipe = load_recipe("data=d", "output_dir=o", "model.dropout=0.2", "text_encoder={model_type: bert}")
    values = hyperparameters(recipe)
    assert (values["model.dropout"], values["text_encoder.model_type"]) == (0.2, "bert")
    assert (values["loss_weights.triplet_loss"], values["image_size"], values["seed"]) == (1.0, "[224, 224]", 0)


def test_the_runs_of_a_study_have_names_of_their_own_on_a_dashboard():
    runs = [Path("study", recipe, "seed-0") for recipe in ("full", "baseline")]
    first, second = (tracker_options(run, is_resumed=False)["trackio"] for run in runs)
    assert first == {"name": "full/seed-0", "group": "full", "resume": "never"}
    assert second["name"] != first["name"]
    assert tracker_options(runs[0], is_resumed=True)["trackio"] == {**first, "resume": "allow"}


def test_a_resumed_log_forgets_what_the_lost_steps_logged(tmp_path):
    tracker = JSONLTracker(tmp_path)
    tracker.store_init_configuration({})
    tracker.log({"loss": 2.0}, step=1)
    state = tracker.state_dict()
    tracker.log({"loss": 1.0}, step=2)
    with tracker.path.open("a") as file:
        file.write('{"step": 3, "lo')

    resumed = JSONLTracker(tmp_path)
    resumed.load_state_dict(state)
    resumed.store_init_configuration({})
    resumed.log({"loss": 0.5}, step=2)
    lines = [json.loads(line) for line in tracker.path.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 0.5}]
