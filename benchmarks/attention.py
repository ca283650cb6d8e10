"""
Attention in the encoders: eager against SDPA at the size of the paper, ViT-B/16 on 224 x 224 pixels and BERT-base on
77 tokens, forward and backward.

    python benchmarks/attention.py

Both take turns, so that whatever else the machine does slows both; the figures are ratios of medians. On a GPU in
bfloat16, as one trains there.
"""

import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH_SIZE, ROUNDS = (64, 30) if DEVICE == "cuda" else (4, 8)


def main() -> None:
    torch.manual_seed(0)
    model = BDAMModel(BDAMConfig()).to(DEVICE).train()
    token_ids = torch.randint(1000, 20000, (BATCH_SIZE, 77), device=DEVICE)
    padding = torch.arange(77, device=DEVICE) < torch.randint(20, 77, (BATCH_SIZE, 1), device=DEVICE)
    encoders: dict[str, Callable[[], torch.Tensor]] = {
        "vision": lambda: model.vision_model(pixel_values).last_hidden_state,
        "text": lambda: model.text_model(token_ids, attention_mask=padding.long()).last_hidden_state,
    }
    pixel_values = torch.randn(BATCH_SIZE, 3, 224, 224, device=DEVICE)
    figures = {}
    for name, encode in encoders.items():
        times: dict[str, list[float]] = {"eager": [], "sdpa": []}
        for _ in range(ROUNDS):
            for implementation, of_implementation in times.items():
                model.set_attn_implementation(implementation)
                of_implementation.append(step(model, encode))
        eager, sdpa = (1e3 * statistics.median(times[kind][2:]) for kind in ("eager", "sdpa"))
        print(f"{name} encoder, {BATCH_SIZE} items on {DEVICE}: eager {eager:.1f} ms, SDPA {sdpa:.1f} ms")
        figures[f"{name}_eager_over_sdpa"] = round(eager / sdpa, 3)
    print(json.dumps({"benchmark": "attention", "device": DEVICE, **figures}))


def step(model: nn.Module, encode: Callable[[], torch.Tensor]) -> float:
    """Seconds of one forward and backward pass."""
    wait_for_device()
    start = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16) if DEVICE == "cuda" else nullcontext():
        states = encode()
    states.float().square().mean().backward()
    wait_for_device()
    seconds = time.perf_counter() - start
    model.zero_grad()
    return seconds


def wait_for_device() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
