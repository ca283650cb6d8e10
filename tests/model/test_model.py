"""The model from images and words to embeddings and losses."""

import copy

import pytest
import torch
from tiny import tiny_batch, tiny_config, tiny_model

from losses_bdam import LOSSES, TASKS, hsic_loss, info_nce_loss
from modeling_bdam import BDAMModel


ABLATIONS = [
    {},
    {"fusion_mode": "tokens"},
    {"use_bdam": False},
    {"use_bdam": False, "use_fusion": False},
    {"use_fusion": False},
    {"use_cross_attention": False},
    {"use_gate": False},
    {"num_branch_layers": 0},
    {"use_mamba": False},
    {"use_fusion_gate": False},
    {"use_fusion_alignment": False},
    {"text_pooling": "mean"},
    {"symmetric_contrast": True, "triplet_mining": "hard", "hsic_kernel": "rbf", "hsic_normalize": True},
]


@pytest.mark.parametrize("changes", ABLATIONS, ids=str)
def test_every_switch_trains_every_parameter(changes):
    model = tiny_model(**changes).train()
    outputs = model(**tiny_batch(), return_loss=True)
    (outputs.loss + outputs.loss_dict.get("gate_loss", 0)).backward()
    without_gradient = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without_gradient == []
    torch.testing.assert_close(outputs.image_embeds.norm(dim=-1), torch.ones(4))
    assert outputs.logits_per_image.shape == (4, 4)
    assert (outputs.clothing_image_embeds is not None) == model.config.use_bdam


def test_the_losses_are_those_of_the_outputs():
    model, batch = tiny_model(), tiny_batch()
    outputs = model(**batch, return_loss=True)
    image = outputs.image_output
    torch.testing.assert_close(
        outputs.loss_dict["decoupling_loss"], hsic_loss(image.identity_features, image.clothing_features)
    )
    similarity = outputs.clothing_image_embeds @ outputs.clothing_text_embeds.T / model.config.temperature
    torch.testing.assert_close(
        outputs.loss_dict["alignment_loss"], torch.nn.functional.cross_entropy(similarity, torch.arange(4))
    )
    torch.testing.assert_close(outputs.loss, sum(outputs.loss_dict[name] for name in TASKS))


def test_a_model_without_clothing_stream_has_no_losses_of_one():
    outputs = tiny_model(use_bdam=False)(**tiny_batch(), return_loss=True)
    of_clothes = {"alignment_loss", "decoupling_loss", "gate_loss", "clothing_query_loss"}
    assert LOSSES.keys() - outputs.loss_dict.keys() == of_clothes


def test_captions_that_ask_for_clothes_teach_the_text_side_alone():
    model, batch = tiny_model(), tiny_batch()
    outputs = model(**batch, return_loss=True)
    query = model.get_clothing_text_features(batch["input_ids"]).pooler_output
    similarity = query @ outputs.clothing_image_embeds.T / model.config.temperature
    expected = torch.nn.functional.cross_entropy(similarity, torch.arange(4))
    torch.testing.assert_close(outputs.loss_dict["clothing_query_loss"], expected)
    outputs.loss_dict["clothing_query_loss"].backward()
    assert all(parameter.grad is None for parameter in model.vision_model.parameters())
    assert all(parameter.grad is None for parameter in model.decoupler.parameters())
    assert any(parameter.grad is not None for parameter in model.text_model.parameters())


def test_images_alone_are_asked_for_by_captions_and_by_identity_descriptions():
    model, batch = tiny_model(), tiny_batch()
    losses = model(**batch, return_loss=True).loss_dict
    plain = model(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"], return_loss=False)
    images, there = plain.image_embeds, batch["identity_attention_mask"].any(dim=1)
    asked = model.get_text_features(batch["identity_input_ids"][there], batch["identity_attention_mask"][there])
    same_person = batch["person_ids"][:, None] == batch["person_ids"]
    for name, gallery, queries, positives in (
        ("plain_info_nce_loss", images, plain.text_embeds, same_person),
        ("identity_query_loss", images[there], asked.pooler_output, same_person[there][:, there]),
    ):
        expected = info_nce_loss(gallery @ queries.T / model.config.temperature, positives)
        torch.testing.assert_close(losses[name], expected)
    without = {name: value for name, value in batch.items() if not name.startswith("identity")}
    missing = losses.keys() - model(**without, return_loss=True).loss_dict.keys()
    assert missing == {"plain_info_nce_loss", "identity_query_loss"}


@pytest.mark.parametrize("symmetric", [True, False])
def test_fused_entries_are_asked_for_by_the_descriptions_of_other_images(symmetric):
    model, batch = tiny_model(symmetric_contrast=symmetric), tiny_batch()
    batch["identity_attention_mask"][:] = 1
    outputs = model(**batch, return_loss=True)
    queries = model.get_text_features(batch["identity_input_ids"], batch["identity_attention_mask"]).pooler_output
    alone = model(pixel_values=batch["pixel_values"]).image_embeds
    persons, terms = batch["person_ids"].tolist(), []
    for gallery, leaves_out_own in ((alone, False), (outputs.image_embeds, True)):
        similarity = (gallery @ queries.T / model.config.temperature).double().exp()
        for scores in (similarity, similarity.T) if symmetric else (similarity,):
            rows = []
            for row, person in enumerate(persons):
                others = [column for column in range(4) if not (leaves_out_own and column == row)]
                negatives = sum(scores[row, column] for column in others if persons[column] != person)
                positives = [scores[row, column] for column in others if persons[column] == person]
                rows.append(-sum((score / (score + negatives)).log() for score in positives) / len(positives))
            terms.append(sum(rows) / len(rows))
    torch.testing.assert_close(outputs.loss_dict["identity_query_loss"].double(), sum(terms) / len(terms))


def test_equal_clothing_descriptions_are_no_negatives_of_each_other():
    model, batch = tiny_model(), tiny_batch()
    batch["clothing_text_ids"] = torch.zeros(4, dtype=torch.long)
    assert model(**batch, return_loss=True).loss_dict["alignment_loss"].item() == 0


def test_the_gate_splits_the_pooled_features():
    image = tiny_model()(pixel_values=tiny_batch()["pixel_values"]).image_output
    torch.testing.assert_close(image.clothing_features, (1 - image.gate) * image.pooled_clothing)
    torch.testing.assert_close(image.identity_tokens.mean(dim=1), image.identity_features)
    assert ((image.gate > 0) & (image.gate < 1)).all()


def test_a_new_model_starts_as_the_plain_encoder():
    torch.manual_seed(0)
    model = BDAMModel(tiny_config()).eval()
    pixel_values = tiny_batch()["pixel_values"]
    tokens = model.vision_model(pixel_values).last_hidden_state[:, 1:]
    image = model(pixel_values=pixel_values).image_output
    assert image.gate.eq(0.5).all()
    torch.testing.assert_close(image.identity_features, tokens.mean(dim=1) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(image.pooled_clothing, tokens.mean(dim=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["pooled", "tokens"])
def test_a_missing_description_is_as_none_at_all(mode):
    model, batch = tiny_model(fusion_mode=mode), tiny_batch()
    outputs = model(**batch)
    alone = model(pixel_values=batch["pixel_values"])
    torch.testing.assert_close(outputs.image_embeds[1], alone.image_embeds[1])
    assert outputs.fusion_weights[1].tolist() == [1, 0]
    assert alone.fusion_weights.eq(torch.tensor([1.0, 0.0])).all()
    assert not torch.allclose(outputs.image_embeds[0], alone.image_embeds[0], atol=1e-3)
    entries = {name: batch[name] for name in ("pixel_values", "identity_input_ids")}
    no_description = torch.zeros_like(batch["identity_attention_mask"])
    without = model(**entries, identity_attention_mask=no_description)
    assert torch.equal(without.image_embeds, alone.image_embeds)
    with_queries = model(**entries, identity_attention_mask=no_description, input_ids=batch["input_ids"])
    torch.testing.assert_close(with_queries.image_embeds, alone.image_embeds)


@pytest.mark.parametrize("mode", ["pooled", "tokens"])
def test_a_description_alone_makes_a_gallery_entry(mode):
    model, batch = tiny_model(fusion_mode=mode), tiny_batch()
    outputs = model(
        identity_input_ids=batch["identity_input_ids"], identity_attention_mask=batch["identity_attention_mask"]
    )
    assert outputs.fusion_weights[0].tolist() == [0, 1]
    longer = torch.nn.functional.pad(batch["identity_input_ids"], (0, 3))
    mask = torch.nn.functional.pad(batch["identity_attention_mask"], (0, 3))
    padded = model(identity_input_ids=longer, identity_attention_mask=mask)
    torch.testing.assert_close(padded.image_embeds, outputs.image_embeds)


@pytest.mark.parametrize("changes", [{}, {"text_pooling": "mean"}], ids=str)
def test_texts_do_not_disturb_each_other(changes):
    """One batched pass over caption, identity and clothing texts equals three passes."""
    model, batch = tiny_model(**changes), tiny_batch()
    together = model(**batch)
    query = model.get_text_features(batch["input_ids"], batch["attention_mask"], torch.zeros_like(batch["input_ids"]))
    torch.testing.assert_close(query.pooler_output, together.text_embeds)
    clothing = model.get_clothing_text_features(batch["clothing_input_ids"]).pooler_output
    torch.testing.assert_close(clothing, together.clothing_text_embeds)
    clothing = model.get_clothing_image_features(batch["pixel_values"]).pooler_output
    torch.testing.assert_close(clothing, together.clothing_image_embeds)
    entries = {name: batch[name] for name in ("pixel_values", "identity_input_ids", "identity_attention_mask")}
    torch.testing.assert_close(model.get_image_features(**entries).pooler_output, together.image_embeds)


def test_the_fusion_with_an_idle_scan_is_the_weighted_sum():
    model = tiny_model(use_mamba=False)
    outputs = model(**tiny_batch())
    fusion, image, description = model.fusion, outputs.image_output, outputs.description_output
    image = fusion.image_alignment(image.identity_features)
    text = fusion.text_alignment(description.features)
    weights = fusion.gate.projection(torch.cat([image, text], dim=-1)).softmax(dim=-1)
    expected = fusion.output_projection(weights[:, :1] * image + weights[:, 1:] * text)
    expected = torch.nn.functional.normalize(expected, dim=-1)
    described = [0, 2, 3]
    torch.testing.assert_close(outputs.image_embeds[described], expected[described])
    torch.testing.assert_close(outputs.fusion_weights[described], weights[described])


@pytest.mark.parametrize("mode", ["pooled", "tokens"])
def test_bfloat16_and_autocast_stay_close(mode):
    model, batch = tiny_model(fusion_mode=mode), tiny_batch()
    expected = model(**batch, return_loss=True)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model(**batch, return_loss=True)
    assert autocast.loss.dtype == torch.float32
    torch.testing.assert_close(
        autocast.loss_dict["info_nce_loss"], expected.loss_dict["info_nce_loss"], rtol=0.05, atol=0.05
    )
    half = copy.deepcopy(model).to(torch.bfloat16)(
        **{**batch, "pixel_values": batch["pixel_values"].bfloat16()}, return_loss=True
    )
    assert half.image_embeds.dtype == torch.bfloat16
    torch.testing.assert_close(half.image_embeds.float(), expected.image_embeds, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("mode", ["pooled", "tokens"])
def test_eager_and_sdpa_attention_agree(mode):
    model, batch = tiny_model(fusion_mode=mode), tiny_batch()
    expected = model(**batch)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(**batch).image_embeds, expected.image_embeds)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(dropout=0.0).train()
        for config in (model.config.vision_config, model.config.text_config):
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        model = BDAMModel(model.config).train()
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.data = 0.1 * torch.randn_like(parameter)
        if checkpointing:
            # Called gradient_checkpointing_enable by older versions of transformers, which newer ones warn of.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        model(**tiny_batch(), return_loss=True).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_save_and_load_are_exact(tmp_path):
    model, batch = tiny_model(fusion_mode="tokens"), tiny_batch()
    model.save_pretrained(tmp_path)
    loaded, info = BDAMModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(loaded.eval()(**batch).image_embeds, model(**batch).image_embeds)


def test_wrong_inputs_are_named():
    model, batch = tiny_model(), tiny_batch()
    with pytest.raises(ValueError, match="`pixel_values` 4, .*`input_ids` 3"):
        model(**{**batch, "input_ids": batch["input_ids"][:3], "attention_mask": None}, return_loss=True)
    with pytest.raises(ValueError, match="at least one of `pixel_values`"):
        model()
    with pytest.raises(ValueError, match="needs `pixel_values` and `input_ids`"):
        model(pixel_values=batch["pixel_values"], return_loss=True)
    with pytest.raises(ValueError, match=r"texts have 1000 tokens, but the text encoder \(bert\) takes \d+: truncate"):
        model(input_ids=torch.full((1, 1000), 7))
    with pytest.raises(ValueError, match=r"Images must be \(32, 16\)"):
        model(pixel_values=torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="no clothing stream"):
        tiny_model(use_bdam=False).get_clothing_image_features(batch["pixel_values"])
    with pytest.raises(ValueError, match="embeds images only"):
        tiny_model(use_fusion=False)(identity_input_ids=batch["identity_input_ids"])
