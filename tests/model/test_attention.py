"""However a model is made, its attention runs as SDPA unless something else is asked for."""

from pathlib import Path

import pytest
import torch
from tiny import SENTENCES, SIZES, TEXT, VISION, save_dual_encoder, tiny_batch, tiny_config, tiny_model
from transformers import AutoConfig, AutoModel, ViTImageProcessorPil

from bdam.encoding.models import load_model
from bdam.recipes.recipe import Recipe
from bdam.training.building import build_model, learn_tokenizer
from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


# Two layers in each encoder and in each branch, and the exchange both ways.
NUM_ATTENTIONS = 2 + 2 + 2 * 2 + 2
MODEL = {**SIZES, "text_pooling": "mean"}
SQUARE = {**VISION, "image_size": 32}
TOKENIZER = learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"])
PROCESSOR = BDAMProcessor(ViTImageProcessorPil(size={"height": 32, "width": 16}), TOKENIZER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Encoders by themselves, dual encoders that have both, and a BDAM."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for config in (SQUARE, TEXT, {**TEXT, "model_type": "distilbert"}):
        AutoModel.from_config(AutoConfig.for_model(**config)).save_pretrained(folder / config["model_type"])
    for name in ("CLIP", "Siglip"):
        save_dual_encoder(name, TOKENIZER, folder / name)
    tiny_model().save_pretrained(folder / "bdam")
    PROCESSOR.save_pretrained(folder / "bdam")
    return folder


def joined(folder: Path, vision: str = "vit", text: str = "bert", **options) -> BDAMModel:
    return BDAMModel.from_vision_text_pretrained(str(folder / vision), str(folder / text), **MODEL, **options)


def taken_over(folder: Path) -> BDAMModel:
    """Encoders that were loaded, with a config that was written by hand."""
    encoders = (AutoModel.from_pretrained(folder / kind) for kind in ("vit", "bert"))
    return BDAMModel(BDAMConfig(vision_config=SQUARE, text_config=TEXT, **MODEL), *encoders)


def of_recipe(vision, text) -> BDAMModel:
    recipe = {"data": "data", "output_dir": "run", "image_size": (32, 16), "max_text_length": 32, "model": MODEL}
    return build_model(Recipe(**recipe, vision_encoder=vision, text_encoder=text), PROCESSOR)


def again(model: BDAMModel, folder: Path) -> BDAMModel:
    model.save_pretrained(folder / "again")
    return BDAMModel.from_pretrained(folder / "again")


def switched(model: BDAMModel, implementation: str) -> BDAMModel:
    model.set_attn_implementation(implementation)
    return model


WAYS = {
    "a config": lambda folder: BDAMModel(tiny_config()),
    "a config that asks for it": lambda folder: BDAMModel(tiny_config(attn_implementation="sdpa")),
    "AutoModel.from_config": lambda folder: AutoModel.from_config(tiny_config()),
    "pretrained encoders": joined,
    "pretrained at another size": lambda folder: joined(folder, image_size=(32, 16)),
    "pretrained, asked for": lambda folder: joined(folder, attn_implementation="sdpa"),
    "pretrained, asked for in part": lambda folder: joined(folder, attn_implementation={"text_config": "sdpa"}),
    "DistilBERT": lambda folder: joined(folder, text="distilbert"),
    "both halves of CLIP": lambda folder: joined(folder, "CLIP", "CLIP"),
    "half of SigLIP": lambda folder: joined(folder, "Siglip", "bert"),
    "encoders taken over": taken_over,
    "a recipe that names encoders": lambda folder: of_recipe(str(folder / "vit"), str(folder / "bert")),
    "a recipe that describes them": lambda folder: of_recipe(VISION, TEXT),
    "from_pretrained": lambda folder: BDAMModel.from_pretrained(folder / "bdam"),
    "AutoModel": lambda folder: AutoModel.from_pretrained(folder / "bdam"),
    "remote code": lambda folder: AutoModel.from_pretrained(folder / "bdam", trust_remote_code=True),
    "load_model": lambda folder: load_model(folder / "bdam")[0],
    "saved and loaded": lambda folder: again(joined(folder), folder),
    "eager, saved and loaded": lambda folder: again(joined(folder, attn_implementation="eager"), folder),
    "bfloat16": lambda folder: joined(folder).to(torch.bfloat16),
    "switched": lambda folder: switched(joined(folder, attn_implementation="eager"), "sdpa"),
    "taken over, switched": lambda folder: switched(switched(taken_over(folder), "eager"), "sdpa"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_attention_runs_as_sdpa(folder, way, monkeypatch):
    model = WAYS[way](folder)
    assert implementations(model) == {"sdpa"}
    calls = []
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(args)
        return sdpa(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    batch = tiny_batch()
    model.eval()(pixel_values=batch["pixel_values"].to(model.dtype), input_ids=batch["input_ids"])
    assert len(calls) == NUM_ATTENTIONS


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: joined(folder, attn_implementation="eager"),
        lambda folder: joined(folder, "CLIP", "CLIP", attn_implementation="eager"),
        lambda folder: BDAMModel(tiny_config(attn_implementation="eager")),
        lambda folder: BDAMModel.from_pretrained(folder / "bdam", attn_implementation="eager"),
        lambda folder: switched(taken_over(folder), "eager"),
    ],
)
def test_what_is_asked_for_reaches_every_layer(folder, make):
    assert implementations(make(folder)) == {"eager"}


def test_one_encoder_alone_can_be_asked_for(folder):
    model = joined(folder, attn_implementation={"vision_config": "eager"})
    assert implementations(model.vision_model) == {"eager"}
    assert implementations(model.text_model) == {"sdpa"}


def implementations(model: torch.nn.Module) -> set[str | None]:
    """What its layers look up when they run."""
    return {module.config._attn_implementation for module in model.modules() if hasattr(module, "config")}
