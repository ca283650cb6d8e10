"""The equations of the paper against plain float64 references."""

import math

import pytest
import torch

from configuration_bdam import BDAMConfig
from losses_bdam import LOSSES, BDAMLossInputs, gate_regularizer, hsic_loss, info_nce_loss, triplet_loss


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_info_nce_with_one_positive_per_row_is_equation_3():
    similarity = random(5, 5) / 0.07
    expected = torch.nn.functional.cross_entropy(similarity, torch.arange(5))
    torch.testing.assert_close(info_nce_loss(similarity, torch.eye(5, dtype=torch.bool)), expected)


def test_info_nce_never_counts_another_image_of_the_person_as_negative():
    similarity = random(6, 6)
    persons = [0, 1, 0, 2, 1, 0]
    rows = []
    for i in range(6):
        negatives = sum(math.exp(similarity[i, n]) for n in range(6) if persons[n] != persons[i])
        terms = [
            -math.log(math.exp(similarity[i, p]) / (math.exp(similarity[i, p]) + negatives))
            for p in range(6)
            if persons[p] == persons[i]
        ]
        rows.append(sum(terms) / len(terms))
    ids = torch.tensor(persons)
    loss = info_nce_loss(similarity, ids[:, None] == ids[None, :])
    assert loss.item() == pytest.approx(sum(rows) / 6, rel=1e-12)


@pytest.mark.parametrize("weights", [[1.0, 0.5, 0.25, 1.0, 0.9, 0.1], [0.3] * 6, [1e-3, 1.0, 1.0, 1.0, 1.0, 1.0]])
def test_info_nce_of_weighed_rows_is_their_weighted_mean(weights):
    similarity, ids = random(6, 6) / 0.07, torch.tensor([0, 1, 0, 2, 1, 0])
    positives = ids[:, None] == ids[None, :]
    rows = [info_nce_loss(similarity[i : i + 1], positives[i : i + 1]).item() for i in range(6)]
    expected = sum(weight * row for weight, row in zip(weights, rows, strict=True)) / sum(weights)
    loss = info_nce_loss(similarity, positives, torch.tensor(weights, dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 6, 7, 64])
def test_info_nce_with_weights_of_one_is_the_unweighted_to_the_bit(size, dtype):
    positives = (torch.arange(size) // 2)[:, None] == (torch.arange(size) // 2)[None, :]
    results = []
    for weights in (None, torch.ones(size, dtype=dtype)):
        similarity = (random(size, size) / 0.07).to(dtype).requires_grad_()
        loss = info_nce_loss(similarity, positives, weights)
        loss.backward()
        results.append((loss.detach(), similarity.grad))
    assert all(map(torch.equal, *results))


def test_info_nce_of_a_batch_of_one_person_is_zero_with_finite_gradients():
    similarity = random(3, 3).requires_grad_()
    loss = info_nce_loss(similarity, torch.ones(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert similarity.grad.isfinite().all()


def test_sdm_loss_is_the_divergence_of_matches_from_predictions_in_both_directions():
    image, text = (torch.nn.functional.normalize(random(5, 4, seed=seed), dim=1) for seed in (0, 1))
    persons = [0, 1, 0, 2, 1]
    expected = 0.0
    for left, right in ((image, text), (text, image)):
        for i in range(5):
            exponentials = [math.exp((left[i] @ right[j]).item() / 0.02) for j in range(5)]
            for j in range(5):
                p = exponentials[j] / sum(exponentials)
                q = (persons[i] == persons[j]) / persons.count(persons[i])
                expected += p * math.log(p / (q + 1e-8)) / 5
    ids = torch.tensor(persons)
    inputs = BDAMLossInputs(image_embeds=image, text_embeds=text, identity_features=image, person_ids=ids)
    loss = LOSSES["sdm_loss"](inputs, BDAMConfig())
    assert loss.dtype == torch.float64 and loss.item() == pytest.approx(expected, rel=1e-12)


def test_tal_loss_compares_positives_with_the_hardest_negatives_in_both_directions():
    image, text = (torch.nn.functional.normalize(random(5, 4, seed=seed), dim=1) for seed in (0, 1))
    persons = [0, 1, 0, 2, 1]
    expected, terms = 0.0, []
    for left, right in ((image, text), (text, image)):
        for i in range(5):
            similarity = [(left[i] @ right[j]).item() for j in range(5)]
            positives = [similarity[j] for j in range(5) if persons[j] == persons[i]]
            negatives = [similarity[j] for j in range(5) if persons[j] != persons[i]]
            weights = [math.exp(s / 0.015) for s in positives]
            positive = sum(w * s for w, s in zip(weights, positives, strict=True)) / sum(weights)
            terms.append(0.1 - positive + 0.015 * math.log(sum(math.exp(s / 0.015) for s in negatives)))
            expected += max(0.0, terms[-1]) / 5
    assert 0 < sum(term > 0 for term in terms) < len(terms)
    inputs = BDAMLossInputs(image, text, image, person_ids=torch.tensor(persons))
    loss = LOSSES["tal_loss"](inputs, BDAMConfig())
    assert loss.dtype == torch.float64 and loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["sdm_loss", "tal_loss"])
@pytest.mark.parametrize("persons", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_losses_have_finite_gradients_where_predictions_are_certain_or_nobody_else_is_there(name, persons):
    image = torch.eye(4).requires_grad_()
    inputs = BDAMLossInputs(image, 10 * torch.eye(4).flip(0), image, person_ids=torch.tensor(persons))
    loss = LOSSES[name](inputs, BDAMConfig())
    (gradient,) = torch.autograd.grad(loss, image)
    assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_triplet_loss_is_equation_4(mining):
    features, persons, margin = random(7, 5), [0, 1, 0, 2, 1, 0, 3], 4.0
    terms = []
    for a in range(7):
        positives = [((features[a] - features[p]) ** 2).sum() for p in range(7) if persons[p] == persons[a] and p != a]
        negatives = [((features[a] - features[n]) ** 2).sum() for n in range(7) if persons[n] != persons[a]]
        if not positives:
            continue
        pairs = (
            [(max(positives), min(negatives))] if mining == "hard" else [(p, n) for p in positives for n in negatives]
        )
        terms += [max((p - n + margin).item(), 0.0) for p, n in pairs]
    loss = triplet_loss(features, torch.tensor(persons), margin, mining)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert 0 < sum(term > 0 for term in terms) < len(terms) or mining == "hard"


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_triplet_loss_without_a_valid_triplet_is_zero(mining):
    features = random(3, 4).requires_grad_()
    loss = triplet_loss(features, torch.arange(3), 0.3, mining)
    loss.backward()
    assert loss.item() == 0
    assert features.grad.eq(0).all()


def naive_hsic(kernel_identity: torch.Tensor, kernel_clothing: torch.Tensor) -> torch.Tensor:
    n = len(kernel_identity)
    centering = torch.eye(n, dtype=torch.float64) - torch.ones(n, n, dtype=torch.float64) / n
    return torch.trace(kernel_identity @ centering @ kernel_clothing @ centering) / (n - 1) ** 2


@pytest.mark.parametrize("batch_size", [5, 40], ids=["kernel form", "covariance form"])
def test_linear_hsic_is_equation_2_in_both_forms(batch_size):
    identity, clothing = random(batch_size, 12), random(batch_size, 12, seed=1) + 3
    expected = naive_hsic(identity @ identity.T, clothing @ clothing.T)
    torch.testing.assert_close(hsic_loss(identity, clothing), expected)


def test_rbf_hsic_uses_the_median_distance():
    identity, clothing = random(6, 3), random(6, 3, seed=1)

    def kernel(features: torch.Tensor) -> torch.Tensor:
        distances = (features[:, None] - features[None]).square().sum(-1)
        off_diagonal = distances[~torch.eye(6, dtype=torch.bool)]
        return torch.exp(-distances / off_diagonal.median())

    torch.testing.assert_close(
        hsic_loss(identity, clothing, kernel="rbf"), naive_hsic(kernel(identity), kernel(clothing))
    )


def whitened_cross_covariance(left: torch.Tensor, right: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Squared Frobenius norm of `(C_left + λ I)^(-1/2) C (C_right + λ I)^(-1/2)`, λ being ε of the whole variance."""
    whitened = []
    for features in (left, right):
        centered = features - features.mean(dim=0)
        values, vectors = torch.linalg.eigh(centered.T @ centered)
        whitened.append(centered @ vectors @ torch.diag((values + epsilon * values.sum()).rsqrt()))
    return (whitened[0].T @ whitened[1]).square().sum()


def test_normalized_linear_hsic_is_the_covariance_of_whitened_features():
    identity, clothing = random(30, 4), random(30, 6, seed=1)
    scale = whitened_cross_covariance(identity, identity, 0.01) * whitened_cross_covariance(clothing, clothing, 0.01)
    expected = whitened_cross_covariance(identity, clothing, 0.01) / scale.sqrt()
    torch.testing.assert_close(hsic_loss(identity, clothing, normalize=True), expected)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_normalized_hsic_lies_between_independence_and_equality(kernel):
    identity, clothing = random(60, 2), random(60, 2, seed=1)
    assert hsic_loss(identity, 7 * identity, kernel, normalize=True).item() == pytest.approx(1)
    assert 0 < hsic_loss(identity, clothing, kernel, normalize=True) < 0.3


def test_normalized_hsic_sees_what_is_shared_in_small_directions():
    shared = 0.3 * random(60, 2, seed=2)
    identity, clothing = (torch.cat([random(60, 1, seed=seed), shared], dim=1) for seed in (0, 1))
    covariance, variances = (
        hsic_loss(identity, clothing),
        hsic_loss(identity, identity) * hsic_loss(clothing, clothing),
    )
    assert covariance / variances.sqrt() < 0.1 and hsic_loss(identity, clothing, normalize=True) > 0.5


@pytest.mark.parametrize("normalize", [False, True])
def test_hsic_gradients_are_finite_for_collapsed_features(normalize):
    identity, clothing = torch.ones(6, 3, requires_grad=True), random(6, 3).float()
    for kernel in ("linear", "rbf"):
        loss = hsic_loss(identity, clothing, kernel, normalize)
        (gradient,) = torch.autograd.grad(loss, identity)
        assert loss.isfinite() and gradient.isfinite().all()


def test_gate_regularizer_is_the_divergence_from_one_half():
    gate = torch.tensor([[0.25, 0.5], [0.9, 0.5]], dtype=torch.float64)
    expected = sum(p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5) for p in (0.25, 0.5, 0.9, 0.5)) / 4
    assert gate_regularizer(gate).item() == pytest.approx(expected, abs=1e-12)
    weights = torch.tensor([[0.8, 0.2], [1.0, 0.0]], dtype=torch.float64)  # the second image has no description
    fusion = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert gate_regularizer(gate, weights).item() == pytest.approx(expected + fusion, abs=1e-9)


def test_gate_regularizer_has_finite_gradients_at_the_ends():
    gate = torch.tensor([[0.0, 1.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0]], requires_grad=True)
    gate_regularizer(gate, weights).backward()
    assert gate.grad.isfinite().all() and weights.grad.isfinite().all()
