"""Recipes that name pretrained encoders, with small ones saved on disk."""

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import SENTENCES, SIZES, TEXT, VISION, save_dual_encoder
from transformers import AutoConfig, AutoModel, ViTImageProcessorPil

from bdam.data.batches import Draw, TrainingRows
from bdam.encoding.models import save_model
from bdam.recipes.recipe import Recipe
from bdam.retrieval.embedder import Embedder
from bdam.training.building import build_collator, build_model, build_processor, learn_tokenizer, parameter_groups
from encoders_bdam import load_encoder


TEXTS = Dataset.from_dict(
    {"captions": [SENTENCES], "identity_description": SENTENCES[:1], "clothing_description": SENTENCES[1:2]}
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(**{**VISION, "image_size": 32})).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder / "vit")
    AutoModel.from_config(AutoConfig.for_model(**TEXT)).save_pretrained(folder / "bert")
    learn_tokenizer(SENTENCES, max_length=512, vocab_size=TEXT["vocab_size"]).save_pretrained(folder / "bert")
    return {"vision_encoder": str(folder / "vit"), "text_encoder": str(folder / "bert")}


def recipe(**changes) -> Recipe:
    values = {"image_size": (48, 16), "max_text_length": 16, "model": {"num_branch_heads": 2}, **changes}
    return Recipe(data="here", output_dir="there", **values)


def test_named_encoders_come_with_their_weights_and_preprocessing(encoders):
    named = recipe(**encoders)
    processor = build_processor(named, TEXTS)
    model = build_model(named, processor)
    assert list(processor.image_processor.image_mean) == [0.1, 0.2, 0.3]
    assert processor.tokenizer.model_max_length == 16
    vision = AutoModel.from_pretrained(encoders["vision_encoder"])
    for name, parameter in vision.named_parameters():
        if name != "embeddings.position_embeddings" and not name.startswith("pooler"):
            assert torch.equal(parameter, model.vision_model.get_parameter(name)), name
    inputs = processor(images=Image.new("RGB", (20, 40)), text=" ".join(SENTENCES), return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 48, 16) and inputs["input_ids"].shape == (1, 16)
    assert model(**inputs).logits_per_image.isfinite().all()


def test_encoders_from_scratch_learn_their_words_from_the_training_split():
    scratch = recipe(vision_encoder=VISION, text_encoder={**TEXT, "vocab_size": 120}, image_size=(32, 16))
    processor = build_processor(scratch, TEXTS)
    assert processor.tokenizer.unk_token_id not in processor(text=SENTENCES)["input_ids"][0]
    assert build_model(scratch, processor).config.vision_config.image_size == [32, 16]


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize(
    ("text_encoder", "most"),
    # Of 40 positions, those of RoBERTa begin after that of the padding, which is 0 here; in MPNet it is always 1.
    [("bert", 40), ("distilbert", 40), ("clip_text_model", 40), ("roberta", 39), ("camembert", 39), ("mpnet", 38)],
)
def test_a_long_caption_is_cut_to_what_the_text_encoder_takes(text_encoder, most, is_named, encoders, tmp_path):
    sizes = {**TEXT, "model_type": text_encoder, "max_position_embeddings": 40, "pad_token_id": 0}
    if is_named:
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.for_model(**sizes)).save_pretrained(tmp_path / "text")
        tokenizer = learn_tokenizer(SENTENCES, max_length=None, vocab_size=TEXT["vocab_size"])
        tokenizer.save_pretrained(tmp_path / "text")
    vision, text = (encoders["vision_encoder"], str(tmp_path / "text")) if is_named else (VISION, sizes)
    long = recipe(
        vision_encoder=vision,
        text_encoder=text,
        image_size=(32, 16),
        max_text_length=1000,
        model={**SIZES, "text_pooling": "mean"},
    )
    processor = build_processor(long, TEXTS)
    model = build_model(long, processor)
    assert processor.tokenizer.model_max_length == most

    essay = "A tall man walks by in a red coat. " * 1112
    texts = {"captions": [essay], "identity_description": essay, "clothing_description": essay}
    records = [
        {**texts, "image": Image.new("RGB", (16, 32)), "image_id": person, "person_id": person} for person in range(2)
    ]
    rows = TrainingRows(Dataset.from_list(records), processor, keep=False)
    batch = build_collator(long, processor)([rows[Draw(person, seed=0)] for person in range(2)])
    batch.pop("image_ids")
    assert batch["input_ids"].shape[1] == most
    assert model(**batch, return_loss=True).loss.isfinite()

    save_model(tmp_path / "model", model, processor, long)
    embedder = Embedder(tmp_path / "model")
    assert embedder(essay).isfinite().all()
    (warning,) = embedder.check_sentence(essay)
    assert warning.endswith(f"of 10008): the model reads {most} tokens.")


def test_a_vocabulary_is_learned_the_same_way_every_time():
    first, second = (learn_tokenizer(SENTENCES * 20, max_length=16).get_vocab() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("trained", ["vision", "text"])
def test_a_pretrained_encoder_is_joined_with_an_untrained_one(encoders, trained):
    untrained = {"vision_encoder": VISION, "text_encoder": TEXT}
    mixed = recipe(**{**untrained, f"{trained}_encoder": encoders[f"{trained}_encoder"]}, image_size=(32, 16))
    model = build_model(mixed, build_processor(mixed, TEXTS))
    loaded = load_encoder(encoders[f"{trained}_encoder"], trained).state_dict()
    for name, parameter in getattr(model, f"{trained}_model").named_parameters():
        assert "position_embeddings" in name or torch.equal(parameter, loaded[name])


@pytest.mark.parametrize("untrained", [{}, {"vision_encoder": VISION}])
def test_pretrained_encoders_have_a_learning_rate_and_vectors_no_decay(encoders, untrained):
    rates = {"learning_rate": 1e-5, "new_module_factor": 5.0, "weight_decay": 0.1}
    changed = recipe(**{**encoders, **untrained}, image_size=(32, 16), **rates)
    pretrained = ("text_model.",) if untrained else ("vision_model.", "text_model.")
    model = build_model(changed, build_processor(changed, TEXTS))
    groups = {id(p): group for group in parameter_groups(model, torch.nn.Module(), changed) for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        assert group["lr"] == (1e-5 if name.startswith(pretrained) else 5e-5), name
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 and "A_log" not in name else 0), name


def test_impossible_encoders_are_named(encoders, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    processor = build_processor(recipe(**encoders), TEXTS)
    with pytest.raises(ValueError, match="No vision encoder at 'nobody/nothing'"):
        build_model(recipe(vision_encoder="nobody/nothing", text_encoder=encoders["text_encoder"]), processor)


@pytest.mark.parametrize("image_size", [(8, 8), (32, 4), (7, 64)])
@pytest.mark.parametrize("are_pretrained", [True, False])
def test_images_smaller_than_a_patch_are_refused(encoders, image_size, are_pretrained):
    wide = {"vision_encoder": {**VISION, "patch_size": 16, "image_size": image_size}, "text_encoder": TEXT}
    named = {**encoders, "image_size": [side // 2 for side in image_size]}
    changed = recipe(**named if are_pretrained else {**wide, "image_size": image_size})
    with pytest.raises(ValueError, match=r"`image_size` \[.*\] must be at least the `patch_size` \[.*\]"):
        build_model(changed, build_processor(changed, TEXTS))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": {"num_branch_heads": 5}}, r"`num_branch_heads` \(5\) must divide"),
        ({"model": {"num_branch_heads": 2, "temperature": -1.0}}, "`temperature` must be positive"),
        ({"vision_encoder": {**VISION, "patch_size": "a"}}, "patch_size"),
        ({"vision_encoder": {**VISION, "hidden_act": "no"}}, "The recipe describes no model: .*no"),
        ({"vision_encoder": {**VISION, "hidden_size": -32}}, "The recipe describes no model: .*negative"),
        ({"text_encoder": {**TEXT, "max_position_embeddings": 10**15}}, "The recipe describes no model: .*memory"),
        ({"vision_encoder": {"model_type": "none"}}, "none"),
    ],
)
def test_what_is_no_model_is_one_error(changes, message):
    changed = recipe(**{"vision_encoder": VISION, "text_encoder": TEXT, "image_size": (32, 16), **changes})
    with pytest.raises(ValueError, match=message):
        build_model(changed, build_processor(changed, TEXTS))


@pytest.mark.parametrize("name", ["VisionTextDualEncoder", "Siglip"])
def test_a_recipe_may_name_a_dual_encoder_for_its_halves(name, tmp_path):
    tokenizer = learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"])
    dual = save_dual_encoder(name, tokenizer, tmp_path)
    named = recipe(vision_encoder=str(tmp_path), text_encoder=str(tmp_path), image_size=(32, 32))
    model = build_model(named, build_processor(named, TEXTS))
    for kind in ("vision_model", "text_model"):
        for key, parameter in model.get_submodule(kind).named_parameters():
            assert torch.equal(parameter, dual.get_submodule(kind).get_parameter(key)), key


def test_a_recipe_may_start_as_a_dual_encoder(tmp_path):
    tokenizer = learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"])
    dual = save_dual_encoder("CLIP", tokenizer, tmp_path).eval()
    clip = recipe(dual_encoder=str(tmp_path), image_size=(32, 32))
    processor = build_processor(clip, TEXTS)
    inputs = processor(images=Image.new("RGB", (20, 40), "red"), text=SENTENCES, return_tensors="pt")
    with torch.no_grad():
        outputs = build_model(clip, processor).eval()(**inputs)
        expected = dual(**inputs).logits_per_text
    torch.testing.assert_close(outputs.logits_per_text, expected, rtol=1e-5, atol=1e-5)
