"""
Searching a gallery of random vectors: writing, reading, time per query and memory; exact search against a plain
product and `topk` in the same run, and FAISS with its recall.

    python benchmarks/search.py [--images 100000]

The vectors have the sizes of the paper's model, 256 for the identity and 768 for the clothing. Random vectors have no
near neighbors, which is as hard for a graph as it gets: real ones are easier, and `bdam index --index hnsw` prints
the recall for those of a gallery.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch
from torch.nn.functional import normalize

from bdam.retrieval.recall import measure_recall
from bdam.retrieval.stores.base import EmbeddingSpace
from bdam.retrieval.stores.local import LocalStore
from bdam.retrieval.stores.parts import Parts


SPACE = EmbeddingSpace("random", "random", 256, 768)
CLOTHING_WEIGHT = 0.5
ROWS_PER_PART = 1024
NUM_QUERIES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    num_images = parser.parse_args().images
    random = torch.Generator().manual_seed(0)
    vectors = random_vectors(num_images, random)
    queries = CLOTHING_WEIGHT * random_vectors(NUM_QUERIES, random)
    with tempfile.TemporaryDirectory() as folder:
        write_seconds = seconds_of(lambda: write(Path(folder), vectors))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        before = memory()
        start = time.perf_counter()
        gallery = LocalStore(SPACE, Parts(Path(folder)))
        gallery.search(queries[0], 10, {})
        read_seconds, read_memory = time.perf_counter() - start, memory() - before
        exact, plain = alternate(
            queries, lambda query: gallery.search(query, 10, {}), lambda query: (vectors @ query).topk(10)
        )
        start = time.perf_counter()
        approximate = LocalStore(SPACE, Parts(Path(folder)), index="hnsw")
        approximate.search(queries[0], 10, {})
        build_seconds = time.perf_counter() - start
        graph, _ = alternate(queries, lambda query: approximate.search(query, 10, {}), lambda query: None)
        found = measure_recall(approximate, queries)
    figures = {
        "benchmark": "search",
        "images": num_images,
        "vector_mb": round(vectors.numel() * 4 / 1e6),
        "write_s": round(write_seconds, 2),
        "file_mb": round(size / 1e6),
        "read_s": round(read_seconds, 2),
        "memory_mb": round(read_memory),
        "exact_p50_ms": percentile(exact, 50),
        "exact_p95_ms": percentile(exact, 95),
        "plain_p50_ms": percentile(plain, 50),
        "exact_over_plain": round(statistics.median(exact) / statistics.median(plain), 3),
        "graph_build_s": round(build_seconds, 1),
        "graph_p50_ms": percentile(graph, 50),
        "graph_p95_ms": percentile(graph, 95),
        "graph_recall": round(found, 3),
    }
    print(f"{num_images:,} vectors: written in {write_seconds:.1f} s, read in {read_seconds:.1f} s.")
    print("Exact: {exact_p50_ms} ms, 95 % below {exact_p95_ms} ms; {exact_over_plain} times plain.".format(**figures))
    print("FAISS: {graph_p50_ms} ms, recall {graph_recall:.1%}, built in {graph_build_s} s.".format(**figures))
    print(json.dumps(figures))


def random_vectors(count: int, random: torch.Generator) -> torch.Tensor:
    halves = (SPACE.identity_size, SPACE.clothing_size)
    return torch.cat([normalize(torch.randn(count, size, generator=random), dim=1) for size in halves], dim=1)


def write(folder: Path, vectors: torch.Tensor) -> None:
    parts = Parts(folder, SPACE)
    for start in range(0, len(vectors), ROWS_PER_PART):
        of_part = vectors[start : start + ROWS_PER_PART]
        numbers = range(start, start + len(of_part))
        columns = {
            "image_id": pa.array([f"{number:08}.jpg" for number in numbers]),
            "image": pa.array([{"bytes": None, "path": f"/images/{number:08}.jpg"} for number in numbers]),
            "stamp": pa.array([0] * len(of_part), pa.int64()),
            "content": pa.array([0] * len(of_part), pa.int64()),
            "camera": pa.array([number % 10 for number in numbers], pa.int64()),
        }
        columns["image"] = columns["image"].cast(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        parts.write(pa.table(columns), of_part)


def alternate(queries: torch.Tensor, *searches: Callable) -> list[list[float]]:
    """Milliseconds that each search takes for each query, turn by turn, so that noise falls on all alike."""
    times: list[list[float]] = [[] for _ in searches]
    for query in queries:
        for search, of_search in zip(searches, times, strict=True):
            of_search.append(1000 * seconds_of(lambda search=search, query=query: search(query)))
    return times


def seconds_of(do: Callable) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def percentile(milliseconds: list[float], percent: int) -> float:
    return round(statistics.quantiles(milliseconds, n=100)[percent - 1], 2)


def memory() -> float:
    """The most that was held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
