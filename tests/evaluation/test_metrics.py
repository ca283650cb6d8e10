"""The metrics against a plain implementation on cases that Hypothesis draws, and the promises of their docstrings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bdam.evaluation.metrics import PROTOCOLS, NoPositivesError, rank_queries, retrieval_metrics


PERSONS = st.sampled_from([-(2**62), -20, 3, 2**62])
DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


@st.composite
def cases(draw):
    """Arguments of the metrics. The embeddings are small integers: every score is exact, and many of them tie."""
    sizes = {"query": draw(st.integers(0, 8)), "gallery": draw(st.integers(0, 24))}

    def both(name, elements, *width):
        drawn = {side: draw(arrays(np.int64, (size, *width), elements=elements)) for side, size in sizes.items()}
        return {f"{side}_{name}": torch.from_numpy(values) for side, values in drawn.items()}

    case = {
        **{name: embeds.to(draw(DTYPES)) for name, embeds in both("embeds", st.integers(-3, 3), 2).items()},
        **both("person_ids", PERSONS),
        **both("outfit_ids", st.integers(0, 2)),
        "protocol": draw(st.sampled_from(PROTOCOLS)),
        "chunk_size": draw(st.integers(1, 9)),
    }
    if draw(st.booleans()):
        case |= both("camera_ids", st.integers(0, 2))
    if draw(st.booleans()):
        theirs = [case["gallery_person_ids"] == person for person in case["query_person_ids"]]
        own_images = [draw(st.sampled_from([-1, *shown.nonzero()[:, 0].tolist()])) for shown in theirs]
        case["own_images"] = torch.tensor(own_images, dtype=torch.int64)
    return case


def plain_ranks(case):
    """The fields of `QueryRanks`, (Q, 4): sort the gallery of each query, strangers first where they tie."""
    case = {name: values.tolist() if torch.is_tensor(values) else values for name, values in case.items()}
    case = SimpleNamespace(**{"query_camera_ids": None, "own_images": None} | case)

    def is_ignored(query, image):
        same_outfit = case.gallery_outfit_ids[image] == case.query_outfit_ids[query]
        return (
            (case.protocol == "same-clothes" and not same_outfit)
            or (case.protocol == "clothes-changed" and same_outfit)
            or (case.query_camera_ids and case.query_camera_ids[query] == case.gallery_camera_ids[image])
            or (case.own_images and case.own_images[query] == image)
        )

    rows = []
    for query, person in enumerate(case.query_person_ids):
        ranking = []
        for image, shown in enumerate(case.gallery_person_ids):
            if shown != person or not is_ignored(query, image):
                score = np.dot(case.query_embeds[query], case.gallery_embeds[image])
                ranking.append((-score, shown == person))
        hits = [rank for rank, (_, is_positive) in enumerate(sorted(ranking), start=1) if is_positive]
        precisions = [found / rank for found, rank in enumerate(hits, start=1)]
        if hits:
            rows.append((hits[0], sum(precisions) / len(hits), len(hits) / hits[-1], len(hits) / len(ranking)))
        else:
            rows.append((0, 0, 0, 0))
    return np.array(rows).reshape(-1, 4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cases())
def test_agrees_with_a_plain_implementation(case):
    expected = plain_ranks(case)
    np.testing.assert_allclose(np.stack(rank_queries(**case), axis=1), expected, rtol=1e-12)

    counted = expected[expected[:, 0] > 0]
    if not len(counted):
        with pytest.raises(NoPositivesError):
            retrieval_metrics(**case)
        return
    first_rank, average_precision, inverse_negative_penalty, chance = counted.T
    expected_metrics = {
        "r1": 100 * np.mean(first_rank <= 1),
        "r5": 100 * np.mean(first_rank <= 5),
        "r10": 100 * np.mean(first_rank <= 10),
        "map": 100 * np.mean(average_precision),
        "minp": 100 * np.mean(inverse_negative_penalty),
        "chance": 100 * np.mean(chance),
        "num_queries": len(counted),
        "num_gallery": len(case["gallery_embeds"]),
    }
    assert retrieval_metrics(**case) == pytest.approx(expected_metrics, rel=1e-12)


def test_figures_of_a_ranking_worked_by_hand():
    # The third image shows the person too, from the query's own camera.
    scores = torch.tensor([[0.9, 0.8, 0.75, 0.7, 0.6, 0.5]])
    metrics = retrieval_metrics(
        torch.ones(1, 1),
        scores.T,
        torch.tensor([1]),
        torch.tensor([0, 1, 1, 0, 1, 0]),
        query_camera_ids=torch.tensor([7]),
        gallery_camera_ids=torch.tensor([7, 8, 7, 8, 8, 7]),
    )
    assert metrics == {
        "r1": 0.0,
        "r5": 100.0,
        "r10": 100.0,
        "map": pytest.approx(50),
        "minp": pytest.approx(50),
        "chance": pytest.approx(40),
        "num_queries": 1,
        "num_gallery": 6,
    }


@pytest.fixture
def case():
    """40 queries and 60 images of 12 persons in two outfits."""
    random = torch.Generator().manual_seed(0)
    return {
        "query_embeds": torch.randn(40, 4, generator=random),
        "gallery_embeds": torch.randn(60, 4, generator=random),
        "query_person_ids": torch.randint(12, (40,), generator=random),
        "gallery_person_ids": torch.randint(12, (60,), generator=random),
        "query_outfit_ids": torch.randint(2, (40,), generator=random),
        "gallery_outfit_ids": torch.randint(2, (60,), generator=random),
    }


def test_half_precision_scores_are_not_rounded_to_half():
    gallery = torch.tensor([[1.0, 2**-12], [1.0, 0.0]], dtype=torch.float16)
    metrics = retrieval_metrics(torch.ones(1, 2).half(), gallery, torch.tensor([0]), torch.tensor([0, 1]))
    assert metrics["r1"] == 100


def test_autocast_does_not_round_the_scores(case):
    expected = retrieval_metrics(**case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieval_metrics(**case) == expected


def test_inputs_are_left_alone(case):
    copies = {name: values.clone() for name, values in case.items()}
    retrieval_metrics(**case)
    assert all(torch.equal(case[name], copies[name]) for name in case)


def test_collapsed_model_finds_nobody(case):
    case["query_embeds"], case["gallery_embeds"] = torch.ones(40, 4), torch.ones(60, 4)
    metrics = retrieval_metrics(**case)
    assert metrics["r1"] == metrics["r10"] == 0
    assert metrics["map"] < 20


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
        ({"own_images": torch.full((40,), 60)}, "own_images must be -1 or an index below 60"),
        ({"own_images": torch.full((40,), -2)}, "own_images must be -1 or an index below 60"),
        ({"own_images": torch.zeros(40)}, "own_images: the image of query 0 shows another person"),
        (
            {"query_person_ids": torch.full((40,), -1)},
            "none of the 40 queries has a positive among 60 gallery images",
        ),
        (
            {
                "protocol": "clothes-changed",
                "query_outfit_ids": torch.zeros(40),
                "gallery_outfit_ids": torch.zeros(60),
            },
            "under the 'clothes-changed' protocol",
        ),
    ],
)
def test_errors_name_the_argument(case, change, message):
    case |= {"query_person_ids": torch.full((40,), 1), "gallery_person_ids": torch.arange(60)}
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**(case | change))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(case, value):
    case["query_embeds"][17, 2] = value
    with pytest.raises(ValueError, match="scores of query 17 are not finite"):
        retrieval_metrics(**case)
