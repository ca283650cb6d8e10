"""What `test_global_batch.py` runs on two processes: `python two_processes.py FOLDER`."""

import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, debug_launcher
from tiny import TEXT, tiny_batch, tiny_model

from bdam.training.balancing import GradNorm, shared_parameters
from bdam.training.gradient_cache import GradientCache, WholeBatch
from losses_bdam import LABELS, LOSSES, TASKS, BDAMLossInputs, losses


STEPS = 3
# In one graph, and in chunks of which the last is smaller.
FORWARD_PASSES = {"gradnorm": WholeBatch, "gradient cache": partial(GradientCache, chunk_size=3)}
WITHOUT_DROPOUT = {
    "dropout": 0.0,
    "text_config": {**TEXT, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}


def half(batch: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """The rows of one process, whose clothing descriptions it pads in its own way."""
    size = len(batch["person_ids"]) // 2
    rows = {name: values[rank * size : (rank + 1) * size] for name, values in batch.items()}
    for name in ("clothing_input_ids", "clothing_attention_mask"):
        rows[name] = torch.nn.functional.pad(rows[name], (0, rank))
    return rows


def eight_samples() -> dict[str, torch.Tensor]:
    """Two images each of four persons; two images share a clothing description, on different processes."""
    batch = tiny_batch(batch_size=8)
    batch["clothing_input_ids"][6] = batch["clothing_input_ids"][1]
    batch["clothing_text_ids"] = torch.tensor([0, 1, 2, 3, 4, 5, 1, 7])
    batch["identity_agreement"] = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.75, 1.0, 0.6, 0.9])
    batch["clothing_agreement"] = batch["identity_agreement"].flip(0)
    return batch


def measure(accelerator: Accelerator, batch: dict[str, torch.Tensor]) -> dict:
    """The value and the gradients of each loss, and the results of `balance` for each of `FORWARD_PASSES`."""
    results = {}
    for name in LOSSES:
        model = accelerator.prepare(tiny_model(**WITHOUT_DROPOUT, symmetric_contrast=True).train())
        outputs = model(**batch, return_loss=True)
        # The other losses at zero: distributed training wants a gradient for every parameter.
        loss = sum(outputs.loss_dict[other] * (other == name) for other in LOSSES)
        accelerator.backward(loss)
        results[name] = {"loss": loss.item(), **gradients(accelerator.unwrap_model(model))}
    return results | {name: balance(accelerator, batch, name) for name in FORWARD_PASSES}


def balance(accelerator: Accelerator, batch: dict[str, torch.Tensor], name: str) -> dict:
    """The balancer and the gradients after some steps of gradient descent, by one of `FORWARD_PASSES`."""
    model = accelerator.prepare(tiny_model(**WITHOUT_DROPOUT).train())
    unwrapped = accelerator.unwrap_model(model)
    balancer = GradNorm({**dict.fromkeys(TASKS, 1.0), "gate_loss": 0.1, "clothing_query_loss": 0.5})
    optimizer = torch.optim.SGD([*model.parameters(), *balancer.parameters()], lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        forward_pass = FORWARD_PASSES[name](accelerator, model, batch)
        inputs = BDAMLossInputs(**forward_pass.features, **{label: batch[label] for label in LABELS})
        loss_dict = balancer.select(losses(inputs, unwrapped.config), epoch=0)
        loss = forward_pass.backward(loss_dict, balancer, shared_parameters(unwrapped))
        optimizer.step()
    return {
        "loss": loss.item(),
        "task_weights": balancer.task_weights().detach(),
        "gradient_norms": balancer.gradient_norms,
        "gradient of s": balancer.log_weights.grad,
        **gradients(unwrapped),
    }


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def work(folder: str) -> None:
    accelerator = Accelerator(cpu=True)
    results = measure(accelerator, half(eight_samples(), accelerator.process_index))
    torch.save(results, Path(folder) / f"{accelerator.process_index}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    debug_launcher(work, args=(sys.argv[1],), num_processes=2)
