import pytest
import torch

from bdam.evaluation.features import Features
from bdam.evaluation.protocols import best_clothing_weight, evaluate, mix, selection_score


PERSONS = torch.tensor([0, 0, 1, 1])
OUTFITS = torch.tensor([0, 1, 2, 3])
RIGHT = torch.eye(4)[PERSONS]
DRESSED = torch.eye(4)


def features(**changes) -> Features:
    """Four pictures of two persons in two outfits each; identity and clothing both read perfectly."""
    queries = {"caption": RIGHT, "identity_description": RIGHT}
    fields = {
        "galleries": {"picture": RIGHT, "picture+description": RIGHT, "description": RIGHT},
        "clothing": DRESSED,
        "queries": queries,
        "clothing_queries": {kind: DRESSED for kind in queries},
        "query_pictures": {kind: torch.arange(4) for kind in queries},
        "gallery_pictures": torch.arange(4),
        "person_ids": PERSONS,
        "outfit_ids": OUTFITS,
    }
    return Features(**{**fields, **changes})


def only(records: list[dict], **setting) -> dict:
    (record,) = [record for record in records if setting.items() <= record.items()]
    return record


def test_records_are_flat_and_complete():
    records = evaluate(features(), (0.0, 0.5), split="test", checkpoint="model", seed=3)
    assert list(records[0]) == [
        *("protocol", "gallery", "query", "clothing_weight", "r1", "r5", "r10", "map", "minp"),
        *("chance", "num_queries", "num_gallery", "split", "checkpoint", "seed"),
    ]
    galleries = {(record["protocol"], record["gallery"]) for record in records}
    assert len(galleries) == 3 * 3
    # Each outfit was seen once: without its own picture, an identity query has nothing to find in the same clothes.
    kinds = {record["query"] for record in records if record["protocol"] == "same-clothes"}
    assert kinds == {"caption"}
    # Clothing is mixed into captions searched by picture only; the rest has nothing to say about clothes.
    mixed = {(record["query"], record["gallery"]) for record in records if record["clothing_weight"] > 0}
    assert mixed == {("caption", "picture"), ("caption", "picture+description")}


def test_protocols_differ_in_what_counts_as_right():
    blind = features(galleries={"picture": torch.ones(4, 1)}, queries={"caption": torch.ones(4, 1)})
    records = evaluate(blind, (0.0, 1.0))
    assert only(records, protocol="same-clothes", clothing_weight=1.0)["r1"] == 100
    assert only(records, protocol="clothes-changed", clothing_weight=1.0)["r1"] == 0
    assert only(records, protocol="standard", clothing_weight=0.0)["r1"] == 0  # all scores equal: ties are misses


def test_an_identity_query_never_finds_its_own_description():
    """The gallery holds the query's very text; without that picture, only the person's other one is right."""
    own = torch.eye(4)
    records = evaluate(features(galleries={"description": own}, queries={"identity_description": own}))
    assert only(records, protocol="standard")["r1"] == 0


def test_without_outfits_there_is_one_protocol():
    assert {record["protocol"] for record in evaluate(features(outfit_ids=None))} == {"standard"}


def test_pictures_by_the_own_camera_count_neither_way():
    """Both pictures of a person were taken by one camera, so that each query finds nobody else."""
    same_camera = features(camera_ids=torch.tensor([0, 0, 1, 2]))
    record = only(evaluate(same_camera), protocol="standard", gallery="picture", query="caption")
    assert record["num_queries"] == 2 and record["r1"] == 100


def test_an_official_gallery_of_one_picture_per_person_is_drawn_several_times():
    """Three pictures of two persons are the gallery; of the first person, one is recognised and one is not."""
    drawn = features(
        galleries={"picture": torch.stack([RIGHT[0], -RIGHT[0], RIGHT[2]])},
        clothing=None,
        queries={"identity_description": RIGHT[[0]]},
        query_pictures={"identity_description": torch.tensor([3])},
        gallery_pictures=torch.tensor([0, 1, 2]),
        person_ids=torch.tensor([0, 0, 1, 0]),
        outfit_ids=torch.tensor([0, 0, 1, 2]),
        single_shots=40,
    )
    records = evaluate(drawn)
    assert {record["protocol"] for record in records} == {"standard", "clothes-changed"}
    for record in records:
        assert record["num_gallery"] == 2 and record["chance"] == 50
        assert 20 < record["r1"] < 80 and record["r5"] == 100
    assert evaluate(drawn) == records


def test_pictures_ask_for_captions_on_request():
    """The caption of the third picture describes somebody else, so the other caption of that person is found first."""
    captions = torch.stack([RIGHT[0], RIGHT[0], RIGHT[0], RIGHT[2]])
    records = evaluate(features(queries={"caption": captions}, clothing=None), image_to_text=True)
    record = only(records, protocol="standard", gallery="caption", query="picture")
    assert (record["num_queries"], record["num_gallery"]) == (4, 4)
    # Persons 0: a stranger's caption scores as much as their own, and ties are misses. Person 1: found at rank 1.
    assert record["r1"] == 50
    assert {record["query"] for record in records if record["gallery"] == "caption"} == {
        *("picture", "picture+description", "description")
    }


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_one_inner_product_mixes_identity_and_clothing(weight):
    generator = torch.Generator().manual_seed(0)
    queries, gallery, clothing_queries, clothing = torch.randn(4, 4, 5, generator=generator)
    random = features(
        galleries={"picture": gallery},
        queries={"caption": queries},
        clothing=clothing,
        clothing_queries={"caption": clothing_queries},
    )
    query_embeds, gallery_embeds = mix(random, "picture", "caption", weight)
    expected = (1 - weight) * queries @ gallery.T + weight * clothing_queries @ clothing.T
    torch.testing.assert_close(query_embeds @ gallery_embeds.T, expected)


def test_the_clothing_weight_is_the_one_that_finds_most():
    assert best_clothing_weight(features(clothing=1 - DRESSED)) == 0
    assert best_clothing_weight(features(galleries={"picture": 1 - RIGHT})) > 0.5
    assert best_clothing_weight(features(clothing=None)) == 0


def test_selection_looks_at_pictures_alone():
    records = [
        {"gallery": "picture", "r1": 10},
        {"gallery": "picture", "r1": 20},
        {"gallery": "description", "r1": 90},
    ]
    assert selection_score(records) == 15
