"""
Peak memory and time of a training step with gradient caching, relative to those of a step in one graph.

    python benchmarks/gradient_cache.py

Batches of 256 images; ViT and BERT with 4 layers of width 128 each, and GradNorm. Every variant runs in a process of
its own, since the peak memory of a process never decreases. Each round runs a step of each variant, so that other load
slows all of them.
"""

import json
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection

import torch
from accelerate import Accelerator

from bdam.training.balancing import GradNorm, shared_parameters
from bdam.training.gradient_cache import GradientCache, WholeBatch
from configuration_bdam import BDAMConfig
from losses_bdam import TASKS, BDAMLossInputs, losses
from modeling_bdam import BDAMModel


ROUNDS = 3
BATCH_SIZE = 256
TEXT_LENGTH = 40
IMAGE_SIZE = (192, 96)
# Images per chunk; None is the whole batch in one graph.
CHUNK_SIZES = (None, 64, 32, 16)
ENCODER = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 256}


def build_model() -> BDAMModel:
    config = BDAMConfig(
        vision_config={"model_type": "vit", "image_size": list(IMAGE_SIZE), **ENCODER},
        text_config={"model_type": "bert", "vocab_size": 100, **ENCODER},
        num_branch_layers=1,
        num_branch_heads=2,
        branch_intermediate_size=256,
        fusion_hidden_size=32,
        projection_dim=32,
    )
    return BDAMModel(config).train()


def build_batch() -> dict[str, torch.Tensor]:
    batch = {"pixel_values": torch.randn(BATCH_SIZE, 3, *IMAGE_SIZE)}
    for prefix in ("", "identity_", "clothing_"):
        batch[f"{prefix}input_ids"] = torch.randint(5, 90, (BATCH_SIZE, TEXT_LENGTH))
        batch[f"{prefix}attention_mask"] = torch.ones(BATCH_SIZE, TEXT_LENGTH, dtype=torch.long)
    return batch


def run_steps(chunk_size: int | None, rounds: Connection) -> None:
    """Runs a step for each True from `rounds`, and sends its seconds and the growth of peak memory in MiB."""
    torch.set_num_threads(1)
    accelerator, model, batch = Accelerator(cpu=True), build_model(), build_batch()
    balancer, shared, person_ids = (
        GradNorm(dict.fromkeys(TASKS, 1.0)),
        shared_parameters(model),
        torch.arange(BATCH_SIZE) // 2,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while rounds.recv():
        start = time.perf_counter()
        model.zero_grad()
        if chunk_size is None:
            forward_pass = WholeBatch(accelerator, model, batch)
        else:
            forward_pass = GradientCache(accelerator, model, batch, chunk_size)
        loss_dict = losses(BDAMLossInputs(**forward_pass.features, person_ids=person_ids), model.config)
        forward_pass.backward(balancer.select(loss_dict, epoch=0), balancer, shared)
        seconds = time.perf_counter() - start
        rounds.send((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main() -> None:
    context = multiprocessing.get_context("spawn")
    workers: dict[int | None, Connection] = {}
    for chunk_size in CHUNK_SIZES:
        workers[chunk_size], end = context.Pipe()
        context.Process(target=run_steps, args=(chunk_size, end), daemon=True).start()
    steps: dict[int | None, list[tuple[float, float]]] = {chunk_size: [] for chunk_size in CHUNK_SIZES}
    for _ in range(ROUNDS):
        for chunk_size, worker in workers.items():
            worker.send(True)
            steps[chunk_size].append(worker.recv())
    for worker in workers.values():
        worker.send(False)
    times = {chunk_size: statistics.median(seconds for seconds, _ in steps[chunk_size]) for chunk_size in CHUNK_SIZES}
    memory = {chunk_size: steps[chunk_size][-1][1] for chunk_size in CHUNK_SIZES}
    for chunk_size in CHUNK_SIZES:
        name = "whole batch" if chunk_size is None else f"chunks of {chunk_size}"
        print(f"{name}: {times[chunk_size]:.2f} s per step, peak memory +{memory[chunk_size]:.0f} MiB")
    ratios = {
        f"chunks_of_{chunk_size}": {
            "time": round(times[chunk_size] / times[None], 2),
            "memory": round(memory[chunk_size] / memory[None], 2),
        }
        for chunk_size in CHUNK_SIZES[1:]
    }
    print(json.dumps({"benchmark": "gradient_cache", **ratios}))


if __name__ == "__main__":
    main()
