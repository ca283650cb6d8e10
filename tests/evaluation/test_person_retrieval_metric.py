"""The metric of `evaluate` against the function that it covers, and its card as the Hub will read it."""

import ast
import doctest
import sys
from pathlib import Path

import evaluate
import pytest
import torch
from huggingface_hub import SpaceCard

from bdam.evaluation.metrics import PROTOCOLS, retrieval_metrics


ROOT = Path(__file__).parents[2]
SPACE = ROOT / "metrics" / "person_retrieval"
# https://huggingface.co/docs/hub/spaces-config-reference
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module", autouse=True)
def fresh_caches(tmp_path_factory):
    """What `evaluate` copies and writes stays in a folder of this module; it finds the metric without the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path_factory.mktemp("modules"))
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path_factory.mktemp("metrics"))
        yield


@pytest.fixture
def metric():
    """Without files, whose locks a failed `compute` would hold; the example of the card uses files."""
    return evaluate.load(str(SPACE), keep_in_memory=True)


@pytest.fixture
def queries():
    random = torch.Generator().manual_seed(0)
    return {
        "predictions": torch.randn(12, 8, generator=random),
        "references": torch.randint(4, (12,), generator=random),
    }


@pytest.fixture
def others():
    """What is no feature: the gallery, and what the protocols want to know of queries and images."""
    random = torch.Generator().manual_seed(1)
    embeds = torch.randn(30, 8, generator=random)
    ids = {
        f"{side}_{kind}_ids": torch.randint(count, (length,), generator=random)
        for kind, count in (("person", 4), ("outfit", 2), ("camera", 3))
        for side, length in (("query", 12), ("gallery", 30))
        if (side, kind) != ("query", "person")  # those are the references
    }
    return {"gallery_embeds": embeds, **ids}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("in_batches", [False, True])
def test_equals_the_function(metric, queries, others, protocol, in_batches):
    expected = retrieval_metrics(
        query_embeds=queries["predictions"], query_person_ids=queries["references"], **others, protocol=protocol
    )
    if in_batches:
        for embeds, persons in zip(queries["predictions"].split(5), queries["references"].split(5), strict=True):
            metric.add_batch(predictions=embeds, references=persons)
        queries = {}
    assert metric.compute(**queries, **others, protocol=protocol) == expected


@pytest.mark.parametrize("convert", [torch.Tensor.numpy, torch.Tensor.tolist])
def test_takes_arrays_and_lists(metric, queries, others, convert):
    arguments = queries | others
    converted = {name: convert(values) for name, values in arguments.items()}
    assert metric.compute(**converted) == metric.compute(**arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"protocol": "clothes"}, "protocol must be one of standard, same-clothes, clothes-changed, got 'clothes'"),
        ({"predictions": torch.ones(12, 7)}, r"same D, got \(12, 7\) and \(30, 8\)"),
        ({"references": torch.ones(11)}, r"number of predictions \(12\) and references \(11\)"),
        (
            {"query_camera_ids": torch.ones(11)},
            r"query_camera_ids must have one id per embedding, \(12,\), got \(11,\)",
        ),
    ],
)
def test_bad_arguments_are_named_and_forgotten(metric, queries, others, change, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(**(queries | others | change))
    assert metric.compute(**queries, **others)["num_queries"] == 12


def test_the_gallery_is_required(metric, queries):
    with pytest.raises(TypeError, match="'gallery_embeds' and 'gallery_person_ids'"):
        metric.compute(**queries)


def test_the_example_of_the_card_is_true(monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, attempted = doctest.testfile(str(SPACE / "README.md"), module_relative=False)
    assert attempted and not failed


def test_the_card_configures_a_metric_space(metric):
    card = SpaceCard.load(SPACE / "README.md")
    assert card.data.sdk == "gradio" and (SPACE / card.data.app_file).is_file()
    assert {"evaluate", "metric"} <= set(card.data.tags)
    assert {card.data.colorFrom, card.data.colorTo} <= COLORS
    assert len(card.data.short_description) <= 60
    assert card.data.description.split() == metric.description.split()
    assert metric.citation in card.text


def test_requirements_are_what_the_scripts_import():
    imported = set()
    for script in SPACE.glob("*.py"):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    requirements = (SPACE / "requirements.txt").read_text(encoding="utf-8").split()
    assert imported - sys.stdlib_module_names == {*requirements, "gradio"}  # the Space's `sdk` brings gradio
