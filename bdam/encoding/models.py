"""Models on disk, whole or not at all."""

import hashlib
import re
import shutil
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerBase

from bdam.recipes.recipe import RECIPE, Recipe, read_recipe, write_recipe


# A tokenizer without a limit of its own has 1e30.
NO_LIMIT = 1 << 30
POSITION_TABLE = re.compile("position|^wpe$")
# `model.safetensors`, `pytorch_model-00001-of-00002.bin`, `model.fp16.safetensors` and the like.
WEIGHTS = re.compile(r"(pytorch_)?model(\.(?P<variant>[^.-]+))?(-\d+-of-\d+)?\.(safetensors|bin)")
LFS_POINTER = b"version https://git-lfs"


def save_model(directory: Path, model, processor, recipe: Recipe) -> None:
    """Writes weights, code, processor and recipe aside, then swaps them in: no half-written model is left."""
    aside = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    write_recipe(aside, recipe)
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)


def load_model(checkpoint: str | Path):
    """
    Model and processor, in float32: of a folder, through the code that was saved with it; of the Hub, through the code
    that is installed, so that no stranger's code runs. Texts are cut to what the model takes.

    A folder may hold whatever `AutoModel` reads: safetensors or `pytorch_model.bin`, in one file or in shards, and
    also the only variant that there is, such as `model.fp16.safetensors`.

    Raises:
        FileNotFoundError: if the folder holds no model, or a model without weights, or the Hub has no such model.
        ValueError: if a file is broken, or weights are missing or of another shape, or there is no whole processor.
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
    except Exception as error:  # of the readers of configs, weights and tokenizers, which have no class in common
        if isinstance(error, OSError) and not folder.is_dir():
            message = f"No model at {checkpoint}: there is no such folder, nor one on the Hub."
            raise FileNotFoundError(message) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = shorten(reason, 200, placeholder="…").rstrip(".")
        raise ValueError(f"{_find_broken(folder)} cannot be loaded: {reason}. Save or download it again.") from error
    _check_whole(checkpoint, loading, processor)
    limit_texts(processor.tokenizer, model)
    return model.eval(), processor


def _check_whole(checkpoint: str | Path, loading: dict, processor) -> None:
    """
    Raises:
        ValueError: about what `from_pretrained` makes up: weights that are missing or do not fit, an empty tokenizer.
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
            raise ValueError(f"{checkpoint} has no {part.replace('_', ' ')}: save the processor beside the model.")
    if len(processor.tokenizer) <= len(processor.tokenizer.all_special_ids):
        raise ValueError(f"The tokenizer of {checkpoint} knows no word: save the processor beside the model.")


def weight_files(directory: str | Path) -> list[Path]:
    """The files of weights in a folder: safetensors or ONNX, which are read first; only without them PyTorch's own."""
    for kinds in (("*.safetensors", "*.onnx*"), ("pytorch_model*.bin",)):
        if paths := sorted(path for kind in kinds for path in Path(directory).glob(kind)):
            return paths
    return []


def _find_variant(folder: Path) -> str | None:
    """
    What `from_pretrained` is to be told to find the weights of a folder: nothing, or the only variant.

    Raises:
        FileNotFoundError: if there is no model, or none with weights, or there are several variants alone.
        ValueError: if the weights were not downloaded.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no config.json. Train one first.")
    paths = weight_files(folder)
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no weights: there is no model.safetensors nor pytorch_model.bin beside config.json."
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
    """The file of weights that cannot be read, if that is why the checkpoint cannot; otherwise the checkpoint."""
    for path in weight_files(checkpoint):
        try:
            if path.suffix == ".bin":
                torch.load(path, map_location="meta", weights_only=True)
            else:
                with safe_open(path, framework="pt"):
                    pass
        except Exception:  # of two libraries, whose errors have no class in common
            return path
    return checkpoint


def limit_texts(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> None:
    """
    Lowers `model_max_length` of the tokenizer, to which it cuts texts, to what the text encoder of the model takes.
    Where neither of them has a limit, it is 512 tokens.
    """
    limit = min(text_capacity(getattr(model, "text_model", model)) or NO_LIMIT, tokenizer.model_max_length)
    tokenizer.model_max_length = limit if limit < NO_LIMIT else 512


def text_capacity(text_model: nn.Module) -> int | None:
    """
    How many tokens an encoder takes, special ones included; None if it takes any number, as T5 and XLNet do.

    Not all rows of a table of positions are for tokens: RoBERTa and what is built like it count from the row after
    that of the padding, BART from an offset.
    """
    limits = [getattr(text_model.config, "max_position_embeddings", None)]
    for name, module in text_model.named_modules():
        weight = getattr(module, "weight", None)
        if POSITION_TABLE.search(name.rpartition(".")[2]) and weight is not None and weight.dim() == 2:
            padding = getattr(module, "padding_idx", None)
            limits.append(len(weight) - getattr(module, "offset", 0 if padding is None else padding + 1))
    return min((limit for limit in limits if limit and limit > 0), default=None)


def fingerprint(directory: str | Path) -> str | None:
    """What tells these weights from all others; None if they are not in a folder."""
    paths = weight_files(directory)
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
