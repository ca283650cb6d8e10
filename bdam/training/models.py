"""Models on disk, whole or not at all."""

import hashlib
import shutil
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoProcessor

from bdam.training.recipes import Recipe, read_recipe
from bdam.training.yaml_text import dump_yaml
from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


RECIPE = "recipe.yaml"

AutoConfig.register(BDAMConfig.model_type, BDAMConfig)
AutoModel.register(BDAMConfig, BDAMModel)
AutoProcessor.register(BDAMConfig, BDAMProcessor)


def save_model(directory: Path, model, processor, recipe: Recipe) -> None:
    """Writes weights, code, processor and recipe aside, then swaps them in: no half-written model is left."""
    aside = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    write_recipe(aside, recipe)
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)


def write_recipe(directory: Path, recipe: Recipe) -> None:
    """Beside what was trained stands how."""
    (directory / RECIPE).write_text(dump_yaml(recipe.model_dump(mode="json")), encoding="utf-8")


def load_model(checkpoint: str | Path):
    """
    Model and processor: of a folder, through the code that was saved with it; of the Hub, through the code that is
    installed, so that no stranger's code runs.

    Raises:
        FileNotFoundError: if the folder holds no model, or a model without weights, or the Hub has no such model.
    """
    folder = Path(checkpoint)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no config.json. Train one first.")
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} holds no weights: there is no *.safetensors beside config.json.")
    try:
        model = AutoModel.from_pretrained(checkpoint, trust_remote_code=folder.is_dir())
        return model.eval(), AutoProcessor.from_pretrained(checkpoint, trust_remote_code=folder.is_dir())
    except OSError as error:
        if folder.is_dir():
            raise
        raise FileNotFoundError(f"No model at {checkpoint}: there is no such folder, nor one on the Hub.") from error


def fingerprint(directory: str | Path) -> str | None:
    """What tells these weights from all others; None if they are not in a folder."""
    paths = sorted(path for kind in ("*.safetensors", "*.onnx*") for path in Path(directory).glob(kind))
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:16] if paths else None


def training_seed(directory: str | Path) -> int | None:
    """The seed that the model was trained with; None if it does not say."""
    path = Path(directory) / RECIPE
    return read_recipe(path).get("seed") if path.is_file() else None
