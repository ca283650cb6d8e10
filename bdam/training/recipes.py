"""Recipes: what to train is data, not code."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from configuration_bdam import BDAMConfig


Probability = Annotated[float, Field(ge=0, le=1)]


class LossWeights(BaseModel):
    """Weights of the losses in the total (Eq. 6): fixed, or where GradNorm starts from. At 0 a loss is off."""

    model_config = ConfigDict(extra="forbid")

    info_nce_loss: NonNegativeFloat = 1.0
    triplet_loss: NonNegativeFloat = 1.0
    alignment_loss: NonNegativeFloat = 1.0
    decoupling_loss: NonNegativeFloat = 1.0
    gate_loss: NonNegativeFloat = 0.0
    # Not the paper's: lets whole captions find clothes.
    clothing_query_loss: NonNegativeFloat = 0.0


class Recipe(BaseModel):
    """
    One training run. The defaults are the paper's (§IV-A) where it gives a number; where it gives none, they are the
    field's custom.
    """

    model_config = ConfigDict(extra="forbid")

    # What to learn from, as `load_data` reads it, and where the run goes.
    data: str
    output_dir: str
    seed: NonNegativeInt = 0

    # Encoders: a Hub id or folder of a pretrained one, or the config of one to train from scratch.
    vision_encoder: str | dict[str, Any] = "google/vit-base-patch16-224"
    text_encoder: str | dict[str, Any] = "google-bert/bert-base-uncased"
    image_size: tuple[PositiveInt, PositiveInt] = (224, 224)
    max_text_length: PositiveInt = 77
    model: dict[str, Any] = {}

    # Batches.
    persons_per_batch: PositiveInt = 16
    pictures_per_person: int = Field(default=4, ge=2)
    description_dropout: Probability = 0.0
    identity_query: Probability = 0.0
    augment: bool = True
    num_workers: NonNegativeInt = 4
    keep_in_memory: bool = False

    # Optimisation.
    num_epochs: PositiveInt = 60
    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 1e-3
    warmup_epochs: NonNegativeFloat = 0.0
    gradient_accumulation_steps: PositiveInt = 1
    max_grad_norm: PositiveFloat = 1.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    balancer: Literal["gradnorm", "fixed"] = "gradnorm"
    gradnorm_alpha: NonNegativeFloat = 1.5
    gradnorm_lambda: NonNegativeFloat = 0.1
    gradnorm_renormalize: bool = False
    loss_weights: LossWeights = LossWeights()
    # Epochs before the decoupling loss joins in: both streams start as copies of each other, and what it takes from
    # them before they know what they are for is lost to both.
    decoupling_after: NonNegativeInt = 0

    # Evaluation, in epochs; logs and checkpoints, in optimisation steps.
    eval_every: PositiveInt = 1
    eval_batch_size: PositiveInt = 64
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 500
    report_to: list[str] = []

    @field_validator("model")
    @classmethod
    def _model_has_known_fields(cls, model: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(model.keys() - {field.name for field in fields(BDAMConfig)}):
            raise ValueError(f"unknown fields of BDAMConfig {unknown}")
        return model


def load_recipe(*sources: str | Path) -> Recipe:
    """
    Reads a recipe from YAML files and `key=value` overrides, of which the later win; a file states only what it
    changes. Nested keys of overrides are dotted, their values are YAML.

    Example:

    ```python
    >>> load_recipe("recipes/paper.yaml", "recipes/ablations/table3_without_mamba.yaml", "data=DATA", "output_dir=RUN")
    ```

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the sources, the key and what is wrong with it.
    """
    values: dict[str, Any] = {}
    for source in map(str, sources):
        key, is_override, value = source.partition("=")
        _merge(values, _nest(key.split("."), yaml.safe_load(value)) if is_override else _read(Path(source)))
    try:
        return Recipe(**values)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        files = " + ".join(str(source) for source in sources if "=" not in str(source))
        raise ValueError(f"Recipe {files}: {problems}.") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"No recipe at {path}: give YAML files and overrides of the form key=value.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"Recipe {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"Recipe {path} must be a mapping of keys to values, got {type(values).__name__}.")
    return values


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Updates `values` in place, descending into mappings that both sides have."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nest(keys[1:], value) if keys[1:] else value}


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if problem["type"] == "missing":
        return f"`{key}` is missing: put it into the recipe or give {key}=… on the command line"
    return f"`{key}`: {problem['msg']}, got {problem['input']!r}"
