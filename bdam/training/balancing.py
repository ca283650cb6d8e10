"""Combines the losses of the tasks into one loss (Eq. 5 and 6)."""

from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import reduce
from torch import nn

from bdam.recipes.recipe import Recipe
from losses_bdam import TASKS
from modeling_bdam import BDAMModel


class FixedWeights(nn.Module):
    """
    The sum of the losses with fixed weights.

    Args:
        weights: the weight of each loss, by name. A loss of weight 0 stays in the sum, so that its parameters have
            gradients, of 0, which distributed training requires.
        delays: the number of epochs before each loss is used, by name; by default 0.
    """

    def __init__(self, weights: Mapping[str, float], delays: Mapping[str, int] | None = None):
        super().__init__()
        self.weights = dict(weights)
        self.delays = dict(delays or {})
        self.present = tuple(self.weights)  # in the last step

    def select(self, losses: Mapping[str, torch.Tensor], epoch: int) -> dict[str, torch.Tensor]:
        """The losses that have a weight, in the order of the weights, times 0 if they are delayed."""
        chosen = {name: losses[name] for name in self.weights if name in losses}
        return {name: 0 * loss if epoch < self.delays.get(name, 0) else loss for name, loss in chosen.items()}

    def forward(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> torch.Tensor:
        """
        The loss to minimize, a scalar.

        Args:
            losses: the unweighted losses of the global batch, equal on all processes, by name; without those that the
                model does not have.
            shared: the parameters on which [`GradNorm`] compares the gradients of the tasks.
            loss_scale: the factor that mixed precision applies to losses before the backward pass.
        """
        return self.total(losses, self.task_gradients(losses, shared, loss_scale))

    def total(self, losses: Mapping[str, torch.Tensor], task_gradients: torch.Tensor) -> torch.Tensor:
        """The loss to minimize, a scalar, from the losses and what `task_gradients` returns for them."""
        return torch.stack(list(self.weigh(losses).values())).sum()

    def weigh(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The losses by name, each times its weight in this step. The weights get no gradient."""
        self.present = tuple(losses)
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def task_gradients(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> torch.Tensor:
        """The gradients of the tasks that `total` needs: here none, an empty tensor."""
        return torch.empty(0)

    def report(self) -> dict[str, float]:
        """The weights of the losses of the last step, by name of the log entry."""
        return {f"weight/{name}": self.weights[name] for name in self.present}


class GradNorm(FixedWeights):
    r"""
    The paper's weights of the tasks, `w_k = exp(s_k)`, which are learned with the model (Eq. 5 and 6).

        L_Total = Σ_k w_k L_k + α L_GradNorm + λ Σ_k (log w_k)²
        L_GradNorm = Σ_k | ‖∇_θ w_k L_k‖ - r̃_k G_ref |
        r̃_k = (L_k / L_k⁰) / mean_j (L_j / L_j⁰),   G_ref = ‖∇_θ w_1 L_1‖

    θ are the parameters of the last block that all tasks share. Since w_k > 0, ‖∇_θ w_k L_k‖ = w_k ‖∇_θ L_k‖, so the
    term needs first derivatives only, and it changes only the s_k. The targets r̃_k G_ref are constants. L_k⁰ is the
    first loss above 0, since a task may be delayed. In distributed training the norms are those of the global batch,
    and every process has the same s_k.

    The paper differs from GradNorm by Chen et al. (2018): there α is an exponent of the loss ratio, G_ref is the mean
    norm, only L_GradNorm changes the weights, and they are renormalized to sum to the number of tasks. In the paper,
    the first term of Eq. 6 changes the weights too, and always decreases them: `∂/∂s_k Σ w_k L_k = w_k L_k > 0`. Only
    λ opposes this, so all weights decrease until `w_k L_k + α·(±w_k G_k) = -2 λ s_k`. Adam is invariant to a common
    factor of the gradient, but weight decay and the gate regularizer then outweigh the tasks. With `renormalize=True`
    the weights sum to the number of tasks, as in Chen et al., and the first term does not change them.

    Args:
        weights: the factor of each loss before it is balanced, by name; 1 in the paper. The reference is the first
            task of `TASKS` that has a weight and that the model has. Losses that are no task (the gate regularizer) or
            have weight 0 are not balanced.
        alpha: α, the weight of the GradNorm term; by default 1.5.
        regularization: λ; by default 0.1.
        renormalize: whether the w_k sum to the number of tasks; by default not, as in the paper.
        delays: the number of epochs before each loss is used, by name; by default 0.
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

    def total(self, losses: Mapping[str, torch.Tensor], task_gradients: torch.Tensor) -> torch.Tensor:
        """L_Total, a scalar. The model gets the gradient of the weighted losses alone, without the GradNorm term."""
        weighted_losses = super().total(losses, task_gradients)
        present = self._present_tasks()
        tasks = [loss.detach() for loss in self._task_losses(losses)]
        values = reduce(torch.stack(tasks).to(self.log_weights), "mean")
        initial = self.initial_losses[present]
        initial = torch.where(initial > 0, initial, values)
        ratios = values / initial.clamp(min=torch.finfo(values.dtype).tiny)
        ratios = ratios / ratios.mean()
        gradient_norms = reduce(task_gradients, "mean").norm(dim=1)
        self.initial_losses[present], self.loss_ratios[present] = initial, ratios
        self.gradient_norms[present] = gradient_norms.to(self.gradient_norms)

        weights = self.task_weights()
        norms = weights * gradient_norms
        targets = ratios * norms[0].detach()
        balance = self.alpha * (norms - targets).abs().sum() + self.regularization * weights.log().square().sum()
        if not self.renormalize:
            weighted_sum = (weights * values).sum()
            balance = balance + weighted_sum - weighted_sum.detach()
        return weighted_losses + balance

    def weigh(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The losses by name, each times its weight in this step; tasks also times w_k. No weight gets a gradient."""
        weighted = super().weigh(losses)
        for index, weight in zip(self._present_tasks(), self.task_weights().detach(), strict=True):
            weighted[self.tasks[index]] = weight * weighted[self.tasks[index]]
        return weighted

    def task_gradients(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> torch.Tensor:
        """∇_θ L_k on this process, (num_tasks, num_shared); its mean over processes is that of the global batch."""
        gradients = [
            torch.autograd.grad(
                loss * loss_scale, shared, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for loss in self._task_losses(losses)
        ]
        return torch.stack([torch.cat([gradient.flatten() for gradient in task]) for task in gradients]) / loss_scale

    def task_weights(self) -> torch.Tensor:
        """w_k of the tasks of the last step, (num_tasks,)."""
        weights = self.log_weights[self._present_tasks()].exp()
        return weights * (len(weights) / weights.sum()) if self.renormalize else weights

    def report(self) -> dict[str, float]:
        """Weights, gradient norms and loss ratios of the last step, by name of the log entry."""
        report = super().report()
        for index, weight in zip(self._present_tasks(), self.task_weights().tolist(), strict=True):
            name = self.tasks[index]
            report[f"weight/{name}"] *= weight
            report[f"gradient_norm/{name}"] = self.gradient_norms[index].item()
            report[f"loss_ratio/{name}"] = self.loss_ratios[index].item()
        return report

    def _task_losses(self, losses: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """L_k of the tasks among the losses, each times its factor."""
        return [self.weights[name] * losses[name] for name in self.tasks if name in losses]

    def _present_tasks(self) -> list[int]:
        return [index for index, name in enumerate(self.tasks) if name in self.present]


def build_balancer(recipe: Recipe) -> FixedWeights:
    """The balancer of a recipe."""
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
    θ of Eq. 5: the last weights that the tasks share, which Chen et al. choose to save time. These are the last linear
    layers of both streams before pooling, after the exchange between the streams if there is one; without BDAM, the
    last linear layer or convolution of the image encoder that is trained.
    """
    if model.config.use_bdam:
        streams: list[nn.Module] = [model.decoupler.identity_branch, model.decoupler.clothing_branch]
        if model.config.use_cross_attention:
            streams = [model.decoupler.identity_exchange, model.decoupler.clothing_exchange]
    else:
        streams = [model.vision_model]
    return [parameter for stream in streams for parameter in _last_layer(stream).parameters()]


def _last_layer(stream: nn.Module) -> nn.Module:
    layers = (module for module in stream.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return [layer for layer in layers if layer.weight.requires_grad][-1]
