"""From data on disk to ranked people: train, evaluate and search, as the README does."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tiny import TINY_RUN, save_dual_encoder

from bdam import cli
from bdam.data.descriptions import Description, write_descriptions
from bdam.data.loading import load_data
from bdam.data.pedestrians import generate_pedestrians
from bdam.evaluation.calibration import Calibration
from bdam.evaluation.evaluate import calibrate_checkpoint
from bdam.recipes.recipe import load_recipe
from bdam.retrieval.gallery import Gallery
from bdam.training.loop import train


ROOT = Path(__file__).parents[1]
SMALL = [*TINY_RUN, "num_epochs=2", "loss_delays.decoupling_loss=1", "eval_every=1", "log_every=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with `data/` and a trained `model/`."""
    folder = tmp_path_factory.mktemp("run")
    generate_pedestrians(8, 4, 5, image_size=(32, 16)).save_to_disk(folder / "data")
    places = [f"data={folder / 'data'}", f"output_dir={folder}", "seed=7"]
    train(load_recipe(ROOT / "recipes/demo.yaml", *places, *SMALL))
    return folder


def test_training_leaves_a_model_and_a_log(run):
    names = {path.name for path in (run / "model").iterdir()}
    assert {"model.safetensors", "config.json", "processing_bdam.py", "recipe.yaml"} <= names
    assert {"modeling_bdam.py", "encoders_bdam.py", "losses_bdam.py", "mamba_bdam.py", "outputs_bdam.py"} <= names
    assert not list(run.glob("*.partial"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum("validation_score" in line for line in log) == 2
    steps = [line for line in log if "loss" in line]
    assert len(steps) == 8 and all(line["identity_feature_spread"] > 0 for line in steps)
    assert [line["decoupling_loss"] > 0 for line in steps] == [False] * 4 + [True] * 4


def test_training_calibrates_the_model_that_it_keeps(tmp_path):
    generate_pedestrians(4, 20, 1, image_size=(32, 16)).save_to_disk(tmp_path / "data")
    places = [f"data={tmp_path / 'data'}", f"output_dir={tmp_path / 'run'}"]
    train(load_recipe(ROOT / "recipes/demo.yaml", *places, *SMALL, "num_epochs=1"))
    calibration = Calibration.load(tmp_path / "run/model")
    assert calibrate_checkpoint(tmp_path / "run/model", str(tmp_path / "data")).num_persons == 20
    again = Calibration.load(tmp_path / "run/model")
    for kind in ("caption", "identity_description"):
        for one, other in zip(calibration.queries[kind].scores, again.queries[kind].scores, strict=True):
            assert one.right == pytest.approx(other.right, abs=1e-4)
            assert one.wrong == pytest.approx(other.wrong, abs=1e-4)


def test_evaluation_writes_the_records_that_it_shows(run, bdam):
    results = run / "results.json"
    code, output = bdam(
        "evaluate",
        run / "model",
        "--data",
        run / "data",
        "--output",
        results,
        "--clothing-weight",
        0.5,
    )
    assert code == 0 and "clothes-changed" in output and "image+description" in output
    records = json.loads(results.read_text())
    assert {record["seed"] for record in records} == {7}
    assert {record["num_gallery"] for record in records} == {5 * 2 * 2}
    assert {record["clothing_weight"] for record in records} == {0, 0.5}
    assert all(0 <= record["r1"] <= record["r5"] <= record["r10"] <= 100 for record in records)


def test_a_gallery_is_indexed_and_searched(run, bdam, monkeypatch, capsys):
    places, gallery, grid = (run / "model", run / "data"), run / "gallery", run / "grid.png"
    for added in (20, 0):
        code, output = bdam("index", *places, gallery)
        assert code == 0 and f"20 images, {added} of them new." in output
    sentence = "A tall man in a red coat."
    code, output = bdam("search", gallery, sentence, "--grid", grid, "--k", 3)
    assert code == 0 and sentence in output and output.count(".png") == 3
    with Image.open(grid) as image:
        assert image.width > 100

    monkeypatch.setattr(sys, "argv", ["bdam", "search", str(gallery), sentence, "--k", "3", "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    (answer,) = json.loads(capsys.readouterr().out)
    hits = Gallery.load(gallery).search(sentence, k=3)
    assert answer == {
        "query": sentence,
        "warnings": [],
        "confidence": None,
        "meaning": f"`bdam calibrate {run / 'model'} --data DATA` fits what scores mean.",
        "hits": [asdict(hit) for hit in hits],
    }

    person = hits[0].row["person_id"]
    options = ["--like", hits[0].image_id, "--filter", f"person_id={person}", "--clothing-weight", 0]
    code, output = bdam("search", gallery, *options)
    assert code == 0 and output.count(f"test/{person:04}/") == 4  # the example in the title, and the person's others
    for wrong, message in (
        ("shelf=1", "Nothing to filter by is called 'shelf'"),
        ("shelf", "--filter must be COLUMN="),
    ):
        code, output = bdam("search", gallery, sentence, "--filter", wrong)
        assert code == 1 and f"error: {message}" in output


def test_images_can_be_indexed_with_their_descriptions_and_pruned(run, bdam):
    folder, gallery = run / "images", run / "described"
    names = load_data(run / "data")["test"]["image_id"][:3]
    for row in load_data(run / "data")["test"].select(range(3)):
        (folder / row["image_id"]).parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / row["image_id"])
    code, output = bdam("index", run / "model", folder, gallery, "--descriptions")
    assert code == 1 and f"error: No descriptions at {folder}/descriptions.jsonl: write them by" in output
    lines = [{"image_id": name, "identity_description": "A man."} for name in names]
    (folder / "descriptions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, output = bdam("index", run / "model", folder, gallery, "--descriptions", "--index", "hnsw")
    assert code == 0 and "3 images, 3 of them new." in output, output
    assert "Of the first ten images of an exact search, hnsw finds 100.0% at clothing weight 0" in output
    (folder / names[0]).unlink()
    code, output = bdam("index", run / "model", folder, gallery, "--prune")
    assert code == 0 and f"removed {names[0]}" in output and "2 images, 0 of them new, 1 removed." in output


@pytest.fixture(scope="module")
def benchmark(run, tmp_path_factory) -> Path:
    """
    The same people as one's own data: captions alone in train and validation, and descriptions alone in test, as
    `bdam caption` writes them.
    """
    root = tmp_path_factory.mktemp("benchmark")
    records, descriptions = [], []
    for split, rows in load_data(run / "data").items():
        for index, row in enumerate(rows):
            image = f"{split}/{index}.png"
            (root / split).mkdir(exist_ok=True)
            row["image"].save(root / image)
            captions = [] if split == "test" else row["captions"]
            ids = {name: row[name] for name in ("person_id", "outfit_id")}
            records.append({"image": image, "captions": captions, "split": split, **ids})
            texts = {name: row[name] for name in ("identity_description", "clothing_description")}
            if split == "test" or index == 0:
                descriptions.append(Description(image_id=image, **texts, model="m", prompt_version="1"))
    (root / "annotations.jsonl").write_text("\n".join(map(json.dumps, records)))
    write_descriptions(root / "descriptions.jsonl", descriptions)
    return root


def test_a_benchmark_trains_and_is_evaluated_with_the_texts_that_it_has(benchmark, tmp_path, bdam):
    places = [f"data=own:{benchmark}", f"output_dir={tmp_path}"]
    train(load_recipe(ROOT / "recipes/demo.yaml", *places, *SMALL))
    queries = {"validation": {"caption", "identity_description"}, "test": {"identity_description"}}
    # Of the validation split, one image alone is described.
    galleries = {
        "validation": {"image", "image+description"},
        "test": {"image", "image+description", "description"},
    }
    for split in queries:
        arguments = ("evaluate", tmp_path / "model", "--data", f"own:{benchmark}", "--split", split)
        code, output = bdam(*arguments, "--output", tmp_path / "results.json")
        assert code == 0, output
        records = json.loads((tmp_path / "results.json").read_text())
        assert {record["query"] for record in records} == queries[split]
        assert {record["gallery"] for record in records} == galleries[split]


def test_other_models_stand_in_the_same_table(run, processor, tmp_path, bdam):
    """BDAM and a CLIP, both on a benchmark with published results."""
    save_dual_encoder("CLIP", processor.tokenizer, tmp_path / "clip")
    records = []
    (tmp_path / "imgs").mkdir()
    for index, row in enumerate(load_data(run / "data")["test"]):
        row["image"].save(tmp_path / f"imgs/{index}.png")
        captions = row["captions"][:2]
        records.append({"id": row["person_id"], "img_path": f"{index}.png", "captions": captions, "split": "test"})
    (tmp_path / "data_captions.json").write_text(json.dumps(records))
    models = [str(run / "model"), str(tmp_path / "clip")]
    results = tmp_path / "results.json"
    arguments = ("evaluate", *models, "--data", f"rstpreid:{tmp_path}", "--image-to-text", "--output", results)
    code, output = bdam(*arguments)
    assert code == 0, output
    assert "This split has 20 images, not the 1,000 published: the two do not compare." in output
    assert "model 2:" in output and "published: Jiang" in output and "72.50" in output
    records = json.loads(results.read_text())
    assert {(record["checkpoint"], record["gallery"]) for record in records} == {
        (model, gallery) for model in models for gallery in ("image", "caption")
    }
    assert all(record["data"] == f"rstpreid:{tmp_path}" and record["commit"] for record in records)


def test_images_without_any_text_cannot_be_evaluated(run, benchmark, tmp_path, bdam):
    shutil.copytree(benchmark, tmp_path / "bare")
    (tmp_path / "bare/descriptions.jsonl").unlink()
    code, output = bdam("evaluate", run / "model", "--data", f"own:{tmp_path / 'bare'}")
    assert code == 1 and "error: The split has nothing to search by: give its images captions" in output


def test_mistakes_are_one_clear_line(run, bdam, tmp_path):
    shutil.copytree(run / "model", tmp_path / "weightless")
    (tmp_path / "weightless/model.safetensors").unlink()
    for model, data, extra, message in [
        (tmp_path, run / "data", [], "holds no model"),
        (tmp_path / "weightless", run / "data", [], "holds no weights"),
        (run / "model", tmp_path, [], "No data set at"),
        (run / "model", run / "data", ["--split", "dev"], "has no split 'dev': it has train, validation, test"),
    ]:
        code, output = bdam("evaluate", model, "--data", data, *extra)
        assert code == 1 and output.startswith("error:") and message in output


@pytest.mark.parametrize("start", [[ROOT / "train_accelerate.py"], ["-m", "bdam.cli", "train"]])
def test_the_training_script_names_a_mistake_and_stops(start):
    command = [sys.executable, *start, ROOT / "recipes/demo.yaml", "learning_rat=1", "data=d"]
    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 1
    assert "error: Recipe" in stopped.stderr and "unknown key `learning_rat`" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_the_wrong_field_of_a_model_is_named(run):
    with pytest.raises(ValueError, match="unknown key `model.num_layers`"):
        load_recipe(ROOT / "recipes/demo.yaml", "data=d", "output_dir=o", "model.num_layers=3")


def test_the_environment_is_described(bdam):
    code, output = bdam("env")
    assert code == 0
    assert f"torch {torch.__version__}" in output and f"transformers {transformers.__version__}" in output
    assert "selective scan" in output and "pytest" not in output


def test_several_data_sets_make_a_table_across_them(run, bdam, tmp_path):
    generate_pedestrians(0, 0, 3, 1, 2, image_size=(32, 16)).save_to_disk(tmp_path / "others")
    places = ["--data", run / "data", "--data", tmp_path / "others", "--output", tmp_path / "results.json"]
    code, output = bdam("evaluate", run / "model", *places)
    assert code == 0 and "R-1 / mAP (%), standard protocol, by caption" in output
    records = json.loads((tmp_path / "results.json").read_text())
    assert {record["data"]: record["num_gallery"] for record in records} == {
        str(run / "data"): 20,
        str(tmp_path / "others"): 6,
    }
    code, output = bdam("evaluate", run / "model", *places[:4], "--trade-off", tmp_path / "figure.png")
    assert code == 1 and "--trade-off draws one data set" in output


def test_a_run_goes_on_from_a_trained_model(run, tmp_path):
    sources = ["recipes/demo.yaml", *SMALL, f"data={run / 'data'}", f"checkpoint={run / 'model'}"]
    changes = ["num_epochs=1", "learning_rate=1e-12", f"output_dir={tmp_path}"]
    assert train(load_recipe(*(str(ROOT / sources[0]), *sources[1:], *changes)), cpu=True) == 0
    before, after = (load_file(folder / "model/model.safetensors") for folder in (run, tmp_path))
    for name, weight in before.items():
        if weight.is_floating_point() and "running" not in name:
            torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
