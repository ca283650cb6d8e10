"""Recipes: the settings of a training run, and how they are read, checked and compared."""

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

from bdam.data.batches import AUGMENTATIONS, Augmentation
from bdam.data.corpora import resolve_corpus
from bdam.data.loading import resolve_source
from bdam.recipes.yaml_text import MAX_BYTES, check_extent, dump_yaml, parse_yaml
from configuration_bdam import BDAMConfig
from losses_bdam import LOSSES, TASKS


# The name of a recipe's file next to the weights.
RECIPE = "recipe.yaml"
# Keys that change where and how fast a run works, but not its result.
FREE_KEYS = ("output_dir", "num_workers", "keep_in_memory", "eval_batch_size", "checkpoint_every", "report_to")
# Values are not converted: `1_0` is no number, and `no` no truth value.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
Probability = Annotated[float, Field(ge=0, le=1)]
# A path or a name, which is not empty.
Word = Annotated[str, Field(min_length=1)]


def _encoder(value: Any) -> Any:
    if not isinstance(value, str | dict) or not value:
        raise ValueError("must be the name of an encoder, or a config")
    return value


Encoder = Annotated[str | dict[str, Any], BeforeValidator(_encoder)]
# The fields of BDAMConfig without the two encoders. A float may be written as a whole number.
MODEL_FIELDS = {
    name: float if kind == float | int else kind
    for name, kind in BDAMConfig.__annotations__.items()
    if name not in ("vision_config", "text_config")
}
ModelFields = TypedDict("ModelFields", MODEL_FIELDS, total=False)  # type: ignore[misc]
ModelFields.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
KEY = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)*")


# The weights of losses that a recipe does not set.
DEFAULT_WEIGHTS = {**dict.fromkeys(TASKS, 1.0), "gate_loss": 0.0}


def _by_loss(kind: Any) -> GetPydanticSchema:
    """The type of mappings from names of losses to values of a type; other names are unknown keys."""
    mapping = TypedDict("mapping", dict.fromkeys(LOSSES, kind), total=False)  # type: ignore[misc]
    mapping.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(mapping))


def _with_defaults(weights: dict[str, float]) -> dict[str, float]:
    return {**DEFAULT_WEIGHTS, **weights}


class LoRA(BaseModel):
    """
    The low-rank adapters of the encoders (Hu et al. 2022): `W + (alpha / r) · B A`. The defaults are those of peft.

    Attributes:
        r: the rank of A and B.
        alpha: the scale.
        dropout: of the input of A.
    """

    model_config = STRICT

    r: PositiveInt = 8
    alpha: PositiveInt = 8
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Recipe(BaseModel):
    """
    The settings of a training run. The defaults are those of the paper (§IV-A) or, if it gives none, usual values.
    """

    model_config = STRICT

    # The data set, see `load_data`, and the folder to write.
    data: Word
    output_dir: Word
    seed: int = Field(default=0, ge=0, lt=2**32)

    # A corpus to learn from in place of the split train, see `open_corpus`, and the steps that count as its epoch.
    stream: Word | None = None
    steps_per_epoch: PositiveInt | None = None

    # A trained BDAM to go on from, in place of encoders: its folder, or its name on the Hub.
    checkpoint: Word | None = None
    # Encoders: the Hub id or folder of a pretrained one, or the config of one to train from scratch.
    vision_encoder: Encoder = "google/vit-base-patch16-224"
    text_encoder: Encoder = "google-bert/bert-base-uncased"
    # Instead of two encoders: a pretrained dual encoder, such as CLIP, that the model starts as.
    dual_encoder: Word | None = None
    image_size: tuple[PositiveInt, PositiveInt] = Field(default=(224, 224), strict=False)
    max_text_length: PositiveInt = 77
    model: ModelFields = {}
    # Trains low-rank adapters of the linear layers of the encoders in place of the weights of the encoders.
    lora: LoRA | None = None

    # Batches.
    persons_per_batch: PositiveInt = 16
    images_per_person: int = Field(default=4, ge=2)
    description_dropout: Probability = 0.0
    # Not in the paper: weigh the losses of a description by the agreement of several samples of it.
    weigh_by_agreement: bool = False
    # Random changes of the images.
    augment: list[Augmentation] = [*AUGMENTATIONS]
    num_workers: NonNegativeInt = 4
    keep_in_memory: bool = False

    # Optimization.
    num_epochs: PositiveInt = 60
    learning_rate: PositiveFloat = 1e-4
    # The learning rate of all that is no pretrained encoder, relative to `learning_rate`.
    new_module_factor: PositiveFloat = 1.0
    weight_decay: NonNegativeFloat = 1e-3
    adam_epsilon: PositiveFloat = 1e-8
    warmup_epochs: NonNegativeFloat = 0.0
    gradient_accumulation_steps: PositiveInt = 1
    # Images per chunk and process, to train with batches that do not fit in memory; null computes them whole.
    gradient_cache: PositiveInt | None = None
    max_grad_norm: PositiveFloat = 1.0
    # The decay per step of an exponential moving average of the weights, which is validated and saved in their place.
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    # Compiles the encoders, which takes some minutes at the start; see torch.compile.
    torch_compile: bool = False
    balancer: Literal["gradnorm", "fixed"] = "gradnorm"
    gradnorm_alpha: NonNegativeFloat = 1.5
    gradnorm_lambda: NonNegativeFloat = 0.1
    gradnorm_renormalize: bool = False
    # Weights of the losses in the total (Eq. 6): fixed, or factors before GradNorm. A loss of weight 0 is off.
    loss_weights: Annotated[dict[str, float], _by_loss(NonNegativeFloat), AfterValidator(_with_defaults)] = (
        DEFAULT_WEIGHTS
    )
    # Epochs before each loss is used. Both streams start with equal weights; a decoupling loss from the first epoch
    # removes information from them before they have specialized.
    loss_delays: Annotated[dict[str, int], _by_loss(NonNegativeInt)] = {}

    # Evaluation, in epochs; logs and checkpoints, in optimization steps.
    eval_every: PositiveInt = 1
    eval_batch_size: PositiveInt = 64
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 500
    report_to: list[str] = []


def load_recipe(*sources: str | Path) -> Recipe:
    """
    Reads a recipe.

    Args:
        sources: YAML files, which state only what they change, and `key=value` overrides; later ones win. Nested keys
            of overrides are dotted. Values are YAML 1.2, but for overrides of `data` and `output_dir`, which are taken
            as they are typed.

    Returns:
        The recipe, its defaults the paper's (§IV-A). `output_dir`, the folders in `data`, and encoders that are
        folders are absolute paths.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the source, the key and what is wrong with it.

    Example:

    ```python
    >>> from bdam import load_recipe
    >>> recipe = load_recipe("recipes/paper.yaml", "data=DATA", "output_dir=RUN", "model.use_mamba=false")
    >>> recipe.num_epochs, recipe.model["use_mamba"]
    (60, False)
    ```"""
    stated = [_read_source(source) for source in sources]
    values: dict[str, Any] = {}
    for _, changes in stated:
        _merge(values, changes)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = [f"{_origin(problem['loc'], stated)}: {_explain(problem)}" for problem in error.errors()]
        raise ValueError(f"Recipe {'; '.join(problems)}.") from None
    return recipe.model_copy(update=resolve_paths(recipe.model_dump(include={*RESOLVERS})))


def read_recipe(path: Path) -> dict[str, Any]:
    """
    The values in a recipe's file, without defaults and checks.

    Raises:
        OSError: if the file does not exist or cannot be read.
        ValueError: if it is no YAML mapping, naming the file, the line and the reason.
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


def resolve_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe with absolute paths, so that they do not depend on the working directory."""
    return {
        key: RESOLVERS[key](value) if key in RESOLVERS and isinstance(value, str) else value
        for key, value in values.items()
    }


def write_recipe(directory: Path, recipe: Recipe) -> None:
    """Writes the recipe to `directory`, next to its weights."""
    (directory / RECIPE).write_text(dump_yaml(recipe.model_dump(mode="json")), encoding="utf-8")


def changed_keys(directory: Path, recipe: Recipe) -> dict[str, tuple]:
    """The values `(then, now)` by which `recipe` differs from the recipe in `directory`, without `FREE_KEYS`."""
    # Keys that did not exist then have their defaults.
    defaults = Recipe.model_construct().model_dump(mode="json")
    then = {**defaults, **resolve_paths(read_recipe(directory / RECIPE))}
    now = recipe.model_dump(mode="json")
    return {
        key: (then.get(key), now.get(key))
        for key in now | then
        if key not in FREE_KEYS and then.get(key) != now.get(key)
    }


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _resolve_encoder(name: str) -> str:
    """The absolute path of a folder, which precedes a name on the Hub, as in transformers; otherwise the name."""
    return _absolute(name) if os.path.isdir(os.path.expanduser(name)) else name


HINTS = {"string_type": ": put it in quotes", "bool_type": ": write true or false"}
RESOLVERS = {
    "data": resolve_source,
    "output_dir": _absolute,
    "stream": resolve_corpus,
    "checkpoint": _resolve_encoder,
    "dual_encoder": _resolve_encoder,
    "vision_encoder": _resolve_encoder,
    "text_encoder": _resolve_encoder,
}


def _read_source(source: str | Path) -> tuple[str, dict[str, Any]]:
    """The name of a file or an override in errors, and its values. A file may have `=` in its name."""
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
    """Updates `values`, recursively for mappings that both sides have."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _origin(keys: tuple[int | str, ...], stated: list[tuple[str, dict[str, Any]]]) -> str:
    """The last source that has the key; all files if none has it."""
    for source, values in reversed(stated):
        if _states(values, keys):
            return source
    return " + ".join(source for source, _ in stated if not source.startswith("override "))


def _states(values: Any, keys: tuple[int | str, ...]) -> bool:
    """Whether `values` has the nested keys, or ends at one of them with another value than a mapping."""
    return not keys or not isinstance(values, dict) or (keys[0] in values and _states(values[keys[0]], keys[1:]))


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if problem["type"] == "missing":
        return f"`{key}` is missing: put it into the recipe or give {key}=… on the command line"
    reason, hint = problem["msg"].removeprefix("Value error, "), HINTS.get(problem["type"], "")
    return f"`{key}`: {reason}, got {reprlib.repr(problem['input'])}{hint}"
