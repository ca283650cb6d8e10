"""
Attention in the encoders: eager against SDPA at the size of the paper, ViT-B/16 on 224 x 224 pixels and BERT-base on
77 tokens, forward and backward.

    python benchmarks/attention.py

Both take turns, so that whatever else the machine does slows both; figures of time are ratios of medians, of
processor time on a CPU. Saved bytes are those that the forward pass keeps for the backward pass, which bound the size
of a batch. On a GPU it all runs in bfloat16, as one trains there.
"""

import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH_SIZE, ROUNDS = (64, 30) if DEVICE == "cuda" else (2, 8)
Encode = Callable[[], torch.Tensor]


def main() -> None:
    torch.manual_seed(0)
    model = BDAMModel(BDAMConfig()).to(DEVICE).train()
    pixel_values = torch.randn(BATCH_SIZE, 3, 224, 224, device=DEVICE)
    states = torch.randn(BATCH_SIZE, 197, 768, device=DEVICE, requires_grad=True)
    token_ids = torch.randint(1000, 20000, (BATCH_SIZE, 77), device=DEVICE)
    attention_mask = (torch.arange(77) < torch.randint(20, 77, (BATCH_SIZE, 1))).long().to(DEVICE)
    parts: dict[str, Encode] = {
        "vision_attention": lambda: model.vision_model.layers[0].attention(states)[0],
        "vision": lambda: model.vision_model(pixel_values).last_hidden_state,
        "text": lambda: model.text_model(token_ids, attention_mask=attention_mask).last_hidden_state,
    }
    figures = {}
    for name, encode in parts.items():
        seconds: dict[str, list[float]] = {"eager": [], "sdpa": []}
        saved: dict[str, int] = {}
        for _ in range(ROUNDS):
            for implementation, of_implementation in seconds.items():
                model.set_attn_implementation(implementation)
                of_implementation.append(step(encode))
                saved[implementation] = saved_bytes(encode)
        eager, sdpa = (1e3 * statistics.median(seconds[kind][2:]) for kind in ("eager", "sdpa"))
        print(
            f"{name}, {BATCH_SIZE} items on {DEVICE}: eager {eager:.1f} ms, SDPA {sdpa:.1f} ms; "
            f"{saved['eager'] / 1e6:.0f} MB and {saved['sdpa'] / 1e6:.0f} MB saved"
        )
        figures[f"{name}_eager_over_sdpa"] = round(eager / sdpa, 3)
        figures[f"{name}_saved_bytes_eager_over_sdpa"] = round(saved["eager"] / saved["sdpa"], 3)
    print(json.dumps({"benchmark": "attention", "device": DEVICE, **figures}))


def step(encode: Encode) -> float:
    """Seconds of one forward and backward pass."""
    start = now()
    with precision():
        states = encode()
    states.float().square().mean().backward()
    return now() - start


def saved_bytes(encode: Encode) -> int:
    """What the forward pass keeps, each storage once."""
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with precision(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encode()
    return sum(storages.values())


def precision():
    return torch.autocast("cuda", torch.bfloat16) if DEVICE == "cuda" else nullcontext()


def now() -> float:
    if DEVICE == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
