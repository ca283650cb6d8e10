"""Builds the model, its processor and its batches from a recipe."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BertTokenizer,
    PreTrainedTokenizerBase,
    ViTImageProcessorPil,
)

from bdam.data.batches import TrainingCollator
from bdam.data.schema import AGREEMENT_FEATURES, TEXT_COLUMNS
from bdam.encoding.encoders import PADDED_TO_THE_END
from bdam.encoding.models import limit_texts, load_model
from bdam.recipes.recipe import Recipe
from configuration_bdam import BDAMConfig
from encoders_bdam import load_encoder
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_processor(recipe: Recipe, rows: Iterable[dict[str, Any]]) -> BDAMProcessor:
    """The processor of the pretrained model or encoders; from scratch, its tokenizer learns the words of `rows`."""
    if recipe.checkpoint is not None:
        return load_model(recipe.checkpoint)[1]  # which checks the model, too
    vision, text = recipe.dual_encoder or recipe.vision_encoder, recipe.dual_encoder or recipe.text_encoder
    height, width = recipe.image_size
    size = {"height": height, "width": width}
    if isinstance(vision, str):
        image_processor = AutoImageProcessor.from_pretrained(vision, backend="pil", size=size)
        image_processor.do_center_crop, image_processor.do_convert_rgb = False, True
    else:
        image_processor = ViTImageProcessorPil(size=size, do_convert_rgb=True)
    if isinstance(text, str):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(text)
        tokenizer.model_max_length = min(tokenizer.model_max_length, recipe.max_text_length)
        padding = "max_length" if AutoConfig.from_pretrained(text).model_type in PADDED_TO_THE_END else "longest"
        return BDAMProcessor(image_processor, tokenizer, text_padding=padding)
    return BDAMProcessor(image_processor, learn_tokenizer(_texts(rows), recipe.max_text_length))


def check_agreement(recipe: Recipe, train: Dataset) -> None:
    """
    Checks that the data has what `weigh_by_agreement` requires.

    Raises:
        ValueError: if the recipe weighs descriptions by agreement, and the data has no agreements.
    """
    if recipe.weigh_by_agreement and not AGREEMENT_FEATURES.keys() & set(train.column_names):
        raise ValueError(
            f"`weigh_by_agreement` is on, but no image of {recipe.data} was described several times: describe them "
            "with `bdam caption describe --samples N`, or turn it off."
        )


def build_collator(recipe: Recipe, processor: BDAMProcessor) -> TrainingCollator:
    """The collator of a recipe."""
    return TrainingCollator(
        processor,
        recipe.description_dropout,
        augment=recipe.augment,
        weigh_by_agreement=recipe.weigh_by_agreement,
    )


def build_model(recipe: Recipe, processor: BDAMProcessor) -> BDAMModel:
    """
    The model of a recipe, with pretrained encoders if the recipe names them, and untrained ones if it has their
    configs. The processor then cuts texts at the limit of the text encoder, if that is below `max_text_length`.

    Raises:
        ValueError: if an encoder cannot be loaded, or a config is not valid.
    """
    try:
        model = _build_model(recipe, processor.tokenizer)
    except (StrictDataclassError, LookupError, TypeError, RuntimeError) as error:  # of transformers and PyTorch
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"The recipe describes no model: {reason}") from error
    limit_texts(processor.tokenizer, model)
    return model


def _build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> BDAMModel:
    if recipe.checkpoint is not None:
        return BDAMModel.from_pretrained(recipe.checkpoint, dtype=torch.float32, **recipe.model)
    if recipe.dual_encoder is not None:
        return BDAMModel.from_dual_encoder_pretrained(recipe.dual_encoder, recipe.image_size, **recipe.model)
    vision: Any = recipe.vision_encoder
    text: Any = recipe.text_encoder
    uses_pooled_image = bool(recipe.model.get("use_pooled_image"))
    uses_text_pooler = recipe.model.get("text_pooling") == "pooler"
    vision_model = text_model = None
    if isinstance(vision, str):
        vision_model = load_encoder(vision, "vision", uses_pooled_image, recipe.image_size)
    if isinstance(text, str):
        text_model = load_encoder(text, "text", uses_text_pooler)
    config = BDAMConfig(
        vision_config=vision_model.config if vision_model else {"image_size": list(recipe.image_size), **vision},
        text_config=text_model.config if text_model else {**_text_sizes(recipe, tokenizer), **text},
        **recipe.model,
    )
    return BDAMModel(config, vision_model=vision_model, text_model=text_model)


def _text_sizes(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """What the config of an untrained text encoder gets from the tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": recipe.max_text_length,
    }


def parameter_groups(model: BDAMModel, balancer: nn.Module, recipe: Recipe) -> list[dict]:
    """
    The parameter groups of the optimizer: what is pretrained at the learning rate of the recipe, all else at
    `new_module_factor` times that. Biases, norms, A and D of the Mamba layers, which the authors of Mamba exempt, and
    the balancer have no weight decay.
    """
    encoders = {"vision_model.": recipe.vision_encoder, "text_model.": recipe.text_encoder}
    pretrained = tuple(part for part, source in encoders.items() if recipe.dual_encoder or isinstance(source, str))
    if recipe.checkpoint is not None:
        pretrained = ("",)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith("A_log")
        groups.setdefault((name.startswith(pretrained), decays), []).append(parameter)
    if balancing := list(balancer.parameters()):
        groups.setdefault((True, False), []).extend(balancing)
    return [
        {
            "params": parameters,
            "lr": recipe.learning_rate * (1 if is_pretrained else recipe.new_module_factor),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (is_pretrained, decays), parameters in groups.items()
    ]


def learn_tokenizer(texts: Iterable[str], max_length: int, vocab_size: int = 4096) -> PreTrainedTokenizerBase:
    """
    A lower-case WordPiece tokenizer, as BERT's. Its vocabulary has the letters and the most frequent words of `texts`.

    Unlike the trainers of `tokenizers`, equal texts give equal vocabularies, so that training is reproducible.

    Args:
        texts: the texts to take words from.
        max_length: the length that texts are cut at, in tokens.
        vocab_size: the largest number of tokens in the vocabulary.
    """
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(set("".join(words)))
    continuations = [f"##{letter}" for letter in letters]
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *letters, *continuations, *frequent])
    vocabulary = {piece: index for index, piece in enumerate(list(pieces)[:vocab_size])}
    return BertTokenizer(vocab=vocabulary, model_max_length=max_length)


def _texts(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    if isinstance(rows, Dataset):
        rows = rows.select_columns(list(TEXT_COLUMNS))  # so that no image is opened
    for row in rows:
        yield from row["captions"]
        yield row["identity_description"] or ""
        yield row["clothing_description"] or ""
