"""
The fused selective scan against the plain PyTorch scan of transformers: time, growth with length, peak memory (Linux).

On a machine with other work, set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait distort every figure.
"""

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from mamba_bdam import selective_scan


BATCH_SIZE, CHANNELS, STATE_SIZE = 64, 512, 16
SHORT, LONG = 64, 512
MEBIBYTE = 2**20


def make_inputs(seq_len: int) -> list[torch.Tensor]:
    """u, delta, A, B, C as the mixer produces them at initialization; leaves that require gradients."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(BATCH_SIZE, seq_len, CHANNELS, generator=generator)
    delta = torch.empty_like(u).uniform_(1e-3, 1e-1, generator=generator)
    A = -torch.arange(1.0, STATE_SIZE + 1).repeat(CHANNELS, 1)
    B, C = torch.randn(2, BATCH_SIZE, seq_len, STATE_SIZE, generator=generator).unbind()
    return [tensor.requires_grad_() for tensor in (u, delta, A, B, C)]


def to_channels_first(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same inputs in the layout that transformers expects."""
    with torch.no_grad():
        return [x.transpose(1, 2).contiguous().requires_grad_() if x.ndim == 3 else x for x in inputs]


def forward(scan: Callable, inputs: list[torch.Tensor]) -> None:
    with torch.no_grad():
        scan(*inputs)


def forward_backward(scan: Callable, inputs: list[torch.Tensor]) -> None:
    y = scan(*inputs)
    torch.autograd.grad(y, inputs, torch.ones_like(y))


def best_seconds(repeats: int, **runs: tuple[Callable, Callable, list[torch.Tensor]]) -> dict[str, float]:
    """Best wall time of every run; the runs take turns, so that noise of the machine meets all of them."""
    seconds = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, (mode, scan, inputs) in runs.items():
            start = time.perf_counter()
            mode(scan, inputs)
            if repeat > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def resident_bytes(field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (peak) of this process, from the Linux kernel."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def measure_peak(seq_len: int, threads: int, connection) -> None:
    """Sends the growth of the peak resident memory over forward and backward, with and without the five inputs."""
    torch.set_num_threads(threads)
    forward_backward(selective_scan, [x[:2, :2] if x.ndim == 3 else x for x in make_inputs(2)])
    empty = resident_bytes("VmRSS")
    inputs = make_inputs(seq_len)
    with_inputs = resident_bytes("VmRSS")
    forward_backward(selective_scan, inputs)
    peak = resident_bytes("VmHWM")
    connection.send((peak - empty, peak - with_inputs))


def peak_bytes(seq_len: int, threads: int) -> tuple[int, int]:
    """`measure_peak` in a fresh process, whose allocator has no past."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure_peak, args=(seq_len, threads, sender))
    process.start()
    peaks = receiver.recv()
    process.join()
    return peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    figures = {"threads": threads, "batch_size": BATCH_SIZE, "channels": CHANNELS, "state_size": STATE_SIZE}

    for seq_len in (SHORT, LONG):
        total, added = peak_bytes(seq_len, threads)
        full = BATCH_SIZE * seq_len * CHANNELS * STATE_SIZE * 4
        print(
            f"L={seq_len}: forward + backward peak at {total / MEBIBYTE:.0f} MiB with inputs, "
            f"{added / MEBIBYTE:.0f} MiB without; one (B, L, D, N) tensor is {full / MEBIBYTE:.0f} MiB"
        )
        figures[f"peak_over_full_tensor_{seq_len}"] = round(total / full, 3)

    short = make_inputs(SHORT)
    short_channels_first = to_channels_first(short)
    for mode, repeats in ((forward, 5), (forward_backward, 2)):
        seconds = best_seconds(
            repeats, ours=(mode, selective_scan, short), theirs=(mode, mamba_selective_scan, short_channels_first)
        )
        speedup = seconds["theirs"] / seconds["ours"]
        print(
            f"L={SHORT} {mode.__name__}: ours {seconds['ours'] * 1e3:.1f} ms, "
            f"transformers {seconds['theirs'] * 1e3:.1f} ms, {speedup:.1f} times faster"
        )
        figures[f"speedup_{mode.__name__}"] = round(speedup, 2)

    long = make_inputs(LONG)
    for mode, repeats in ((forward, 10), (forward_backward, 4)):
        seconds = best_seconds(repeats, short=(mode, selective_scan, short), long=(mode, selective_scan, long))
        growth = (seconds["long"] / LONG) / (seconds["short"] / SHORT)
        print(f"{mode.__name__}: a step at L={LONG} takes {growth:.2f} times a step at L={SHORT}")
        figures[f"step_growth_{mode.__name__}"] = round(growth, 3)

    print(json.dumps(figures))


if __name__ == "__main__":
    main()
