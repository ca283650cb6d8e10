"""The forward and backward pass of a batch: in one graph, or in chunks that each fit in memory."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import ModuleType

import torch
from accelerate import Accelerator
from torch import nn

from bdam.training.balancing import FixedWeights
from losses_bdam import loss_features


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class WholeBatch:
    """
    The forward pass of a batch in one graph.

    Args:
        accelerator: that of the run.
        model: the model, prepared by `accelerator`.
        batch: the images, texts and labels of this process, each with one row per image.

    Attributes:
        features: what the losses are computed from, by name; see [`loss_features`].
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, batch: Mapping[str, torch.Tensor]):
        self.accelerator = accelerator
        self.features = loss_features(model(**batch))

    def backward(
        self, losses: Mapping[str, torch.Tensor], balancer: FixedWeights, shared: Sequence[nn.Parameter]
    ) -> torch.Tensor:
        """
        The backward pass: adds to the gradients of the parameters of the model and the balancer.

        Args:
            losses: those of `features`, by name.
            balancer: weighs the losses.
            shared: the parameters on which the balancer compares the gradients of the tasks.

        Returns:
            The balanced sum of the losses, a scalar.
        """
        loss = balancer(losses, shared, loss_scale(self.accelerator))
        self.accelerator.backward(loss)
        return loss


class GradientCache:
    """
    The forward pass of a batch in chunks, which needs the memory of one chunk. Losses and gradients are those of the
    whole batch (gradient caching; Gao et al. 2021).

    The forward pass computes the features of all chunks without a graph. The backward pass computes the gradients of
    the losses with respect to these features. Then it repeats the forward pass of each chunk, with a graph and the
    same random numbers, and continues from the features to the parameters. A step thus takes two forward passes and
    one backward pass; GradNorm needs no further ones.

    Args:
        accelerator: that of the run.
        model: the model, prepared by `accelerator`; see `check_model`.
        batch: the images, texts and labels of this process, each with one row per image.
        chunk_size: the number of images in a chunk; the last chunk may have fewer.

    Attributes:
        features: what the losses are computed from, by name, as leaves in float32, or else masks; see
            [`loss_features`].
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, batch: Mapping[str, torch.Tensor], chunk_size: int):
        self.accelerator = accelerator
        self.model = model
        self.chunk_size = chunk_size
        self.chunks = _split(batch, chunk_size)
        self.random_states = []
        parts = []
        with torch.no_grad():
            for chunk in self.chunks:
                self.random_states.append([source.get_rng_state() for source in self._random_sources()])
                parts.append(loss_features(model(**chunk)))
        self.features = {name: _leaf(torch.cat([part[name] for part in parts])) for name in parts[0]}

    def backward(
        self, losses: Mapping[str, torch.Tensor], balancer: FixedWeights, shared: Sequence[nn.Parameter]
    ) -> torch.Tensor:
        """Does what `WholeBatch.backward` does. Processes exchange gradients once, with the last chunk."""
        feature_gradients = {name: self._feature_gradients(loss) for name, loss in losses.items()}
        task_gradients = []
        for index in range(len(self.chunks)):
            is_last = index == len(self.chunks) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                features = self._repeat(index)
                parts = {name: _inner_product(features, chunks[index]) for name, chunks in feature_gradients.items()}
                task_gradients.append(balancer.task_gradients(parts, shared, loss_scale(self.accelerator)))
                self.accelerator.backward(torch.stack(list(balancer.weigh(parts).values())).sum())
        constants = {name: loss.detach() for name, loss in losses.items()}
        loss = balancer.total(constants, torch.stack(task_gradients).sum(dim=0))
        if loss.requires_grad:  # with respect to the weights that the balancer learns
            self.accelerator.backward(loss)
        return loss

    def _feature_gradients(self, loss: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """For each chunk, the gradients of a loss with respect to its features. Features without one are left out."""
        leaves = {name: values for name, values in self.features.items() if values.requires_grad}
        gradients = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        pairs = zip(leaves, gradients, strict=True)
        return _split({name: gradient for name, gradient in pairs if gradient is not None}, self.chunk_size)

    def _repeat(self, index: int) -> dict[str, torch.Tensor]:
        """The features of a chunk with their graph. After the last chunk, random numbers continue as before."""
        for source, state in zip(self._random_sources(), self.random_states[index], strict=True):
            source.set_rng_state(state)
        return loss_features(self.model(**self.chunks[index]))

    def _random_sources(self) -> list[ModuleType]:
        """The modules of PyTorch with the states of the random generators that a forward pass uses."""
        device = self.accelerator.device
        return [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]


def check_model(model: nn.Module) -> None:
    """
    Checks that the features of an image do not depend on the other images of its chunk.

    Raises:
        ValueError: if the model has batch normalization.
    """
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORMS):
            raise ValueError(
                f"`gradient_cache` does not work with batch normalization, which depends on the chunk, and "
                f"{name} ({type(module).__name__}) is one: remove the key, or choose another encoder."
            )


def loss_scale(accelerator: Accelerator) -> float:
    """The factor that mixed precision applies to losses before the backward pass."""
    return 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()


def _split(batch: Mapping[str, torch.Tensor], chunk_size: int) -> list[dict[str, torch.Tensor]]:
    columns = [values.split(chunk_size) for values in batch.values()]
    return [dict(zip(batch, chunk, strict=True)) for chunk in zip(*columns, strict=True)]


def _leaf(values: torch.Tensor) -> torch.Tensor:
    return values.float().requires_grad_() if values.is_floating_point() else values


def _inner_product(features: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Σ ⟨f, ∂L/∂f⟩, a scalar whose gradients are those of the loss L that come through the features f."""
    return torch.stack([(features[name] * gradient).sum() for name, gradient in gradients.items()]).sum()
