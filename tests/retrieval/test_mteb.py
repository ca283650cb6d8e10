"""MTEB's own harness finds what ours finds."""

import mteb
import pytest
from tiny import tiny_model

from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.evaluation.evaluate import evaluate_checkpoint
from bdam.recipes.recipe import Recipe
from bdam.retrieval.mteb import PersonEncoder, PersonRetrieval


@pytest.fixture(scope="module")
def places(processor, tmp_path_factory) -> tuple[str, str]:
    """A model and a data set of 10 people."""
    folder = tmp_path_factory.mktemp("places")
    save_model(folder / "model", tiny_model(), processor, Recipe(data="data", output_dir="run"))
    generate_pedestrians(0, 0, 10, 2, 2, image_size=(32, 16)).save_to_disk(folder / "people")
    return str(folder / "model"), str(folder / "people")


@pytest.mark.parametrize(
    "protocol, query, weight",
    [
        ("standard", "caption", 0.0),
        ("standard", "caption", 0.4),
        ("standard", "identity_description", 0.0),
        ("same-clothes", "caption", 0.4),
        ("clothes-changed", "caption", 0.4),
        ("clothes-changed", "identity_description", 0.0),
    ],
)
def test_the_harness_of_mteb_counts_what_ours_counts(places, protocol, query, weight):
    model, data = places
    (ours,) = [
        result
        for result in evaluate_checkpoint(model, data, clothing_weights=(weight,))
        if (result.protocol, result.query, result.gallery) == (protocol, query, "image")
    ]
    task = PersonRetrieval(data, protocol, query)
    (found,) = mteb.evaluate(PersonEncoder(model, weight), task, cache=None, show_progress_bar=False).task_results
    (scores,) = found.scores["test"]
    for k in (1, 5, 10):
        assert 100 * scores[f"hit_rate_at_{k}"] == pytest.approx(getattr(ours, f"r{k}"), abs=0.01)
    assert 100 * scores["map_at_1000"] == pytest.approx(ours.map, abs=0.01)
    assert 0 < ours.r1 < 100


def test_what_is_no_protocol_is_named(places):
    with pytest.raises(ValueError, match="'changed' is no protocol: give standard, same-clothes, clothes-changed"):
        PersonRetrieval(places[1], "changed")
