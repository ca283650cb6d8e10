"""The numbers of an analysis where they are known, and the command that shows them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import tiny_model

from bdam.data.loading import load_split
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.models import save_model
from bdam.evaluation import analysis
from bdam.evaluation.features import Features
from bdam.evaluation.results import MeanStd
from bdam.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate_pedestrians(2, 2, 8, image_size=(32, 16)).save_to_disk(folder)
    return folder


def described(descriptions: list[tuple[str, str]], outfit_ids: list[int | None]) -> Dataset:
    """Two images of each person, described in turn."""
    identity, clothing = zip(*descriptions, strict=True)
    columns = {"identity_description": identity, "clothing_description": clothing, "outfit_id": outfit_ids}
    return Dataset.from_dict({"person_id": [row // 2 for row in range(len(descriptions))], **columns})


def people(num_persons: int = 400) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Persons in one outfit each, who are tall or not and wear red or not, with those two bits of each image."""
    tall, red = np.random.default_rng(0).integers(0, 2, (2, num_persons)).repeat(2, axis=1)
    mood = np.random.default_rng(1).integers(0, 2, 2 * num_persons)
    descriptions = [
        (f"{('Seen', 'Noticed')[m]} is a {('short', 'tall')[t]} person.", f"It is a {('blue', 'red')[r]} coat.")
        for t, r, m in zip(tall, red, mood, strict=True)
    ]
    return described(descriptions, [row // 2 for row in range(len(tall))]), tall, red


def noisy(signal: np.ndarray) -> torch.Tensor:
    """Features (N, 6) of which the first tells the signal, the rest nothing."""
    features = torch.randn(len(signal), 6, generator=torch.Generator().manual_seed(0))
    features[:, 0] = 0.1 * features[:, 0] + torch.tensor(signal)
    return features


def test_probes_read_what_a_feature_says_and_nothing_else():
    dataset, tall, red = people()
    probes = analysis.disentanglement({"f_id": noisy(tall), "f_clo": noisy(red)}, dataset)
    assert {term["term"] for term in probes["identity"].terms} == {"short", "tall"}
    assert {term["term"] for term in probes["clothing"].terms} == {"blue", "red"}
    for kind, own, other in (("identity", "f_id", "f_clo"), ("clothing", "f_clo", "f_id")):
        assert probes[kind].areas[own] > 0.99
        assert abs(probes[kind].areas[other] - 0.5) < 0.1


def test_probes_cannot_recognize_persons():
    """A feature that tells persons apart, but not what they share, reads nothing about unseen persons."""
    dataset, _, _ = people()
    persons = torch.randn(400, 50, generator=torch.Generator().manual_seed(0)).repeat_interleave(2, dim=0)
    probes = analysis.disentanglement({"f_id": persons}, dataset)
    assert all(abs(probe.areas["f_id"] - 0.5) < 0.1 for probe in probes.values())


def test_without_descriptions_there_are_no_probes():
    assert analysis.disentanglement({"f_id": torch.zeros(4, 2)}, described([("", "")] * 4, [None] * 4)) == {}


def test_attributes_are_asked_for_where_they_are_known():
    dataset, tall, red = people()
    dataset = dataset.add_column("identity_attributes", [{"height": ("short", "tall")[bit]} for bit in tall])
    dataset = dataset.add_column("clothing_attributes", [{"coat": ("blue", "red")[bit]} for bit in red])
    probes = analysis.disentanglement({"f_id": noisy(tall), "f_clo": noisy(red)}, dataset)
    assert [term["term"] for term in probes["identity"].terms] == ["height short", "height tall"]
    assert probes["clothing"].areas["f_clo"] > 0.99


def test_distinctive_terms_are_frequent_of_one_kind_and_true_of_the_subject():
    texts = ["Image of a rare tall man", "image of a tall man", "photo of a man", "Image of a man's hat"] * 10
    texts[1] += " unique"
    others = ["A coat", "a hat", "a coat", "a coat"] * 10
    tokens, other_tokens = ([set(text.lower().split()) for text in of] for of in (texts, others))
    terms, presence = analysis.distinctive_terms(tokens, other_tokens, np.arange(40) // 2)
    assert terms == ["tall"]
    assert presence[:, 0].tolist() == [True, True, False, False] * 10


def test_gate_statistics_by_hand():
    parts = {"gate": torch.tensor([[0.2, 0.4], [0.6, 0.8]]), "fusion_weights": torch.tensor([[0.9, 0.1], [0.7, 0.3]])}
    statistics = analysis.gate_statistics(parts)
    assert statistics["gates"]["identity"].mean == pytest.approx(0.5)
    assert statistics["gates"]["identity"].std == pytest.approx(0.05**0.5)
    assert statistics["gates"]["clothing"].mean == pytest.approx(0.5)
    assert statistics["gates"]["identity"].paper == MeanStd(mean=0.61, std=0.17)
    assert statistics["fusion_weights"]["image"].mean == pytest.approx(0.8)
    assert statistics["fusion_weights"]["description"].std == pytest.approx(0.1)
    assert analysis.gate_statistics({}) == {"gates": {}, "fusion_weights": {}}


def test_fusion_weights_are_those_of_described_images(processor, data):
    rows = load_split(data, "test")[:4]
    some = Dataset.from_dict({"image": rows["image"], "identity_description": ["A tall man.", "", None, None]})
    parts = analysis.image_parts(BDAMEncoder(tiny_model(), processor), some, batch_size=2)
    assert parts["gate"].shape == parts["f_id"].shape == parts["f_clo"].shape == (4, 32)
    assert parts["fusion_weights"].shape == (1, 2) and 0 < parts["fusion_weights"][0, 1] < 1


def ranking() -> tuple[Features, Dataset]:
    """Six images of three persons; by their one caption each, persons 0, 1 and 2 are first found at rank 1, 5, 3."""
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 4], [9, 8, 1, 2, 7, 6], [9, 8, 1, 0, 7, 6]])
    features = Features(
        galleries={"image": torch.eye(6)},
        clothing=None,
        queries={"caption": scores},
        clothing_queries={},
        query_images={"caption": torch.tensor([0, 2, 4])},
        query_lengths={"caption": torch.full((3,), 8)},
        gallery_images=torch.arange(6),
        person_ids=torch.tensor([0, 0, 1, 1, 2, 2]),
    )
    captions = [["who is 0"], [], ["who is 1"], [], ["who is 2"], []]
    return features, Dataset.from_dict({"captions": captions, "image": list(range(6))})


def test_examples_show_what_is_found_first_and_what_last():
    examples = analysis.examples(*ranking(), clothing_weight=0, k=3)
    (success,) = examples["successes"]
    assert (success.sentence, success.images, success.right) == ("who is 0", [0, 1, 2], [True, True, False])
    worst, second = examples["failures"]
    assert (worst.sentence, worst.images, worst.ranks) == ("who is 1", [0, 1, 3], [1, 2, 5])
    assert (second.sentence, second.images, second.ranks) == ("who is 2", [0, 1, 4], [1, 2, 3])


def save_run(folder: Path, data: Path, processor, **changes) -> Path:
    model = tiny_model(**changes)
    save_model(folder / "model", model, processor, Recipe(data=str(data), output_dir=str(folder)))
    lines = [{"step": step, "info_nce_loss": 4 / step, "weight/info_nce_loss": 1.0} for step in (1, 2)]
    lines.append({"step": 2, "validation_score": 1})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_command_writes_what_it_shows(tmp_path, data, processor, bdam):
    run = save_run(tmp_path, data, processor)
    code, output = bdam("analyze", run)
    assert code == 0 and "0.61 ± 0.17" in output and "task losses, loss weights" in output
    results = json.loads((run / "analysis/analysis.json").read_text())
    assert results["num_images"] == 32 and set(results["probes"]) == {"identity", "clothing"}
    for probe in results["probes"].values():
        assert all(0 <= term[name] <= 1 for term in probe["terms"] for name in ("f_id", "f_clo"))
        assert f"{len(probe['terms'])} " in output and f"{probe['areas']['f_clo']:.2f}" in output
    drawn = {path.name for path in (run / "analysis").glob("*.png")}
    assert drawn == {name for name, is_drawn in results["figures"].items() if is_drawn}
    assert {"gates.png", "embeddings.png", "weights.png", "failures.png"} <= drawn

    assert bdam("analyze", run, "--output", tmp_path / "again")[0] == 0
    for path in (run / "analysis").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_what_a_model_does_not_have_is_said(tmp_path, data, processor, bdam):
    run = save_run(tmp_path, data, processor, use_bdam=False, use_fusion=False)
    (run / "log.jsonl").write_text("")
    code, output = bdam("analyze", run, "--split", "validation")
    assert code == 0 and "gate none" in output and "fusion weight none" in output
    assert "training log no losses" in output and "gates.png nothing to draw" in output
    results = json.loads((run / "analysis/analysis.json").read_text())
    assert results["gates"] == results["fusion_weights"] == {}
    assert all(set(probe["areas"]) == {"f_id"} for probe in results["probes"].values())


def test_mistakes_name_the_file_and_the_remedy(tmp_path, data, processor, bdam):
    code, output = bdam("analyze", tmp_path)
    assert code == 1 and "No model at" in output
    run = save_run(tmp_path, data, processor)
    (run / "log.jsonl").write_text('{"step": 1}\n{"st')
    code, output = bdam("analyze", run)
    assert code == 1 and "log.jsonl, line 2 is not JSON" in output
    (run / "log.jsonl").unlink()
    code, output = bdam("analyze", run)
    assert code == 1 and "No training log at" in output and "log.jsonl" in output


def test_without_scikit_learn_the_extra_is_named(tmp_path, bdam, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    monkeypatch.delitem(sys.modules, "bdam.evaluation.analysis")
    monkeypatch.delattr("bdam.evaluation.analysis")
    code, output = bdam("analyze", tmp_path)
    assert code == 1 and output.endswith("pip install bdam[analysis]")
