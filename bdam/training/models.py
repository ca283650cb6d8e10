"""Models on disk, whole or not at all."""

import shutil
from pathlib import Path

import yaml
from transformers import AutoModel, AutoProcessor

from bdam.training.recipes import Recipe


RECIPE = "recipe.yaml"


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
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    (directory / RECIPE).write_text(text, encoding="utf-8")


def load_model(directory: Path):
    """
    Model and processor of a checkpoint, through the code that was saved with it.

    Raises:
        FileNotFoundError: if the folder holds no model, or a model without weights.
    """
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} holds no model: there is no config.json. Train one first.")
    if not any(directory.glob("*.safetensors")):
        raise FileNotFoundError(f"{directory} holds no weights: there is no *.safetensors beside config.json.")
    model = AutoModel.from_pretrained(directory, trust_remote_code=True)
    return model.eval(), AutoProcessor.from_pretrained(directory, trust_remote_code=True)


def training_seed(directory: Path) -> int | None:
    """The seed that the model was trained with; None if it does not say."""
    path = directory / RECIPE
    return yaml.safe_load(path.read_text(encoding="utf-8"))["seed"] if path.is_file() else None
