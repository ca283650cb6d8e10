import copy

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch import nn

from bdam.recipes.recipe import load_recipe
from bdam.training.balancing import FixedWeights, GradNorm, build_balancer, shared_parameters
from losses_bdam import TASKS


ONES = dict.fromkeys(TASKS, 1.0)


def four_losses(model: nn.Module, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    first, second, third, fourth = model(inputs).T
    values = (first.square(), 3 * (second - 1).abs(), (third.exp() - 2).square(), nn.functional.softplus(fourth))
    return {name: value.mean() for name, value in zip(TASKS, values, strict=True)}


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def reference_step(model, log_weights, initial, losses, alpha, regularization):
    """Eq. 5 and 6 as written: the graph of the gradients, differentiated with respect to the s_k."""
    losses = list(losses.values())
    weights = log_weights.exp()
    shared = list(model[2].parameters())
    norms = []
    for weight, loss in zip(weights, losses, strict=True):
        gradients = torch.autograd.grad(weight * loss, shared, create_graph=True)
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    ratios = torch.stack([loss.detach() for loss in losses]) / initial
    targets = (ratios / ratios.mean() * norms[0]).detach()
    gradnorm_loss = (torch.stack(norms) - targets).abs().sum()
    total = (weights * torch.stack(losses)).sum() + regularization * log_weights.square().sum()
    weighted = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    model_gradients = torch.autograd.grad(weighted, list(model.parameters()), retain_graph=True)
    (log_weights.grad,) = torch.autograd.grad(total + alpha * gradnorm_loss, log_weights)
    for parameter, gradient in zip(model.parameters(), model_gradients, strict=True):
        parameter.grad = gradient
    return total.detach() + alpha * gradnorm_loss.detach()


def test_gradnorm_follows_the_graph_of_the_gradients():
    model = small_model()
    reference = copy.deepcopy(model)
    balancer = GradNorm(ONES, alpha=1.5, regularization=0.1).double()
    log_weights = torch.zeros(4, dtype=torch.double, requires_grad=True)
    ours = torch.optim.Adam([*model.parameters(), *balancer.parameters()], lr=0.02)
    theirs = torch.optim.Adam([*reference.parameters(), log_weights], lr=0.02)
    inputs = torch.randn(20, 16, 6, dtype=torch.double)
    initial = torch.stack(list(four_losses(reference, inputs[0]).values())).detach()
    for batch in inputs:
        ours.zero_grad()
        total = balancer(four_losses(model, batch), list(model[2].parameters()))
        total.backward()
        ours.step()
        expected = reference_step(reference, log_weights, initial, four_losses(reference, batch), 1.5, 0.1)
        theirs.step()
        torch.testing.assert_close(total.detach(), expected, rtol=1e-9, atol=0)
    assert (log_weights.exp() - 1).abs().min() > 0.05
    torch.testing.assert_close(balancer.task_weights(), log_weights.exp(), rtol=1e-6, atol=1e-6)


def test_the_balance_moves_its_own_weights_and_never_the_model():
    model, batch = small_model(), torch.randn(16, 6, dtype=torch.double)
    shared = list(model[2].parameters())
    balancer = GradNorm(ONES, alpha=100.0, regularization=1.0).double()
    FixedWeights(ONES)(four_losses(model, batch), shared).backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    balancer(four_losses(model, batch), shared).backward()
    assert balancer.log_weights.grad.abs().min() > 0
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_literal_form_sinks_and_the_renormalized_one_balances():
    """Two tasks, one with a hundred times the gradient of the other: the literal form lets go of both."""
    weights = {}
    for renormalize in (False, True):
        direction = nn.Parameter(torch.zeros(2))
        balancer = GradNorm({"info_nce_loss": 1.0, "triplet_loss": 1.0}, regularization=0.0, renormalize=renormalize)
        optimizer = torch.optim.Adam(balancer.parameters(), lr=0.05)
        for _ in range(200):
            losses = {"info_nce_loss": 5 + direction[0], "triplet_loss": 5 + 100 * direction[1]}
            optimizer.zero_grad()
            balancer(losses, [direction]).backward()
            optimizer.step()
        weights[renormalize] = balancer.task_weights().tolist()
    assert max(weights[False]) < 0.05
    assert sum(weights[True]) == pytest.approx(2)
    assert weights[True][0] == pytest.approx(100 * weights[True][1], rel=0.1)


def test_mixed_precision_scales_losses_and_not_their_norms():
    model, batch = small_model(), torch.randn(16, 6, dtype=torch.double)
    norms = []
    for loss_scale in (1.0, 65536.0):
        balancer = GradNorm(ONES).double()
        balancer(four_losses(model, batch), list(model[2].parameters()), loss_scale)
        norms.append(balancer.gradient_norms)
    torch.testing.assert_close(*norms)


def test_a_task_that_joins_later_is_measured_against_its_first_loss():
    direction = nn.Parameter(torch.ones(2))
    balancer = GradNorm({"info_nce_loss": 1.0, "triplet_loss": 1.0})
    reports = []
    for scale, loss in ((0.0, 4.0), (0.0, 4.0), (3.0, 4.0), (1.5, 4.0)):
        losses = {"info_nce_loss": loss * direction[0], "triplet_loss": scale * direction[1]}
        assert balancer(losses, [direction]).isfinite()
        reports.append((balancer.report()["loss_ratio/info_nce_loss"], balancer.report()["loss_ratio/triplet_loss"]))
    assert reports == [(2, 0), (2, 0), (1, 1), pytest.approx((4 / 3, 2 / 3))]


def test_a_task_of_weight_zero_is_out_of_the_balance_but_has_gradients():
    model, batch = small_model(), torch.randn(16, 6, dtype=torch.double)
    balancer = GradNorm({**ONES, "info_nce_loss": 0.0, "gate_loss": 0.5}).double()
    assert balancer.tasks == TASKS[1:]
    losses = four_losses(model, batch)
    losses["gate_loss"] = torch.tensor(2.0, dtype=torch.double)
    total = balancer(losses, list(model[2].parameters()))
    report = balancer.report()
    assert report["weight/gate_loss"] == 0.5 and report["weight/info_nce_loss"] == 0
    total.backward()
    assert model[4].weight.grad[0].eq(0).all() and model[4].weight.grad[1:].ne(0).any()


@pytest.mark.parametrize(
    "balancer", [FixedWeights(ONES, {"triplet_loss": 2}), GradNorm(ONES, delays={"triplet_loss": 2})]
)
def test_a_delayed_loss_is_zero_until_its_epoch(balancer):
    losses = dict.fromkeys(reversed(TASKS), torch.tensor(3.0)) | {"unweighted_loss": torch.tensor(1.0)}
    selected = [balancer.select(losses, epoch) for epoch in range(3)]
    assert all(tuple(of_epoch) == TASKS for of_epoch in selected)
    assert [of_epoch["triplet_loss"].item() for of_epoch in selected] == [0, 0, 3]
    assert all(of_epoch["info_nce_loss"] == 3 for of_epoch in selected)


def test_gradnorm_balances_the_tasks_that_a_model_has():
    model, batch = small_model(), torch.randn(16, 6, dtype=torch.double)
    reports, totals = [], []
    for weights in (ONES, {name: ONES[name] for name in TASKS[1:3]}):
        balancer = GradNorm(weights, renormalize=True).double()
        losses = {name: loss for name, loss in four_losses(model, batch).items() if name in TASKS[1:3]}
        totals.append(balancer(losses, list(model[2].parameters())))
        reports.append(balancer.report())
    assert totals[0].equal(totals[1]) and reports[0] == reports[1]


@pytest.mark.parametrize("use_bdam", [True, False])
@pytest.mark.parametrize("name", ["gradnorm", "fixed"])
def test_every_parameter_gets_a_gradient_whatever_is_switched_off(name, use_bdam):
    off = ["loss_weights.info_nce_loss=0", "loss_weights.alignment_loss=0", "model.dropout=0"]
    recipe = load_recipe("data=d", "output_dir=o", f"balancer={name}", *off)
    model = tiny_model(use_bdam=use_bdam, dropout=0.0).train()
    balancer = build_balancer(recipe)
    outputs = model(**tiny_batch(), return_loss=True)
    losses = balancer.select(outputs.loss_dict, epoch=0)
    balancer(losses, shared_parameters(model)).backward()
    missing = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert not missing
    assert all(isinstance(value, float) for value in balancer.report().values())


def test_the_shared_weights_are_the_last_that_all_tasks_share():
    def names(**changes) -> list[str]:
        model = tiny_model(**changes)
        of = {id(parameter): name for name, parameter in model.named_parameters()}
        return [of[id(parameter)] for parameter in shared_parameters(model) if parameter.ndim == 2]

    streams = ("identity", "clothing")
    assert names() == [f"decoupler.{stream}_exchange.cross_attn.o_proj.weight" for stream in streams]
    without_exchange = names(use_cross_attention=False)
    assert without_exchange == [f"decoupler.{stream}_branch.layers.1.mlp.fc2.weight" for stream in streams]
    (of_encoder,) = names(use_bdam=False)
    assert of_encoder.startswith("vision_model.layers.1.")
