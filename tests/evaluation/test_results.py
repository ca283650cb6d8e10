"""The file of the results, and the README's table of them."""

import json
import shutil
from pathlib import Path

import leaderboard
import pytest
import results_table
from tiny import tiny_model

from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.evaluation.evaluate import evaluate_checkpoint
from bdam.evaluation.report import markdown_summary
from bdam.evaluation.results import Result, Results
from bdam.recipes.recipe import Recipe


ROOT = Path(__file__).parents[2]
RECORD = {
    **{"protocol": "standard", "gallery": "image", "query": "caption", "clothing_weight": 0.6},
    **{"r1": 12.5, "r5": 25.0, "r10": 50.0, "map": 20.1, "minp": 7.25, "chance": 0.8, "num_queries": 8},
    **{"num_gallery": 35.5, "split": "test", "checkpoint": "model", "weights": None, "data": "people", "seed": None},
    **{"commit": "abc1234", "mixed_precision": "no"},
}


def test_results_are_read_as_they_were_written(tmp_path):
    study = {**RECORD, "recipe": "full", "machine": "2 CPU cores", "seconds": 3.5}
    results = Results([Result(**RECORD), Result(**study)])
    results.to_json(tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == [RECORD, study] and [list(record) for record in written] == [list(RECORD), list(study)]
    assert Results.from_json(tmp_path / "results.json") == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("[", "holds no results: Invalid JSON"),
        ('{"rows": []}', "holds no results: Input should be a valid (array|list)"),
        (json.dumps([RECORD, {**RECORD, "r1": "high"}]), "holds no results: 1, r1: Input should be a valid number"),
        (json.dumps([{**RECORD, "protocol": "own"}]), "holds no results: 0, protocol: String should match"),
        (json.dumps([{**RECORD, "r2": 3}]), "holds no results: 0, r2: Extra inputs are not permitted"),
    ],
)
def test_a_file_of_anything_else_is_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Results.from_json(tmp_path / "results.json")


def test_checkpoints_are_scored_and_stamped(tmp_path, processor):
    data, model = tmp_path / "people", tmp_path / "model"
    generate_pedestrians(1, 1, 4, image_size=(32, 16)).save_to_disk(data)
    save_model(model, tiny_model(clothing_weight=0.3), processor, Recipe(data=str(data), output_dir="run", seed=3))
    results = evaluate_checkpoint(model, str(data), "test", use_cache=False)
    assert {result.clothing_weight for result in results} == {0.0, 0.3}
    assert {(result.checkpoint, result.data, result.split, result.seed) for result in results} == {
        (str(model), str(data), "test", 3)
    }
    assert {result.recipe for result in results} == {None} and results[0].commit and results[0].weights
    assert {result.seconds for result in results} == {None}
    twice = evaluate_checkpoint([str(model), str(model)], str(data), clothing_weights=(0.0, 0.3))
    assert twice == Results(2 * results)
    (model / "training.json").write_text('{"1 process on 2 CPU cores": 30, "1 process on NVIDIA H100": 12.5}')
    assert {result.seconds for result in evaluate_checkpoint(model, str(data))} == {42.5}


def test_the_readme_shows_the_results_that_are_published():
    results = Results.from_json(ROOT / "docs/results/demo.json")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert markdown_summary(results) in readme
    old = readme.replace(markdown_summary(results), "| an | older | table |")
    assert results_table.with_table(old, "results", markdown_summary(results)) == readme


def test_the_page_of_the_benchmark_shows_its_sizes_and_the_results_that_are_published():
    rows = {path.stem: leaderboard.read_row(path) for path in leaderboard.FOLDER.glob("*.json")}
    page = leaderboard.PAGE.read_text(encoding="utf-8")
    for name, table in (("sizes", leaderboard.sizes_table()), ("leaderboard", leaderboard.leaderboard(rows))):
        assert results_table.with_table(page, name, table) == page and table in page


def test_the_leaderboard_has_the_best_under_changed_clothes_first_and_the_time_of_each():
    results = leaderboard.read_row(leaderboard.FOLDER / "demo.json")
    better = [
        one.model_copy(update={"seed": seed, "r1": one.r1 + 1, "seconds": None}) for one in results for seed in (1, 2)
    ]
    header, _, first, second, chance = leaderboard.leaderboard({"demo": results, "better": better}).splitlines()
    assert first.startswith("| better | 1, 2 | – |") and "± 0.0" in first
    assert second.startswith(f"| demo | 0 | {results[0].seconds / 60:.1f} |") and chance.startswith("| chance |")
    assert "CUHK" not in header


def test_results_on_other_images_are_refused_by_the_leaderboard(tmp_path):
    shutil.copy(ROOT / "docs/results/demo.json", tmp_path / "demo.json")
    with pytest.raises(ValueError, match="demo.json is not of the 6,000 images of the split test of medium"):
        leaderboard.read_row(tmp_path / "demo.json")
