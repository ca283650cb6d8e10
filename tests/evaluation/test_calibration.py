"""What is promised of scores holds on people whom the calibration has not seen, in galleries of other sizes."""

import math

import pytest
import torch

from bdam.evaluation.calibration import Calibration, ExpectedScores, UncalibratedError
from bdam.evaluation.features import Features
from bdam.evaluation.metrics import best_scores
from bdam.evaluation.protocols import search_arguments


def features(num_persons: int, seed: int = 0, noise: float = 1.0) -> Features:
    """Random persons with three images and two captions each: one in three captions finds its person."""
    random = torch.Generator().manual_seed(seed)

    def around(centers: torch.Tensor, share: float) -> torch.Tensor:
        return torch.nn.functional.normalize(centers + share * torch.randn(centers.shape, generator=random), dim=-1)

    halves = torch.randn(2, num_persons, 16, generator=random)
    identity, clothing = (around(half.repeat_interleave(3, 0), 0.4) for half in halves)
    identity_queries, clothing_queries = (around(half.repeat_interleave(2, 0), noise) for half in halves)
    return Features(
        galleries={"image": identity},
        clothing=clothing,
        queries={"caption": identity_queries, "identity_description": identity_queries},
        clothing_queries={"caption": clothing_queries},
        query_images={
            kind: torch.arange(num_persons).repeat_interleave(2) * 3 for kind in ("caption", "identity_description")
        },
        query_lengths={
            "caption": torch.arange(2 * num_persons) + 40,
            "identity_description": torch.full((2 * num_persons,), 30),
        },
        gallery_images=torch.arange(3 * num_persons),
        person_ids=torch.arange(num_persons).repeat_interleave(3),
    )


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return Calibration.fit(features(300))


def real_scores(people: Features, clothing_weight: float) -> ExpectedScores:
    """The best scores that the captions of people really have in their gallery."""
    entries = torch.arange(len(people.gallery_images))
    right, wrong, _ = best_scores(**search_arguments(people, "standard", "image", "caption", clothing_weight, entries))
    return ExpectedScores(right, wrong)


@pytest.mark.parametrize("num_persons", [300, 900])
@pytest.mark.parametrize("clothing_weight", [0.0, 0.5])
def test_what_is_stated_is_so_for_other_people_in_galleries_of_other_sizes(calibration, num_persons, clothing_weight):
    expected = calibration.expect("caption", clothing_weight, 3 * num_persons)
    real = real_scores(features(num_persons, seed=1), clothing_weight)
    # Three standard deviations: of 300 persons that were fitted, and of those that were not.
    noise = 3 * math.sqrt(0.25 / 300 + 0.25 / num_persons)
    for coverage in (0.8, 0.9):
        covered = (real.best - real.right <= expected.margin(coverage)).double().mean().item()
        least = max(coverage, (real.right > real.wrong).double().mean().item())  # the best hit is in every set
        assert least - noise * 0.9 <= covered <= least + noise * 0.9
    threshold, error = expected.absence()
    assert (real.best < threshold).double().mean().item() == pytest.approx(error, abs=noise)
    assert (real.wrong >= threshold).double().mean().item() == pytest.approx(error, abs=noise)
    probability = expected.probability_of_right(real.best).mean().item()
    assert probability == pytest.approx((real.right > real.wrong).double().mean().item(), abs=noise)


def test_no_more_is_promised_in_smaller_galleries_than_in_that_of_validation(calibration):
    expected, real = calibration.expect("caption", 0.0, 300), real_scores(features(100, seed=1), 0.0)
    noise = 3 * math.sqrt(0.25 / 300 + 0.25 / 100)
    for coverage in (0.8, 0.9):
        assert (real.best - real.right <= expected.margin(coverage)).double().mean().item() >= coverage - noise
    threshold, error = expected.absence()
    assert (real.wrong >= threshold).double().mean().item() <= error + noise
    assert expected.probability_of_right(real.best).mean() <= (real.right > real.wrong).double().mean() + noise


def test_absence_is_harder_to_tell_in_larger_galleries(calibration):
    found = [calibration.expect("caption", 0.5, size).absence() for size in (900, 3000, 9000)]
    thresholds, errors = zip(*found, strict=True)
    assert sorted(thresholds) == list(thresholds) and sorted(errors) == list(errors)


def test_the_scores_of_its_own_gallery_are_expected_as_they_were(calibration):
    scores = next(one for one in calibration.queries["caption"].scores if one.clothing_weight == 0.3)
    expected = calibration.expect("caption", 0.3, 900)
    torch.testing.assert_close(expected.wrong, torch.tensor(scores.wrong))
    torch.testing.assert_close(expected.right, torch.tensor(scores.right))


def test_the_best_of_more_images_is_distributed_as_the_best_of_many_draws():
    """Uniform scores, whose best of N is below t with probability t^N."""
    wrong = torch.rand(1000, 10, generator=torch.Generator().manual_seed(0)).amax(1)
    scores = {"clothing_weight": 0.0, "right": [1.0] * 1000, "wrong": wrong.tolist()}
    calibration = Calibration.model_validate(
        {"num_images": 10, "num_persons": 10, "queries": {"caption": {"shortest": 1, "scores": [scores]}}}
    )
    for num_images in (10, 20, 40):
        best = calibration.expect("caption", 0.0, num_images).wrong
        for level in (0.25, 0.5, 0.75):
            assert best.quantile(level).item() == pytest.approx(level ** (1 / num_images), abs=0.02)
        assert (best[wrong.argsort()].diff() >= 0).all()


def test_weights_between_two_that_were_measured_are_interpolated(calibration):
    low, between, high = (calibration.expect("caption", weight, 900) for weight in (0.5, 0.55, 0.6))
    torch.testing.assert_close(between.right, (low.right + high.right) / 2)
    torch.testing.assert_close(between.wrong, (low.wrong + high.wrong) / 2, atol=1e-3, rtol=0)


def test_few_queries_promise_little():
    few = ExpectedScores(right=torch.tensor([0.9, 0.5, 0.7]), wrong=torch.tensor([0.1, 0.6, 0.7]))
    assert few.margin(0.5) == 0  # two of four: the first and, at a tie, the last
    assert few.margin(0.75) == pytest.approx(0.1)
    assert few.margin(0.9) == math.inf  # every image
    (probability,) = few.probability_of_right(torch.tensor([0.9])).tolist()
    assert probability == pytest.approx(2 / 5)  # one of three, where a tie is a miss
    alone = ExpectedScores(right=torch.tensor([0.9]), wrong=torch.tensor([0.1]))
    threshold, error = alone.absence()
    assert error == 0 and 0.1 < threshold <= 0.9


def test_scores_that_all_tie_tell_nothing():
    blind = ExpectedScores(right=torch.full((50,), 0.5), wrong=torch.full((50,), 0.5))
    assert blind.margin(0.9) == 0 and blind.probability_of_right(torch.tensor([0.5])).item() == pytest.approx(1 / 52)
    assert blind.absence()[1] == 1


def test_what_is_not_known_is_said(calibration):
    with pytest.raises(UncalibratedError, match="22,501 images, more than 25 times the 900 of validation"):
        calibration.expect("caption", 0.5, 22_501)
    with pytest.raises(UncalibratedError, match=r"image\+caption: validation has none"):
        calibration.expect("image+caption", 0.5, 900)
    calibration.check_length("caption", 40 * "a")
    with pytest.raises(UncalibratedError, match="a sentence of 39 characters: those of validation have 40 or more"):
        calibration.check_length("caption", 39 * "a")


def test_a_split_of_few_persons_is_refused():
    for num_persons in (1, 19):
        with pytest.raises(ValueError, match="cannot tell what scores mean: it takes 20 persons or more"):
            Calibration.fit(features(num_persons))
    assert Calibration.fit(features(20)).num_persons == 20


def test_it_is_kept_with_the_model(calibration, tmp_path):
    assert Calibration.load(tmp_path) is None
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path) == calibration
    (tmp_path / "calibration.json").write_text('{"num_images": 3}')
    with pytest.raises(ValueError, match=r"calibration\.json is broken \(Field required\): remove it, or run"):
        Calibration.load(tmp_path)
