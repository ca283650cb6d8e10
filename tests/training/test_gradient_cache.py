"""Gradient caching gives the losses and gradients of the whole batch."""

from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from tiny import TEXT, VISION, tiny_model
from two_processes import WITHOUT_DROPOUT, eight_samples

from bdam.training.balancing import FixedWeights, GradNorm, shared_parameters
from bdam.training.gradient_cache import GradientCache, WholeBatch, check_model
from losses_bdam import LABELS, LOSSES, TASKS, BDAMLossInputs, loss_features, losses


CHUNK_SIZE = 3  # of eight samples: the last chunk is smaller
DROPOUT = {
    "dropout": 0.3,
    "vision_config": {**VISION, "hidden_dropout_prob": 0.3},
    "text_config": {**TEXT, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3},
}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 32],
    "depths": [1, 1],
    "image_size": [32, 16],
}
MODELS = {
    "pooled": {},
    "tokens": {"fusion_mode": "tokens", "symmetric_contrast": True, "hsic_normalize": True},
    "variants": {"hsic_kernel": "rbf", "triplet_mining": "hard"},
    "no fusion": {"use_fusion": False},
    "no gates": {"use_gate": False, "use_fusion_gate": False},
    "no BDAM": {"use_bdam": False},
}


class ChunksInOneGraph(WholeBatch):
    """The reference with dropout, whose masks depend on the chunks."""

    def __init__(self, accelerator, model, batch):
        self.accelerator = accelerator
        parts = [
            loss_features(model(**{name: rows[start : start + CHUNK_SIZE] for name, rows in batch.items()}))
            for start in range(0, len(batch["person_ids"]), CHUNK_SIZE)
        ]
        self.features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def in_double() -> dict[str, torch.Tensor]:
    batch = eight_samples()
    return {name: rows.double() if rows.is_floating_point() else rows for name, rows in batch.items()}


def step(forward: Callable, balancer: FixedWeights, accelerator: Accelerator | None = None, **changes) -> dict:
    """The losses of one step, and all gradients that it leaves."""
    accelerator = accelerator or Accelerator(cpu=True)
    model, batch = tiny_model(**changes).double().train(), in_double()
    torch.manual_seed(0)
    forward_pass = forward(accelerator, model, batch)
    inputs = BDAMLossInputs(**forward_pass.features, **{name: batch[name] for name in LABELS})
    loss_dict = balancer.select(losses(inputs, model.config), epoch=0)
    loss = forward_pass.backward(loss_dict, balancer, shared_parameters(model))
    parameters = [*model.named_parameters(), *balancer.named_parameters()]
    return {
        "loss": loss.detach(),
        "gradients": {name: parameter.grad for name, parameter in parameters if parameter.grad is not None},
        "random state": torch.get_rng_state(),
    }


def norm(tensors: Iterable[torch.Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def assert_same_step(step: dict, expected: dict) -> None:
    torch.testing.assert_close(step["loss"], expected["loss"])
    assert torch.equal(step["random state"], expected["random state"])
    ours, theirs = step["gradients"], expected["gradients"]
    assert ours.keys() == theirs.keys()
    assert norm(theirs.values()) > 0
    assert norm(ours[name] - theirs[name] for name in theirs) < 1e-6 * norm(theirs.values())


cached = partial(GradientCache, chunk_size=CHUNK_SIZE)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("fusion_mode", ["pooled", "tokens"])
def test_the_gradients_of_each_loss_are_those_of_the_whole_batch(fusion_mode, name):
    changes = {**WITHOUT_DROPOUT, "fusion_mode": fusion_mode}
    balancer = FixedWeights({name: 2.0})
    assert_same_step(step(cached, balancer, **changes), step(WholeBatch, balancer, **changes))


def gradnorm() -> GradNorm:
    weights = {**dict.fromkeys(TASKS, 1.0), "triplet_loss": 0.4, "gate_loss": 0.1, "clothing_query_loss": 0.5}
    balancer = GradNorm(weights, delays={"decoupling_loss": 1})
    torch.nn.init.normal_(balancer.log_weights, std=0.5)
    return balancer


@pytest.mark.parametrize("reference, dropout", [(WholeBatch, WITHOUT_DROPOUT), (ChunksInOneGraph, DROPOUT)])
@pytest.mark.parametrize("model", MODELS)
def test_gradnorm_sees_the_norms_of_the_whole_batch(model, reference, dropout):
    changes = {**dropout, **MODELS[model]}
    torch.manual_seed(1)
    ours = gradnorm()
    theirs = GradNorm(ours.weights, delays=ours.delays)
    theirs.load_state_dict(ours.state_dict())
    assert_same_step(step(cached, ours, **changes), step(reference, theirs, **changes))
    assert theirs.gradient_norms[0] > 0
    for name, state in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], state)
    assert ours.report() == pytest.approx(theirs.report())


def test_loss_scale_and_accumulation_change_the_gradients_as_without_chunks():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ours, theirs = gradnorm(), gradnorm()
    theirs.load_state_dict(ours.state_dict())
    first = step(cached, ours, accelerator, **WITHOUT_DROPOUT)
    assert_same_step(first, step(WholeBatch, theirs, accelerator, **WITHOUT_DROPOUT))
    torch.testing.assert_close(ours.gradient_norms, theirs.gradient_norms)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dropout_on_a_gpu_repeats_itself():
    accelerator = Accelerator()
    model = tiny_model(**DROPOUT).train().to(accelerator.device)
    batch = {name: rows.to(accelerator.device) for name, rows in eight_samples().items()}
    cache = GradientCache(accelerator, model, batch, CHUNK_SIZE)
    repeated = [cache._repeat(index)["identity_features"] for index in range(len(cache.chunks))]
    torch.testing.assert_close(torch.cat(repeated), cache.features["identity_features"])


def test_batch_normalization_is_refused():
    check_model(tiny_model())
    with pytest.raises(ValueError, match=r"vision_model\.\S+ \(BatchNorm2d\) is one: remove the key"):
        check_model(tiny_model(vision_config=RESNET))
