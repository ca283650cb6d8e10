"""Recipes: what to train is data, not code."""

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from typing_extensions import TypedDict

from bdam.data.loading import resolve_source
from bdam.recipes.yaml_text import MAX_BYTES, check_extent, dump_yaml, parse_yaml
from configuration_bdam import BDAMConfig
from losses_bdam import LOSSES, TASKS


# The name of its file, next to the weights.
RECIPE = "recipe.yaml"
# Keys that change where and how fast a run goes, not what it learns.
FREE_KEYS = ("output_dir", "num_workers", "keep_in_memory", "eval_batch_size", "checkpoint_every", "report_to")
# A value is of the type that it is written in: `1_0` is no number, and `no` neither true nor false.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
Probability = Annotated[float, Field(ge=0, le=1)]
# A path, or a name: whatever it looks like, it is a word.
Word = Annotated[str, Field(min_length=1)]


def _encoder(value: Any) -> Any:
    if not isinstance(value, str | dict) or not value:
        raise ValueError("must be the name of an encoder, or a config")
    return value


Encoder = Annotated[str | dict[str, Any], BeforeValidator(_encoder)]
# Fields of BDAMConfig, but for the two encoders. Any float may be written as a whole number.
MODEL_FIELDS = {
    name: float if kind == float | int else kind
    for name, kind in BDAMConfig.__annotations__.items()
    if name not in ("vision_config", "text_config")
}
ModelFields = TypedDict("ModelFields", MODEL_FIELDS, total=False)  # type: ignore[misc]
ModelFields.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
KEY = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)*")


# A recipe that states some weights keeps the others as they are here.
DEFAULT_WEIGHTS = {**dict.fromkeys(TASKS, 1.0), "gate_loss": 0.0, "clothing_query_loss": 0.0}


def _by_loss(kind: Any) -> GetPydanticSchema:
    """A mapping from names of losses to values of that kind; whatever else it has is an unknown key."""
    mapping = TypedDict("mapping", dict.fromkeys(LOSSES, kind), total=False)  # type: ignore[misc]
    mapping.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(mapping))


def _with_defaults(weights: dict[str, float]) -> dict[str, float]:
    return {**DEFAULT_WEIGHTS, **weights}


class Recipe(BaseModel):
    """
    One training run. The defaults are the paper's (§IV-A) where it gives a number; where it gives none, they are the
    field's custom.
    """

    model_config = STRICT

    # What to learn from, as `load_data` reads it, and where the run goes.
    data: Word
    output_dir: Word
    seed: int = Field(default=0, ge=0, lt=2**32)

    # Encoders: a Hub id or folder of a pretrained one, or the config of one to train from scratch.
    vision_encoder: Encoder = "google/vit-base-patch16-224"
    text_encoder: Encoder = "google-bert/bert-base-uncased"
    image_size: tuple[PositiveInt, PositiveInt] = Field(default=(224, 224), strict=False)
    max_text_length: PositiveInt = 77
    model: ModelFields = {}

    # Batches.
    persons_per_batch: PositiveInt = 16
    images_per_person: int = Field(default=4, ge=2)
    description_dropout: Probability = 0.0
    identity_query: Probability = 0.0
    # Not the paper's: what is learned from a description weighs as much as several samples of it agree.
    weigh_by_agreement: bool = False
    augment: bool = True
    num_workers: NonNegativeInt = 4
    keep_in_memory: bool = False

    # Optimization.
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
    # Weights of the losses in the total (Eq. 6): fixed, or where GradNorm starts from. At 0 a loss is off.
    loss_weights: Annotated[dict[str, float], _by_loss(NonNegativeFloat), AfterValidator(_with_defaults)] = (
        DEFAULT_WEIGHTS
    )
    # Epochs before a loss joins in. Both streams start as copies of each other, and what the decoupling loss takes
    # from them before they know what they are for is lost to both.
    loss_delays: Annotated[dict[str, int], _by_loss(NonNegativeInt)] = {}

    # Evaluation, in epochs; logs and checkpoints, in optimization steps.
    eval_every: PositiveInt = 1
    eval_batch_size: PositiveInt = 64
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 500
    report_to: list[str] = []


def load_recipe(*sources: str | Path) -> Recipe:
    """
    Reads a recipe from YAML files and `key=value` overrides, of which the later win; a file states only what it
    changes. Nested keys of overrides are dotted. Values are YAML 1.2, but for overrides of `data` and `output_dir`,
    which are taken as they are typed.

    What is local becomes absolute: `output_dir`, the places in `data`, and encoders that are folders.

    Example:

    ```python
    >>> load_recipe("recipes/paper.yaml", "recipes/ablations/table3_without_mamba.yaml", "data=DATA", "output_dir=RUN")
    ```

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the source, the key and what is wrong with it.
    """
    stated = [_read_source(source) for source in sources]
    values: dict[str, Any] = {}
    for _, changes in stated:
        _merge(values, changes)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = [f"{_origin(problem['loc'], stated)}: {_explain(problem)}" for problem in error.errors()]
        raise ValueError(f"Recipe {'; '.join(problems)}.") from None
    return recipe.model_copy(update=resolve_places(recipe.model_dump(include={*PLACES})))


def read_recipe(path: Path) -> dict[str, Any]:
    """
    What a recipe's file states, as it stands.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        ValueError: naming the file, the line and what is wrong with it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the YAML file of a recipe.")
    if not path.is_file():
        raise FileNotFoundError(f"No recipe at {path}: give YAML files and overrides of the form key=value.")
    with path.open("rb") as file:
        values = parse_yaml(file.read(MAX_BYTES + 1), f"Recipe {path}") or {}
    if not isinstance(values, dict):
        raise ValueError(f"Recipe {path} must be a mapping of keys to values, got {type(values).__name__}.")
    return values


def resolve_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe, what is local in absolute paths, so that they mean the same in any folder."""
    return {
        key: PLACES[key](value) if key in PLACES and isinstance(value, str) else value for key, value in values.items()
    }


def write_recipe(directory: Path, recipe: Recipe) -> None:
    """Writes the recipe to `directory`, next to the weights that were trained by it."""
    (directory / RECIPE).write_text(dump_yaml(recipe.model_dump(mode="json")), encoding="utf-8")


def changed_keys(directory: Path, recipe: Recipe) -> dict[str, tuple]:
    """Where `recipe` would learn something else than the recipe in `directory`: the values then and now, by key."""
    # A key that was not there yet was as it is where a recipe does not state it.
    defaults = Recipe.model_construct().model_dump(mode="json")
    then = {**defaults, **resolve_places(read_recipe(directory / RECIPE))}
    now = recipe.model_dump(mode="json")
    return {
        key: (then.get(key), now.get(key))
        for key in now | then
        if key not in FREE_KEYS and then.get(key) != now.get(key)
    }


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _resolve_encoder(name: str) -> str:
    """Folders win over names on the Hub, as in transformers."""
    return _absolute(name) if os.path.isdir(os.path.expanduser(name)) else name


HINTS = {"string_type": ": put it in quotes", "bool_type": ": write true or false"}
PLACES = {
    "data": resolve_source,
    "output_dir": _absolute,
    "vision_encoder": _resolve_encoder,
    "text_encoder": _resolve_encoder,
}


def _read_source(source: str | Path) -> tuple[str, dict[str, Any]]:
    """What errors call a file or an override, and what it states. A file may have `=` in its name."""
    if isinstance(source, Path) or "=" not in source or os.path.isfile(source):
        return f"{source}", read_recipe(Path(source))
    key, _, word = source.partition("=")
    name = f"override {reprlib.repr(source)}"
    if not KEY.fullmatch(key):
        raise ValueError(
            f"The {name} must be KEY=VALUE, with dots between nested keys, such as seed=1 or model.dropout=0."
        )
    field = Recipe.model_fields.get(key)
    value: Any = (
        word if field is not None and field.annotation is str else parse_yaml(word, f"The value of the {name}")
    )
    for part in reversed(key.split(".")):
        value = {part: value}
    check_extent(value, f"The {name}")
    return name, value


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Updates `values` in place, descending into mappings that both sides have."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _origin(keys: tuple[int | str, ...], stated: list[tuple[str, dict[str, Any]]]) -> str:
    """The source whose value counts; all files, where none has the key."""
    for source, values in reversed(stated):
        if _states(values, keys):
            return source
    return " + ".join(source for source, _ in stated if not source.startswith("override "))


def _states(values: Any, keys: tuple[int | str, ...]) -> bool:
    """Whether the first of nested keys is there, and each next one unless the value ends before it."""
    return not keys or not isinstance(values, dict) or (keys[0] in values and _states(values[keys[0]], keys[1:]))


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if problem["type"] == "missing":
        return f"`{key}` is missing: put it into the recipe or give {key}=… on the command line"
    reason, hint = problem["msg"].removeprefix("Value error, "), HINTS.get(problem["type"], "")
    return f"`{key}`: {reason}, got {reprlib.repr(problem['input'])}{hint}"
