"""Publishing of a trained run on the Hub: it is checked, staged in a folder, and uploaded in one commit."""

import json
import logging
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import torch
from huggingface_hub import HfApi, eval_result_entries_to_yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from bdam.data.hub import reason_of
from bdam.encoding.models import CALIBRATION, fingerprint, load_model
from bdam.evaluation.results import RESULTS, Results
from bdam.hub.card import FIGURES, build_card, figures, public_recipe
from bdam.hub.results import leaderboard_entries, public_results
from bdam.recipes.recipe import RECIPE, read_recipe
from bdam.recipes.yaml_text import dump_yaml
from modeling_bdam import BDAMModel


logger = logging.getLogger(__name__)

# The files of `model/` that are uploaded, and no others.
MODEL_FILES = (
    "config.json",
    CALIBRATION,
    "*.safetensors",
    "*.safetensors.index.json",
    "configuration_bdam.py",
    "encoders_bdam.py",
    "losses_bdam.py",
    "mamba_bdam.py",
    "modeling_bdam.py",
    "outputs_bdam.py",
    "processing_bdam.py",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
# Scores on data sets of the Hub, from which it makes leaderboards.
SCORES = ".eval_results/bdam.yaml"
SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}|-----BEGIN [A-Z ]*PRIVATE KEY)")
LOCAL_PATH = re.compile(r"(?<![\w:/.<])(?:/(?:[\w.@+-]+/)+[\w.@+-]+|[A-Za-z]:\\\\?[\w.-]+\\\\?[\w.-]+)")
# Run in a process without this package: loads the staged folder, and saves its embeddings of the inputs.
RELOAD_SCRIPT = """
import sys, torch
from transformers import AutoModel

folder, inputs, output = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
with torch.inference_mode():
    outputs = model(**torch.load(inputs))
torch.save({"image": outputs.image_embeds, "sentence": outputs.text_embeds}, output)
"""
TOLERANCE = 1e-5  # of the embeddings of a reloaded model


def stage(run: Path, repo_id: str, folder: Path) -> None:
    """
    Writes the files to upload to a folder: weights, code, processor, recipe, results, figures and the card.

    Args:
        run: folder of the run, with `model/` and `results.json`.
        repo_id: of the repository, `USER/NAME`.
        folder: to write.

    Raises:
        FileNotFoundError: if the run has no model, or no evaluation.
        ValueError: if `repo_id` is not `USER/NAME`; if the weights are not those that were evaluated; if they give
            other embeddings when loaded without this package; or if a file has a secret or a local path.
    """
    check_repo_id(repo_id)
    model_folder = run / "model"
    model, processor = load_model(model_folder)
    results = public_results(read_evaluation(run), repo_id)
    shown = figures(run, results[0].weights)
    if old := [file for file in FIGURES if (run / file).is_file() and file not in shown]:
        logger.warning("Not published, since nothing says that these weights made them: %s.", ", ".join(old))
    folder.mkdir(parents=True)
    for path in sorted(model_folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in MODEL_FILES):
            shutil.copyfile(path, folder / path.name)
    recipe = public_recipe(read_recipe(model_folder / RECIPE))
    (folder / RECIPE).write_text(dump_yaml(recipe), encoding="utf-8")
    results.to_json(folder / RESULTS)
    if entries := leaderboard_entries(results, model.config.clothing_weight):
        (folder / SCORES).parent.mkdir()
        (folder / SCORES).write_text(dump_yaml(eval_result_entries_to_yaml(entries)), encoding="utf-8")
    for file in shown:
        shutil.copyfile(run / file, folder / Path(file).name)
    build_card(run, repo_id, results).save(folder / "README.md")
    check_nothing_private(folder)
    check_reload(model, processor, folder)


def publish(
    folder: Path, repo_id: str, private: bool = False, revision: str | None = None, create_pr: bool = False
) -> str:
    """
    Uploads a staged folder in one commit; returns the URL of the commit or of the pull request.

    An interrupted upload leaves the repository as it was; files that it has sent are not sent again.

    Args:
        folder: of [`stage`].
        repo_id: of the repository, `USER/NAME`, which is made if there is none.
        private: whether a new repository is private.
        revision: branch to commit to, which is made if there is none. Default: `main`.
        create_pr: whether to open a pull request instead of committing.

    Raises:
        ValueError: if the repository holds another model.
        ConnectionError: if the Hub cannot be reached, or refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        _check_is_bdam(api, repo_id)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Weights, code, processor, recipe, results and model card",
            revision=revision,
            create_pr=create_pr,
        )
    except ValueError:
        raise
    except Exception as error:  # of the Hub, of the HTTP library or built-in: after any of them, nothing is committed
        raise upload_error(repo_id, "unchanged", error) from error
    return str(commit.pr_url or commit.commit_url)


def upload_error(repo_id: str, state: str, error: Exception) -> ConnectionError:
    """The error to raise after an upload failed, which left the repository in a state, such as `unchanged`."""
    reason = f"{type(error).__name__}: {reason_of(error)}"
    return ConnectionError(
        f"{repo_id} is {state}, the Hub did not take the upload ({reason}): check the connection and "
        "`hf auth whoami`, then run the command again."
    )


def check_repo_id(repo_id: str) -> None:
    """
    Checks the name of a repository.

    Raises:
        ValueError: if it is not `USER/NAME`.
    """
    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"{repo_id!r} is no repository: give USER/NAME, such as jane/bdam-cuhk-pedes.")


def read_evaluation(run: Path) -> Results:
    """
    The results of a run that are of its own weights. Those of other models are left out, with a warning.

    Args:
        run: folder of the run, with `model/` and `results.json`.

    Raises:
        FileNotFoundError: if there is no `results.json`.
        ValueError: if it has no result of these weights, or is not in the format that `bdam evaluate` writes.
    """
    path = run / RESULTS
    remedy = f"`bdam evaluate {run / 'model'} --data DATA --output {path}`"
    if not path.is_file():
        raise FileNotFoundError(f"{run} was not evaluated: run {remedy} before it is published.")
    try:
        results = Results.from_json(path)
    except ValueError:
        raise ValueError(f"{path} is not in the format of this version: run {remedy} again.") from None
    weights = fingerprint(run / "model")
    own = Results(result for result in results if result.weights == weights)
    if not own:
        raise ValueError(
            f"The weights in {run / 'model'} are not those that {path} was measured on: run {remedy} again."
        )
    if others := dict.fromkeys(result.checkpoint for result in results if result.weights != weights):
        logger.warning("%s: records of other models are not published: %s.", path, ", ".join(others))
    return own


def check_nothing_private(folder: Path) -> None:
    """
    Checks the text files of a staged folder.

    Raises:
        ValueError: if one holds a token, a key or a local path; the message names the file.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".yaml", ".md", ".py", ".txt"):
            continue
        text = path.read_text(encoding="utf-8")
        if secret := SECRET.search(text):
            raise ValueError(f"{path.name} holds what looks like a secret, {secret.group()[:6]}…: remove it.")
        if path.name != "tokenizer.json" and path.suffix != ".py" and (local := LOCAL_PATH.search(text)):
            raise ValueError(
                f"{path.name} holds a path of this machine, {local.group()}: remove it, or use another name."
            )


def check_reload(model: BDAMModel, processor, folder: Path) -> None:
    """
    Checks that a staged folder, loaded in a process without this package, gives the embeddings of the model.

    Args:
        model: that was staged.
        processor: that was staged with it.
        folder: of [`stage`].

    Raises:
        ValueError: if it cannot be loaded, or an embedding differs by more than `TOLERANCE`.
    """
    height, width = _image_size(model)
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(2, 3, height, width, generator=generator),
        **processor(text=["A tall man with grey hair.", "A woman in a red coat."], return_tensors="pt"),
    }
    with torch.inference_mode():
        expected = model(**inputs)
    aside = folder.with_name(f"{folder.name}.reload")
    aside.mkdir()
    try:
        torch.save(inputs, aside / "inputs.pt")
        command = [
            sys.executable,
            "-I",
            "-c",
            RELOAD_SCRIPT,
            *map(str, (folder, aside / "inputs.pt", aside / "outputs.pt")),
        ]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise ValueError(
                f"This model cannot be loaded without the package bdam:\n{run.stderr.strip().splitlines()[-1]}"
            )
        found = torch.load(aside / "outputs.pt")
    finally:
        shutil.rmtree(aside)
    worst = max(
        (found["image"] - expected.image_embeds).abs().max().item(),
        (found["sentence"] - expected.text_embeds).abs().max().item(),
    )
    if worst > TOLERANCE:
        raise ValueError(
            f"Loaded without the package bdam, this model gives other embeddings, by up to {worst:.1e}: save it again."
        )


def _image_size(model: BDAMModel) -> tuple[int, int]:
    size = model.config.vision_config.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _check_is_bdam(api: HfApi, repo_id: str) -> None:
    """
    Checks that a repository is empty or holds a BDAM.

    Raises:
        ValueError: if it holds another model.
    """
    if not api.file_exists(repo_id, "config.json"):
        return
    path = Path(api.hf_hub_download(repo_id, "config.json"))
    model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    if model_type != "bdam":
        raise ValueError(f"{repo_id} holds another model, of type {model_type!r}: give another name.")
