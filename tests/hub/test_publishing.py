"""From a run to a repository that a stranger can load, and nothing else goes up."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from loopback_hub import LoopbackHub, serve
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, tiny_model

import push_to_hub
from bdam import cli
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import load_model, save_model
from bdam.evaluation.calibration import Calibration
from bdam.hub.publishing import publish, stage
from bdam.recipes.recipe import Recipe


# huggingface_hub's own way of sending bytes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).parents[2]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
UPLOADED = {
    *("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("configuration_bdam.py", "encoders_bdam.py", "losses_bdam.py", "mamba_bdam.py", "modeling_bdam.py"),
    *("outputs_bdam.py", "processing_bdam.py"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("calibration.json", "recipe.yaml", "results.json", "README.md"),
    *("gates.png", "successes.png", "failures.png"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request) -> Path:
    """A run as training, `bdam evaluate` and `bdam analyze` leave it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    data = run.with_name("people")
    generate_pedestrians(2, 2, 8, image_size=(32, 16)).save_to_disk(data)
    processor = request.getfixturevalue("processor")
    save_model(run / "model", tiny_model(), processor, Recipe(data=str(data), output_dir=str(run), seed=3))
    Calibration(num_images=4, num_persons=20, queries={}).save(run / "model")
    (run / "log.jsonl").write_text('{"step": 1, "info_nce_loss": 4.0}\n')
    for command in (["evaluate", run / "model", "--data", data, "--output", run / "results.json"], ["analyze", run]):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
            patch.setattr(sys, "argv", ["bdam", *map(str, command)])
            cli.main()
        assert not stop.value.code
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def push(run: Path, repo_id: str, hub: LoopbackHub) -> subprocess.CompletedProcess:
    """The entry point in a process of its own, which knows the Hub on loopback alone."""
    home = run.with_name("home")
    environment = {**os.environ, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "push_to_hub.py", run, repo_id]
    pushed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert TOKEN not in pushed.stdout + pushed.stderr
    return pushed


STRANGER = """
import sys, torch
from transformers import AutoModel, AutoProcessor
repo_id, output, *sentences = sys.argv[1:]
model = AutoModel.from_pretrained(repo_id, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(repo_id, trust_remote_code=True)
with torch.inference_mode():
    torch.save(model.get_text_features(**processor(text=sentences, return_tensors="pt")).pooler_output, output)
"""


def test_a_run_becomes_a_repository_that_a_stranger_loads(run, tmp_path):
    for name, content in {"optimizer.bin": b"x", ".env": b"HF_TOKEN=1", "notes.txt": bytes(tmp_path)}.items():
        (run / "model" / name).write_bytes(content)
    (run / "checkpoints/step_1").mkdir(parents=True)
    (run / "checkpoints/step_1/optimizer.bin").write_bytes(b"x")
    with serve() as hub:
        pushed = push(run, "jane/people", hub)
        assert pushed.returncode == 0, pushed.stderr
        assert f"Published: {hub.url}/jane/people/commit/" in pushed.stdout
        repository = hub.repositories["jane/people"]
        assert set(repository.branches["main"]) - {".gitattributes"} == UPLOADED
        assert len(repository.commits) == 1 and not repository.private

        environment = {**os.environ, "HF_HOME": str(tmp_path / "stranger"), "HF_ENDPOINT": hub.url}
        environment |= {"HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-I", "-c", STRANGER, "jane/people", str(tmp_path / "out.pt"), *SENTENCES]
        stranger = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert stranger.returncode == 0, stranger.stderr
        model, processor = load_model(run / "model")
        with torch.inference_mode():
            expected = model.get_text_features(**processor(text=SENTENCES, return_tensors="pt")).pooler_output
        assert torch.equal(torch.load(tmp_path / "out.pt"), expected)


@pytest.fixture(scope="module")
def staged(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("staged") / "people"
    stage(finished, "jane/people", folder)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LoopbackHub]:
    """The only Hub that this process knows."""
    with serve() as hub:
        changes = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_an_interrupted_upload_leaves_the_repository_as_it_was(staged, hub):
    hub.failing = "POST /api/models/jane/people/commit"
    with pytest.raises(ConnectionError, match="jane/people is unchanged, .* then run the command again"):
        publish(staged, "jane/people")
    assert not hub.repositories["jane/people"].branches["main"]
    hub.failing = None
    sent = sum(request.startswith("PUT /lfs") for request in hub.requests)
    publish(staged, "jane/people")
    assert sum(request.startswith("PUT /lfs") for request in hub.requests) == sent  # what had arrived is there


def test_a_second_push_updates_what_has_changed(staged, hub, tmp_path):
    publish(staged, "jane/people", private=True)
    repository = hub.repositories["jane/people"]
    assert repository.private
    changed = shutil.copytree(staged, tmp_path / "changed")
    (changed / "README.md").write_text("---\nlicense: mit\n---\n")
    publish(changed, "jane/people", revision="v2")
    publish(changed, "jane/people", revision="v2")
    assert repository.branches["v2"]["README.md"] != repository.branches["main"]["README.md"]
    assert {commit["revision"] for commit in repository.commits} == {"main", "v2"}
    before = dict(repository.branches["main"])
    assert publish(changed, "jane/people", create_pr=True) == f"{hub.url}/jane/people/discussions/1"
    assert repository.branches["main"] == before != repository.branches["refs/pr/1"]


def test_the_calibration_of_a_published_model_is_found(finished, staged, hub):
    publish(staged, "jane/people")
    assert Calibration.load("jane/people") == Calibration.load(finished / "model")
    del hub.repositories["jane/people"].branches["main"]["calibration.json"]
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert Calibration.load("jane/people") is None


def test_the_repository_of_another_model_is_left_alone(staged, hub):
    publish(staged, "jane/people")
    files = hub.repositories["jane/people"].branches["main"]
    files["config.json"] = b'{"model_type": "clip"}'
    before = dict(files)
    with pytest.raises(ValueError, match="jane/people holds another model, of type 'clip': give another name"):
        publish(staged, "jane/people")
    assert hub.repositories["jane/people"].branches["main"] == before


@pytest.mark.parametrize("app, command", [(push_to_hub.app, ["push_to_hub.py"]), (cli.app, ["bdam", "push"])])
def test_a_dry_run_uploads_nothing(app, command, finished, tmp_path, monkeypatch, capsys, hub):
    folder = tmp_path / "staged"
    monkeypatch.setattr(sys, "argv", [*command, str(finished), "jane/people", "--dry-run", str(folder)])
    with pytest.raises(SystemExit) as stop:
        cli.run(app)
    output = capsys.readouterr().out
    assert not stop.value.code
    assert "Nothing was uploaded" in output and "model.safetensors" in output
    assert {path.name for path in folder.iterdir()} == UPLOADED
    assert not hub.requests


def test_the_card_says_what_was_measured_and_nothing_else(finished, staged):
    card = ModelCard.load(staged / "README.md")
    records = json.loads((staged / "results.json").read_text())
    assert len(card.data.eval_results) == 5 * len(records)
    measured = {f"{record[name]:.2f}" for record in records for name in ("r1", "r5", "r10", "map", "minp")}
    assert {f"{result.metric_value:.2f}" for result in card.data.eval_results} <= measured
    results = card.text.partition("## Results")[2].partition("**Image**")[0]
    assert set(re.findall(r"\d+\.\d\d\b", results)) == measured
    assert all(f"| {gallery} |" in results for gallery in ("image", "image+description", "description"))
    groups = json.loads((finished / "analysis/analysis.json").read_text())["groups"]
    bias = card.text.partition("## Bias")[2].partition("## Training")[0]
    assert sum(len(values) for values in groups.values()) == bias.count("\n| ") - 2
    assert "seed: 3" in card.text and "jane/people" in card.text and "Intended use, and misuse" in card.text
    assert str(finished.parent) not in card.text and "output_dir" not in card.text


def test_what_was_not_measured_is_not_published(run, tmp_path):
    weights = load_file(run / "model/model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, run / "model/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="are not those that .*results.json was measured on: run `bdam evaluate"):
        stage(run, "jane/people", tmp_path / "staged")
    (run / "results.json").write_text('[{"r1": 99.9}]')
    with pytest.raises(ValueError, match="is not in the format of this version"):
        stage(run, "jane/people", tmp_path / "staged")
    (run / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match="was not evaluated: run .* before it is published"):
        stage(run, "jane/people", tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_code_that_does_not_reproduce_the_embeddings_is_refused(run, tmp_path):
    path = run / "model/modeling_bdam.py"
    code = path.read_text()
    path.write_text(
        code.replace(
            "def _normalize(features: torch.Tensor) -> torch.Tensor:\n",
            "def _normalize(features):\n    return features\n\n\ndef _unused(features):\n",
        )
    )
    with pytest.raises(ValueError, match="gives other embeddings"):
        stage(run, "jane/people", tmp_path / "staged")
    path.write_text(code + "\nraise SystemError('broken')\n")
    with pytest.raises((ValueError, SystemError), match="broken"):
        stage(run, "jane/people", tmp_path / "staged2")


def test_secrets_and_local_paths_are_found(run, tmp_path):
    path = run / "model/config.json"
    config = json.loads(path.read_text())
    for value, message in (
        (TOKEN, "config.json holds what looks like a secret, hf_abc…"),
        (str(tmp_path), "holds a path of this machine"),
    ):
        path.write_text(json.dumps({**config, "note": value}))
        with pytest.raises(ValueError, match=message):
            stage(run, "jane/people", tmp_path / f"staged-{value == TOKEN}")


def test_the_recipe_goes_without_local_places(staged):
    recipe = yaml.safe_load((staged / "recipe.yaml").read_text())
    assert recipe["seed"] == 3 and not {"data", "output_dir"} & recipe.keys()


@pytest.mark.parametrize("repo_id", ["people", "jane/people/again", "jane/pe ople", "/people"])
def test_a_repository_has_a_user_and_a_name(run, tmp_path, repo_id):
    with pytest.raises(ValueError, match="is no repository: give USER/NAME"):
        stage(run, repo_id, tmp_path / "staged")


def test_an_unknown_run_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["push_to_hub.py", str(tmp_path / "nowhere"), "jane/people"])
    with pytest.raises(SystemExit) as stop:
        cli.run(push_to_hub.app)
    assert stop.value.code == 1 and capsys.readouterr().err.startswith("error: No model at")
