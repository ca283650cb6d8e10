"""Time and memory of the retrieval metrics at the sizes of CUHK-PEDES and ICFG-PEDES.

On a machine that is busy otherwise, keep waiting threads from spinning, which distorts the ratios:
OMP_WAIT_POLICY=passive python benchmarks/metrics.py
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import evaluate
import torch
from torch import Tensor
from torch.nn.functional import normalize


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from bdam.evaluation.metrics import retrieval_metrics  # noqa: E402


CUHK_PEDES = {"num_queries": 6156, "num_gallery": 3074, "num_persons": 1000}
ICFG_PEDES = {"num_queries": 19848, "num_gallery": 19848, "num_persons": 1000}


def random_embeds(num_queries: int, num_gallery: int, num_persons: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries that resemble one image of their person, in 256 dimensions, and the persons of both sides."""
    random = torch.Generator().manual_seed(0)
    own_images = torch.arange(num_queries) % num_gallery
    gallery_persons = torch.arange(num_gallery) % num_persons
    gallery = torch.randn(num_gallery, 256, generator=random)
    queries = torch.randn(num_queries, 256, generator=random) + 0.25 * gallery[own_images]
    return normalize(queries, dim=1), normalize(gallery, dim=1), gallery_persons[own_images], gallery_persons


def matrix_product(queries: Tensor, gallery: Tensor, *persons: Tensor) -> None:
    """The scores alone, in chunks: what no exact method can do without."""
    for chunk in queries.split(256):
        chunk @ gallery.T


def sorting_metrics(queries: Tensor, gallery: Tensor, query_persons: Tensor, gallery_persons: Tensor) -> dict:
    """The metrics as public code computes them: sort the gallery for every query, then walk over the queries."""
    order = torch.argsort(queries @ gallery.T, dim=1, descending=True)
    matches = gallery_persons[order] == query_persons[:, None]
    precisions, penalties = [], []
    for row in matches:
        ranks = row.nonzero()[:, 0].double() + 1
        precisions.append((torch.arange(1, len(ranks) + 1) / ranks).mean().item())
        penalties.append(len(ranks) / ranks[-1].item())
    return {
        "r1": 100 * matches[:, :1].any(1).double().mean().item(),
        "r5": 100 * matches[:, :5].any(1).double().mean().item(),
        "r10": 100 * matches[:, :10].any(1).double().mean().item(),
        "map": 100 * sum(precisions) / len(precisions),
        "minp": 100 * sum(penalties) / len(penalties),
    }


def evaluate_metrics() -> Callable:
    """The metric that `evaluate` loads, called as the functions are."""
    metric = evaluate.load(str(ROOT / "metrics" / "person_retrieval"))

    def compute(queries: Tensor, gallery: Tensor, query_persons: Tensor, gallery_persons: Tensor) -> dict:
        images = {"gallery_embeds": gallery, "gallery_person_ids": gallery_persons}
        return metric.compute(predictions=queries, references=query_persons, **images)

    return compute


def best_seconds(functions: list[Callable], case: tuple[Tensor, ...], rounds: int) -> list[float]:
    """Shortest time of each function; they take turns, so that a busy machine disturbs all of them alike."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, function_times in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(*case)
            function_times.append(time.perf_counter() - start)
    return [min(function_times) for function_times in times]


def megabytes_above_embeddings() -> float:
    """Peak of what the metrics add to a process that holds the embeddings of ICFG-PEDES (Linux)."""
    case = random_embeds(**ICFG_PEDES)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    retrieval_metrics(*case)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="only print the megabytes of one evaluation")
    if parser.parse_args().memory:
        print(megabytes_above_embeddings())
        return

    # While this process is still small, because the child inherits its peak.
    megabytes = float(subprocess.check_output([sys.executable, __file__, "--memory"]))

    cuhk = random_embeds(**CUHK_PEDES)
    metrics, expected = retrieval_metrics(*cuhk), sorting_metrics(*cuhk)
    difference = max(abs(metrics[name] - expected[name]) for name in expected)
    functions = [matrix_product, retrieval_metrics, evaluate_metrics(), sorting_metrics]
    product, counting, evaluating, sorting = best_seconds(functions, cuhk, rounds=9)
    icfg = random_embeds(**ICFG_PEDES)
    icfg_product, icfg_counting = best_seconds([matrix_product, retrieval_metrics], icfg, rounds=2)

    print(f"CUHK-PEDES: product {product:.3f} s, metrics {counting:.3f} s, by sorting {sorting:.3f} s")
    print(f"            as a metric of evaluate {evaluating:.3f} s")
    print(f"            the results differ by at most {difference:.1e} percentage points")
    print(f"ICFG-PEDES: product {icfg_product:.2f} s, metrics {icfg_counting:.2f} s, {megabytes:.0f} MB")
    figures = {
        "threads": torch.get_num_threads(),
        "cuhk_times_faster_than_sorting": round(sorting / counting, 1),
        "cuhk_times_matrix_product": round(counting / product, 2),
        "cuhk_difference_from_sorting": difference,
        "cuhk_evaluate_times_metrics": round(evaluating / counting, 1),
        "icfg_times_matrix_product": round(icfg_counting / icfg_product, 2),
        "icfg_megabytes_above_embeddings": round(megabytes),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
