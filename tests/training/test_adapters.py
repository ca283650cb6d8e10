"""Low-rank adapters of the encoders: what is trained, what is saved, and how a run goes on."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import SENTENCES, SIZES, TEXT, TINY_RUN, TINY_VIT, save_dual_encoder, tiny_batch, tiny_model
from transformers import AutoModel

from bdam.evaluation.evaluate import evaluate_checkpoint
from bdam.hub.publishing import stage
from bdam.recipes.recipe import LoRA, load_recipe
from bdam.training.adapters import add_adapters, merge_adapters
from bdam.training.building import learn_tokenizer
from bdam.training.checkpoints import find_checkpoints
from bdam.training.loop import train
from modeling_bdam import BDAMModel


ROOT = Path(__file__).parents[2]
SMALL = [*TINY_RUN, TINY_VIT, "num_epochs=2", "checkpoint_every=1", "lora={r: 2, dropout: 0.1}"]


def adapted(model: BDAMModel) -> BDAMModel:
    """The model with adapters of random weights."""
    add_adapters(model, LoRA(r=2, alpha=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert train(recipe(data, folder), keep_checkpoints=9) == 0
    return folder


def recipe(data: Path, output_dir: Path):
    return load_recipe(ROOT / "recipes/demo.yaml", f"data={data}", f"output_dir={output_dir}", *SMALL)


def test_new_adapters_change_nothing_and_leave_the_other_modules_trained():
    model, batch = tiny_model(), tiny_batch()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        before = model(**batch).logits_per_image
        add_adapters(model, LoRA(r=2))
        torch.testing.assert_close(model(**batch).logits_per_image, before, rtol=0, atol=0)
    after = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    encoders = ("vision_model.", "text_model.")
    assert {name for name in trained if not name.startswith(encoders)} == after - {n for n in after if "lora_" in n}
    adapters = {name.rpartition(".lora_A")[0] for name in after if "lora_A" in name}
    linear = {n for n, m in tiny_model().named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(encoders)}
    assert adapters == linear


def test_merged_weights_give_the_output_of_the_adapters():
    model, batch = adapted(tiny_model()), tiny_batch()
    merged = merge_adapters(model)
    assert merged.state_dict().keys() == tiny_model().state_dict().keys()
    with torch.no_grad():
        expected, found, plain = model(**batch), merged(**batch), tiny_model()(**batch)
    for name in ("image_embeds", "text_embeds"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)
        assert (expected[name] - plain[name]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_adapters_of_a_dual_encoder_are_trained_and_merge(name, tmp_path):
    """The pooling head of SigLIP is an `nn.MultiheadAttention`, whose linear layer is not called."""
    save_dual_encoder(name, learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"]), tmp_path)
    sizes = {key: value for key, value in SIZES.items() if key != "projection_dim"}
    model, batch = adapted(BDAMModel.from_dual_encoder_pretrained(tmp_path, (32, 16), **sizes)), tiny_batch()
    model(**batch, return_loss=True).loss.backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if "lora_" in n)
    with torch.no_grad():
        expected, found = model(**batch).image_embeds, merge_adapters(model)(**batch).image_embeds
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_run_saves_a_plain_model_whose_encoders_differ_by_the_rank(run):
    weights = AutoModel.from_pretrained(run / "model", trust_remote_code=True).state_dict()
    checkpoint = load_file(find_checkpoints(run)[-1] / "model.safetensors")
    assert not any("lora" in name for name in [*weights, *load_file(run / "model/model.safetensors")])
    adapted = [name.removesuffix("lora_A.default.weight") for name in checkpoint if "lora_A" in name]
    for name in adapted:
        difference = weights[f"{name}weight"] - checkpoint[f"{name}base_layer.weight"]
        assert 0 < torch.linalg.matrix_rank(difference, atol=1e-6, rtol=0) <= 2
    assert {f"{name}weight" for name in adapted} < weights.keys()


def test_a_resumed_run_with_adapters_ends_where_the_unbroken_one_does(data, run, tmp_path):
    first, *_, last = find_checkpoints(run)
    assert train(recipe(data, tmp_path), resume=str(first)) == 0
    for unbroken, resumed in ((last, find_checkpoints(tmp_path)[-1]), (run / "model", tmp_path / "model")):
        expected, found = (load_file(folder / "model.safetensors") for folder in (unbroken, resumed))
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_run_with_adapters_is_published_as_a_plain_model(data, run, tmp_path):
    evaluate_checkpoint(run / "model", str(data), use_cache=False).to_json(run / "results.json")
    stage(run, "jane/people", tmp_path / "people")
    published, trained = (
        AutoModel.from_pretrained(folder, trust_remote_code=True).state_dict()
        for folder in (tmp_path / "people", run / "model")
    )
    assert published.keys() == trained.keys() and all(torch.equal(published[name], trained[name]) for name in trained)


def test_the_share_that_is_trained_is_printed(data, tmp_path, capsys):
    train(recipe(data, tmp_path).model_copy(update={"num_epochs": 1}))
    share = capsys.readouterr().out
    assert share.startswith("Trains ") and share.rstrip().endswith("%).")
