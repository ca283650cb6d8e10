"""Saves and loads models, and reads facts of their files."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerBase

from bdam.data.hub import reason_of
from bdam.data.writing import write_json
from bdam.recipes.recipe import RECIPE, Recipe, read_recipe, write_recipe
from encoders_bdam import text_capacity


# A tokenizer without a limit of its own has 1e30.
NO_LIMIT = 1 << 30
# `model.safetensors`, `pytorch_model-00001-of-00002.bin`, `model.fp16.safetensors` and the like.
WEIGHTS = re.compile(r"(pytorch_)?model(\.(?P<variant>[^.-]+))?(-\d+-of-\d+)?\.(safetensors|bin)")
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
# In the folder of a model: what its scores mean, see `bdam.evaluation.calibration`. Embeddings do not depend on it.
CALIBRATION = "calibration.json"
LFS_POINTER = b"version https://git-lfs"
# The file next to a model with the duration of its training.
EFFORT = "training.json"


def save_model(directory: Path, model, processor, recipe: Recipe) -> None:
    """Writes weights, code, processor and recipe to `directory`, completely or not at all."""
    aside = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    write_recipe(aside, recipe)
    _write_sentence_transformers(aside, model.config)
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)


def _write_sentence_transformers(directory: Path, config) -> None:
    """Writes the files by which `SentenceTransformer` embeds images and sentences as the model does."""
    methods = {"text": "get_text_features", "image": "get_image_features"}
    modality_config = {
        modality: {"method": method, "method_output_name": "pooler_output"} for modality, method in methods.items()
    }
    options = {"kwargs": ["clothing_weight", "with_clothing"]} if config.use_bdam else {}
    module = {"idx": 0, "name": "0", "path": "", "type": TRANSFORMER, **options}
    settings = {"transformer_task": "feature-extraction", "module_output_name": "sentence_embedding"}
    write_json(directory / "modules.json", [module])
    write_json(directory / "sentence_bert_config.json", {**settings, "modality_config": modality_config})
    write_json(directory / "config_sentence_transformers.json", {"similarity_fn_name": "dot"})


def load_model(checkpoint: str | Path):
    """
    A model in float32 and its processor, which cuts texts at the limit of the model. A folder is loaded with the code
    in it, a name on the Hub with the installed code, so that no untrusted code runs.

    Args:
        checkpoint: a folder with any weights that `AutoModel` reads: safetensors or `pytorch_model.bin`, in one file
            or in shards, or a single variant such as `model.fp16.safetensors`; or a name on the Hub.

    Raises:
        FileNotFoundError: if the folder has no model or no weights, or the Hub has no such model.
        ValueError: if a file is broken, weights are missing or have another shape, or the processor is incomplete.
    """
    folder = Path(checkpoint)
    variant = _find_variant(folder) if folder.is_dir() else None
    try:
        model, loading = AutoModel.from_pretrained(
            checkpoint,
            variant=variant,
            dtype=torch.float32,
            trust_remote_code=folder.is_dir(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=folder.is_dir())
    except ImportError:
        raise
    except Exception as error:  # of readers of configs, weights and tokenizers, without a common class
        if isinstance(error, OSError) and not folder.is_dir():
            message = f"No model at {checkpoint}: there is no such folder, nor one on the Hub."
            raise FileNotFoundError(message) from error
        reason = shorten(reason_of(error), 200, placeholder="…").rstrip(".")
        raise ValueError(f"{_find_broken(folder)} cannot be loaded: {reason}. Save or download it again.") from error
    _check_whole(checkpoint, loading, processor)
    limit_texts(processor.tokenizer, model)
    return model.eval(), processor


def _check_whole(checkpoint: str | Path, loading: dict, processor) -> None:
    """
    Checks that `from_pretrained` did not fill gaps with new values.

    Raises:
        ValueError: if weights are missing or have another shape, or the processor is incomplete.
    """
    reshaped = [f"{name} {tuple(found)} in place of {tuple(own)}" for name, found, own in loading["mismatched_keys"]]
    for problem, names in (
        ("lacks weights", loading["missing_keys"]),
        ("has weights of another shape than its config.json says", reshaped),
    ):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ValueError(f"{checkpoint} {problem}: {some}. Save or download it again.")
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise ValueError(f"{checkpoint} has no {part.replace('_', ' ')}: save the processor next to the model.")
    if len(processor.tokenizer) <= len(processor.tokenizer.all_special_ids):
        raise ValueError(f"The tokenizer of {checkpoint} knows no word: save the processor next to the model.")


def weight_files(directory: str | Path) -> list[Path]:
    """The files of weights in a folder: safetensors and ONNX or, if there are none, `pytorch_model*.bin`."""
    for kinds in (("*.safetensors", "*.onnx*"), ("pytorch_model*.bin",)):
        if paths := sorted(path for kind in kinds for path in Path(directory).glob(kind)):
            return paths
    return []


def _find_variant(folder: Path) -> str | None:
    """
    The argument `variant` with which `from_pretrained` finds the weights of a folder; None if it needs none.

    Raises:
        FileNotFoundError: if there is no model, or there are no weights, or only several variants.
        ValueError: if the weights are only pointers of Git LFS.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no config.json. Train one first.")
    paths = weight_files(folder)
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no weights: there is no model.safetensors nor pytorch_model.bin next to config.json."
        )
    for path in paths:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ValueError(f"{path} only points to weights that git did not download: run `git lfs pull`.")
    variants = {match["variant"] for path in paths if (match := WEIGHTS.fullmatch(path.name))}
    if not variants or None in variants:
        return None
    if len(variants) > 1:
        raise FileNotFoundError(f"{folder} holds variants alone, {sorted(variants)}: leave one of them there.")
    return variants.pop()


def _find_broken(checkpoint: Path) -> Path:
    """The first file of weights that cannot be read; the checkpoint if all can."""
    for path in weight_files(checkpoint):
        try:
            if path.suffix == ".bin":
                torch.load(path, map_location="meta", weights_only=True)
            else:
                with safe_open(path, framework="pt"):
                    pass
        except Exception:  # of two libraries, without a common class
            return path
    return checkpoint


def limit_texts(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> None:
    """
    Lowers `model_max_length` of the tokenizer, at which it cuts texts, to the limit of the model's text encoder. If
    neither has a limit, it is 512 tokens.
    """
    limit = min(text_capacity(getattr(model, "text_model", model)) or NO_LIMIT, tokenizer.model_max_length)
    tokenizer.model_max_length = limit if limit < NO_LIMIT else 512


def fingerprint(directory: str | Path) -> str | None:
    """A hash of the files of weights in a folder, 16 hexadecimal digits; None if there are none."""
    paths = weight_files(directory)
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:16] if paths else None


def training_seed(directory: str | Path) -> int | None:
    """The seed in the recipe next to a model; None if there is none."""
    path = Path(directory) / RECIPE
    return read_recipe(path).get("seed") if path.is_file() else None


def read_effort(folder: Path) -> dict[str, float] | None:
    """Seconds of training, by hardware; None if they were not recorded."""
    path = folder / EFFORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def training_seconds(directory: str | Path) -> float | None:
    """How many seconds the training of a model took, on all its machines together; None if that was not recorded."""
    effort = read_effort(Path(directory))
    return sum(effort.values()) if effort else None
