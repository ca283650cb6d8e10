"""The metrics against a plain loop over queries in numpy, and the promises of their docstrings."""

import numpy as np
import pytest
import torch

from bdam.evaluation.metrics import PROTOCOLS, rank_queries, retrieval_metrics


def reference_metrics(case, protocol):
    """Sort every query's gallery, negatives before positives where they tie."""
    first_ranks, precisions, penalties, chances = [], [], [], []
    scores = case["query_embeds"].double().numpy() @ case["gallery_embeds"].double().numpy().T
    query_persons, gallery_persons = case["query_person_ids"].numpy(), case["gallery_person_ids"].numpy()
    query_outfits, gallery_outfits = case["query_outfit_ids"].numpy(), case["gallery_outfit_ids"].numpy()
    for query, query_scores in enumerate(scores):
        same_person = gallery_persons == query_persons[query]
        same_outfit = gallery_outfits == query_outfits[query]
        positive = {
            "standard": same_person,
            "same-clothes": same_person & same_outfit,
            "clothes-changed": same_person & ~same_outfit,
        }[protocol].copy()
        if "query_camera_ids" in case:
            positive &= (case["gallery_camera_ids"] != case["query_camera_ids"][query]).numpy()
        if case.get("own_pictures") is not None and case["own_pictures"][query] >= 0:
            positive[case["own_pictures"][query]] = False
        kept = positive | ~same_person
        order = np.lexsort((positive[kept], -query_scores[kept]))
        hits = np.flatnonzero(positive[kept][order]) + 1
        if len(hits):
            first_ranks.append(hits[0])
            precisions.append(np.mean([(place + 1) / rank for place, rank in enumerate(hits)]))
            penalties.append(len(hits) / hits[-1])
            chances.append(len(hits) / kept.sum())
    metrics = {f"r{k}": 100 * np.mean(np.array(first_ranks) <= k) for k in (1, 5, 10)}
    metrics |= {"map": 100 * np.mean(precisions), "minp": 100 * np.mean(penalties), "chance": 100 * np.mean(chances)}
    return metrics | {"num_queries": len(first_ranks), "num_gallery": len(gallery_persons)}


def random_case(seed, num_queries=40, num_gallery=60, num_persons=12, values=3):
    """Small integers as embeddings: every product is exact, and many scores tie."""
    random = torch.Generator().manual_seed(seed)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=random)

    return {
        "query_embeds": integers(-values, values + 1, num_queries, 4).float(),
        "gallery_embeds": integers(-values, values + 1, num_gallery, 4).float(),
        "query_person_ids": integers(0, num_persons, num_queries) * 7 - 20,
        "gallery_person_ids": integers(0, num_persons, num_gallery) * 7 - 20,
        "query_outfit_ids": integers(0, 2, num_queries),
        "gallery_outfit_ids": integers(0, 2, num_gallery),
    }


def own_pictures(case, seed):
    """For about half of the queries, one of the pictures of their person."""
    random = np.random.default_rng(seed)
    candidates = [np.flatnonzero(case["gallery_person_ids"] == person) for person in case["query_person_ids"]]
    return torch.tensor([random.choice(own) if len(own) and random.random() < 0.5 else -1 for own in candidates])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("written_for", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"values": 1},
        {"num_gallery": 6, "num_persons": 3},
        {"num_gallery": 30, "num_persons": 40},
        {"num_gallery": 300, "num_persons": 4, "values": 20},
    ],
    ids=["mixed", "many ties", "gallery below ten", "few positives", "many positives"],
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_plain_loop(protocol, written_for, sizes, seed):
    case = random_case(seed, **sizes)
    if written_for:
        case["own_pictures"] = own_pictures(case, seed)
    expected = reference_metrics(case, protocol)
    assert retrieval_metrics(**case, protocol=protocol) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_pictures_from_the_querys_camera_are_ignored(protocol, seed):
    case = random_case(seed, num_persons=5)
    random = torch.Generator().manual_seed(seed)
    for side, embeds in (("query", case["query_embeds"]), ("gallery", case["gallery_embeds"])):
        case[f"{side}_camera_ids"] = torch.randint(3, (len(embeds),), generator=random)
    expected = reference_metrics(case, protocol)
    assert retrieval_metrics(**case, protocol=protocol) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_chunks_change_nothing(chunk_size):
    case = random_case(0)
    assert retrieval_metrics(**case, chunk_size=chunk_size) == retrieval_metrics(**case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_may_have_any_precision(dtype):
    case = random_case(1)
    expected = retrieval_metrics(**case)
    case["query_embeds"], case["gallery_embeds"] = case["query_embeds"].to(dtype), case["gallery_embeds"].to(dtype)
    assert retrieval_metrics(**case) == expected


def test_half_precision_scores_are_not_rounded_to_half():
    gallery = torch.tensor([[1.0, 2**-12], [1.0, 0.0]], dtype=torch.float16)
    metrics = retrieval_metrics(torch.ones(1, 2).half(), gallery, torch.tensor([0]), torch.tensor([0, 1]))
    assert metrics["r1"] == 100


def test_autocast_does_not_round_the_scores():
    case = random_case(1, values=40)
    expected = retrieval_metrics(**case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieval_metrics(**case) == expected


def test_inputs_are_left_alone():
    case = random_case(2)
    copies = {name: values.clone() for name, values in case.items()}
    retrieval_metrics(**case)
    assert all(torch.equal(case[name], copies[name]) for name in case)


def test_collapsed_model_finds_nobody():
    case = random_case(3, num_persons=5)
    case["query_embeds"], case["gallery_embeds"] = torch.ones(40, 4), torch.ones(60, 4)
    metrics = retrieval_metrics(**case)
    assert metrics["r1"] == metrics["r10"] == 0
    assert metrics["map"] < 20


def test_figures_of_a_ranking_worked_by_hand():
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    metrics = retrieval_metrics(torch.ones(1, 1), scores.T, torch.tensor([1]), torch.tensor([0, 1, 0, 1, 0]))
    assert metrics == {
        "r1": 0.0,
        "r5": 100.0,
        "r10": 100.0,
        "map": pytest.approx(50),
        "minp": pytest.approx(50),
        "chance": pytest.approx(40),
        "num_queries": 1,
        "num_gallery": 5,
    }


def test_ranks_of_each_query_in_the_order_given():
    queries = rank_queries(
        torch.tensor([[1.0], [-1.0], [1.0], [1.0]]),
        torch.tensor([[4.0], [3.0], [2.0], [1.0]]),
        torch.tensor([5, 5, 9, 8]),
        torch.tensor([8, 5, 5, 8]),
    )
    assert queries.first_rank.tolist() == [2, 2, 0, 1]
    assert queries.average_precision.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, 0, 3 / 4])
    assert queries.inverse_negative_penalty.tolist() == pytest.approx([2 / 3, 2 / 3, 0, 2 / 4])
    assert queries.chance.tolist() == pytest.approx([2 / 4, 2 / 4, 0, 2 / 4])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"protocol": "clothes"}, "protocol must be one of standard, same-clothes, clothes-changed, got 'clothes'"),
        ({"query_embeds": torch.ones(40, 5)}, r"same D, got \(40, 5\) and \(60, 4\)"),
        ({"gallery_embeds": torch.ones(4)}, r"got \(40, 4\) and \(4,\)"),
        ({"query_person_ids": torch.zeros(39)}, r"query_person_ids .* \(40,\), got \(39,\)"),
        ({"gallery_person_ids": torch.zeros(60, 1)}, r"gallery_person_ids .* \(60,\), got \(60, 1\)"),
        ({"protocol": "same-clothes", "query_outfit_ids": None}, "query_outfit_ids is missing"),
        ({"protocol": "clothes-changed", "gallery_outfit_ids": None}, "gallery_outfit_ids is missing"),
        ({"query_camera_ids": torch.zeros(40)}, "gallery_camera_ids is missing"),
        ({"gallery_camera_ids": torch.zeros(60)}, "query_camera_ids is missing"),
        ({"own_pictures": torch.full((40,), 60)}, "own_pictures must be -1 or an index below 60"),
        ({"own_pictures": torch.full((40,), -2)}, "own_pictures must be -1 or an index below 60"),
        ({"own_pictures": torch.zeros(40)}, "own_pictures: the picture of query 0 shows another person"),
        ({"query_person_ids": torch.full((40,), -1)}, "none of the 40 queries has a positive"),
        ({"gallery_embeds": torch.ones(0, 4), "gallery_person_ids": torch.ones(0)}, "among 0 gallery pictures"),
        ({"query_embeds": torch.ones(0, 4), "query_person_ids": torch.ones(0)}, "none of the 0 queries"),
    ],
)
def test_errors_name_the_argument(change, message):
    case = random_case(4) | {"query_person_ids": torch.full((40,), 1), "gallery_person_ids": torch.arange(60)}
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**(case | change))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(value):
    case = random_case(5, num_persons=1)
    case["query_embeds"][17, 2] = value
    with pytest.raises(ValueError, match="scores of query 17 are not finite"):
        retrieval_metrics(**case)


def test_clothes_protocol_without_any_positive():
    case = random_case(6) | {"query_outfit_ids": torch.zeros(40), "gallery_outfit_ids": torch.zeros(60)}
    with pytest.raises(ValueError, match="'clothes-changed' protocol"):
        retrieval_metrics(**case, protocol="clothes-changed")
