import pytest
import torch

from bdam.evaluation.features import Features
from bdam.evaluation.protocols import best_clothing_weight, evaluate, mix, selection_score
from bdam.evaluation.results import Score


PERSONS = torch.tensor([0, 0, 1, 1])
OUTFITS = torch.tensor([0, 1, 2, 3])
RIGHT = torch.eye(4)[PERSONS]
DRESSED = torch.eye(4)


def features(**changes) -> Features:
    """Four images of two persons in two outfits each; identity and clothing both read perfectly."""
    queries = {"caption": RIGHT, "identity_description": RIGHT}
    fields = {
        "galleries": {"image": RIGHT, "image+description": RIGHT, "description": RIGHT},
        "clothing": DRESSED,
        "queries": queries,
        "clothing_queries": {kind: DRESSED for kind in queries},
        "query_images": {kind: torch.arange(4) for kind in queries},
        "query_lengths": {kind: torch.full((4,), 20) for kind in queries},
        "gallery_images": torch.arange(4),
        "person_ids": PERSONS,
        "outfit_ids": OUTFITS,
    }
    return Features(**{**fields, **changes})


def only(scores: list[Score], **setting) -> Score:
    (score,) = [score for score in scores if setting.items() <= score.model_dump().items()]
    return score


def test_every_search_that_the_data_allows_is_scored():
    scores = evaluate(features(), (0.0, 0.5))
    galleries = {(score.protocol, score.gallery) for score in scores}
    assert len(galleries) == 3 * 3
    # Each outfit was seen once: without its own image, an identity query has nothing to find in the same clothes.
    kinds = {score.query for score in scores if score.protocol == "same-clothes"}
    assert kinds == {"caption"}
    # Clothing is mixed into captions searched by image only; the rest has nothing to say about clothes.
    mixed = {(score.query, score.gallery) for score in scores if score.clothing_weight > 0}
    assert mixed == {("caption", "image"), ("caption", "image+description")}


def test_protocols_differ_in_what_counts_as_right():
    blind = features(galleries={"image": torch.ones(4, 1)}, queries={"caption": torch.ones(4, 1)})
    scores = evaluate(blind, (0.0, 1.0))
    assert only(scores, protocol="same-clothes", clothing_weight=1.0).r1 == 100
    assert only(scores, protocol="clothes-changed", clothing_weight=1.0).r1 == 0
    assert only(scores, protocol="standard", clothing_weight=0.0).r1 == 0  # all scores equal: ties are misses


def test_an_identity_query_never_finds_its_own_description():
    """The gallery holds the query's very text; without that image, only the person's other one is right."""
    own = torch.eye(4)
    scores = evaluate(features(galleries={"description": own}, queries={"identity_description": own}))
    assert only(scores, protocol="standard").r1 == 0


def test_without_outfits_there_is_one_protocol():
    assert {score.protocol for score in evaluate(features(outfit_ids=None))} == {"standard"}


def test_images_by_the_own_camera_count_neither_way():
    """Both images of a person were taken by one camera, so that each query finds nobody else."""
    same_camera = features(camera_ids=torch.tensor([0, 0, 1, 2]))
    score = only(evaluate(same_camera), protocol="standard", gallery="image", query="caption")
    assert score.num_queries == 2 and score.r1 == 100


def test_an_official_gallery_of_one_image_per_person_is_drawn_several_times():
    """Three images of two persons are the gallery; of the first person, one is recognized and one is not."""
    drawn = features(
        galleries={"image": torch.stack([RIGHT[0], -RIGHT[0], RIGHT[2]])},
        clothing=None,
        queries={"identity_description": RIGHT[[0]]},
        query_images={"identity_description": torch.tensor([3])},
        gallery_images=torch.tensor([0, 1, 2]),
        person_ids=torch.tensor([0, 0, 1, 0]),
        outfit_ids=torch.tensor([0, 0, 1, 2]),
        single_shots=40,
    )
    scores = evaluate(drawn)
    assert {score.protocol for score in scores} == {"standard", "clothes-changed"}
    for score in scores:
        assert score.num_gallery == 2 and score.chance == 50
        assert 20 < score.r1 < 80 and score.r5 == 100
    assert evaluate(drawn) == scores


def test_images_ask_for_captions_on_request():
    """The caption of the third image describes somebody else, so the other caption of that person is found first."""
    captions = torch.stack([RIGHT[0], RIGHT[0], RIGHT[0], RIGHT[2]])
    scores = evaluate(features(queries={"caption": captions}, clothing=None), image_to_text=True)
    score = only(scores, protocol="standard", gallery="caption", query="image")
    assert (score.num_queries, score.num_gallery) == (4, 4)
    # Persons 0: a stranger's caption scores as much as their own, and ties are misses. Person 1: found at rank 1.
    assert score.r1 == 50
    assert {score.query for score in scores if score.gallery == "caption"} == {
        *("image", "image+description", "description")
    }


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_one_inner_product_mixes_identity_and_clothing(weight):
    generator = torch.Generator().manual_seed(0)
    queries, gallery, clothing_queries, clothing = torch.randn(4, 4, 5, generator=generator)
    random = features(
        galleries={"image": gallery},
        queries={"caption": queries},
        clothing=clothing,
        clothing_queries={"caption": clothing_queries},
    )
    query_embeds, gallery_embeds = mix(random, "image", "caption", weight)
    expected = (1 - weight) * queries @ gallery.T + weight * clothing_queries @ clothing.T
    torch.testing.assert_close(query_embeds @ gallery_embeds.T, expected)


def test_the_clothing_weight_is_the_one_that_finds_most():
    assert best_clothing_weight(features(clothing=1 - DRESSED)) == 0
    assert best_clothing_weight(features(galleries={"image": 1 - RIGHT})) > 0.5
    assert best_clothing_weight(features(clothing=None)) == 0


def test_selection_looks_at_images_alone():
    score = evaluate(features())[0]
    scores = [
        score.model_copy(update={"gallery": gallery, "r1": r1})
        for gallery, r1 in (("image", 10.0), ("image", 20.0), ("description", 90.0))
    ]
    assert selection_score(scores) == 15
