"""How the task losses become one loss (Eq. 5 and 6)."""

from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import reduce
from torch import nn

from bdam.recipes.recipe import Recipe
from losses_bdam import TASKS
from modeling_bdam import BDAMModel


class FixedWeights(nn.Module):
    """
    The weighted sum of the losses, the weights as the recipe gives them.

    Args:
        weights: by name of the loss. A loss of weight 0 stays in the sum: its parameters then get gradients of zero,
            where distributed training would miss having any.
        delays: by name of the loss, the epochs before it joins in; 0 for those that are not named.
    """

    def __init__(self, weights: Mapping[str, float], delays: Mapping[str, int] | None = None):
        super().__init__()
        self.weights = dict(weights)
        self.delays = dict(delays or {})
        self.present = tuple(self.weights)  # in the last step

    def select(self, losses: Mapping[str, torch.Tensor], epoch: int) -> dict[str, torch.Tensor]:
        """Those of a model's losses that have a weight, in the order of the weights; 0 for one that is delayed."""
        chosen = {name: losses[name] for name in self.weights if name in losses}
        return {name: 0 * loss if epoch < self.delays.get(name, 0) else loss for name, loss in chosen.items()}

    def forward(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> torch.Tensor:
        """The loss to minimize; `shared` and `loss_scale` are for balancers that look at gradients."""
        return torch.stack(list(self.weigh(losses).values())).sum()

    def weigh(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each loss times its weight."""
        self.present = tuple(losses)
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def report(self) -> dict[str, float]:
        """The weights of the losses of the last step, for a log."""
        return {f"weight/{name}": self.weights[name] for name in self.present}


class GradNorm(FixedWeights):
    r"""
    The paper's balance of tasks: weights `w_k = exp(s_k)` learned along with the model (Eq. 5 and 6).

        L_Total = Σ_k w_k L_k + α L_GradNorm + λ Σ_k (log w_k)²
        L_GradNorm = Σ_k | ‖∇_θ w_k L_k‖ - r̃_k G_ref |
        r̃_k = (L_k / L_k⁰) / mean_j (L_j / L_j⁰),   G_ref = ‖∇_θ w_1 L_1‖

    θ are the parameters of the last block that all tasks share. Since w_k > 0, ‖∇_θ w_k L_k‖ = w_k ‖∇_θ L_k‖, so that
    the term needs first derivatives only; it moves the s_k alone. Targets r̃_k G_ref are constants. L_k⁰ is the first
    loss above 0, since a task may join in later. In distributed training the norms are those of the global batch, and
    every process holds the same s_k.

    The paper departs from GradNorm as Chen et al. (2018) wrote it: there α is an exponent of the loss ratio, G_ref is
    the mean norm, only L_GradNorm moves the weights, and they are renormalized to sum to the number of tasks. In the
    paper's form the first term of Eq. 6 moves the weights too, and always down: `∂/∂s_k Σ w_k L_k = w_k L_k > 0`.
    With λ alone to hold them, all weights sink to where `w_k L_k + α·(±w_k G_k) = -2 λ s_k`. Adam forgives a common
    factor of the gradient, but weight decay and the gate regularizer gain on the tasks as their weights sink.
    `renormalize=True` is the remedy: the weights sum to the number of tasks, as in Chen et al., and the first term
    leaves them alone.

    Args:
        weights: what each loss is multiplied by before it is balanced, by name; 1 in the paper. The first task of
            `TASKS` that has a weight, and that the model has, is the reference. Losses that are no task (the gate
            regularizer) or have weight 0 are not balanced.
        alpha: α, the weight of the GradNorm term.
        regularization: λ.
        renormalize: whether the w_k sum to the number of tasks.
        delays: by name of the loss, the epochs before it joins in.
    """

    initial_losses: torch.Tensor
    gradient_norms: torch.Tensor
    loss_ratios: torch.Tensor

    def __init__(
        self,
        weights: Mapping[str, float],
        alpha: float = 1.5,
        regularization: float = 0.1,
        renormalize: bool = False,
        delays: Mapping[str, int] | None = None,
    ):
        super().__init__(weights, delays)
        self.tasks = tuple(name for name in TASKS if weights.get(name, 0) > 0)
        self.alpha = alpha
        self.regularization = regularization
        self.renormalize = renormalize
        self.log_weights = nn.Parameter(torch.zeros(len(self.tasks)))
        self.register_buffer("initial_losses", torch.zeros(len(self.tasks)))
        self.register_buffer("gradient_norms", torch.zeros(len(self.tasks)))
        self.register_buffer("loss_ratios", torch.ones(len(self.tasks)))

    def forward(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> torch.Tensor:
        """
        L_Total; its gradient reaches the model through the weighted losses alone, and the s_k.

        Args:
            losses: the unweighted losses of the global batch, equal on all processes, by name. A task that the model
                does not have is not among them.
            shared: θ.
            loss_scale: what mixed precision multiplies losses by before their backward pass, lest gradients vanish.
        """
        losses = self.weigh(losses)
        present = self._present_tasks()
        tasks = [losses.pop(self.tasks[index]) for index in present]
        values = reduce(torch.stack([loss.detach() for loss in tasks]).to(self.log_weights), "mean")
        initial = self.initial_losses[present]
        initial = torch.where(initial > 0, initial, values)
        ratios = values / initial.clamp(min=torch.finfo(values.dtype).tiny)
        ratios = ratios / ratios.mean()
        gradient_norms = _gradient_norms(tasks, shared, loss_scale)
        self.initial_losses[present], self.loss_ratios[present] = initial, ratios
        self.gradient_norms[present] = gradient_norms.to(self.gradient_norms)

        weights = self.task_weights()
        norms = weights * gradient_norms
        targets = ratios * norms[0].detach()
        balance = self.alpha * (norms - targets).abs().sum() + self.regularization * weights.log().square().sum()
        if not self.renormalize:
            pull = (weights * values).sum()
            balance = balance + pull - pull.detach()
        weighted = [weight * loss for weight, loss in zip(weights.detach(), tasks, strict=True)]
        return torch.stack([*weighted, *losses.values(), balance]).sum()

    def task_weights(self) -> torch.Tensor:
        """w_k of the tasks of the last step, (num_tasks,)."""
        weights = self.log_weights[self._present_tasks()].exp()
        return weights * (len(weights) / weights.sum()) if self.renormalize else weights

    def report(self) -> dict[str, float]:
        """Weights, and the gradient norms and loss ratios that they answer to."""
        report = super().report()
        for index, weight in zip(self._present_tasks(), self.task_weights().tolist(), strict=True):
            name = self.tasks[index]
            report[f"weight/{name}"] *= weight
            report[f"gradient_norm/{name}"] = self.gradient_norms[index].item()
            report[f"loss_ratio/{name}"] = self.loss_ratios[index].item()
        return report

    def _present_tasks(self) -> list[int]:
        return [index for index, name in enumerate(self.tasks) if name in self.present]


def build_balancer(recipe: Recipe) -> FixedWeights:
    """The balancer that the recipe asks for."""
    if recipe.balancer == "fixed":
        return FixedWeights(recipe.loss_weights, recipe.loss_delays)
    return GradNorm(
        recipe.loss_weights,
        recipe.gradnorm_alpha,
        recipe.gradnorm_lambda,
        recipe.gradnorm_renormalize,
        recipe.loss_delays,
    )


def shared_parameters(model: BDAMModel) -> list[nn.Parameter]:
    """
    θ of Eq. 5: the last weights that the tasks share, as Chen et al. choose them to save time. These are the last
    linear layers of both streams before they are pooled, on either side of the exchange between them; without BDAM,
    the last one of the image encoder.
    """
    if model.config.use_bdam:
        streams: list[nn.Module] = [model.decoupler.identity_branch, model.decoupler.clothing_branch]
        if model.config.use_cross_attention:
            streams = [model.decoupler.identity_exchange, model.decoupler.clothing_exchange]
    else:
        streams = [next(module for module in model.vision_model.modules() if isinstance(module, nn.ModuleList))]
    last_layers = [[module for module in stream.modules() if isinstance(module, nn.Linear)][-1] for stream in streams]
    return [parameter for layer in last_layers for parameter in layer.parameters()]


def _gradient_norms(losses: Sequence[torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float) -> torch.Tensor:
    """‖∇_θ L_k‖ of the global batch, (num_tasks,)."""
    gradients = [
        torch.autograd.grad(loss * loss_scale, shared, retain_graph=True, allow_unused=True, materialize_grads=True)
        for loss in losses
    ]
    flat = torch.stack([torch.cat([gradient.flatten() for gradient in of_task]) for of_task in gradients])
    return reduce(flat / loss_scale, "mean").norm(dim=1)
