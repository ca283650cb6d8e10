"""
What broken files cost: files per second of `Gallery.from_images` on a folder of which 1 % cannot be read, over those
of the same folder without them.

    python benchmarks/indexing.py MODEL [--files 10000]

MODEL is a checkpoint, such as `outputs/demo/model`. Both folders take turns, so that whatever else the machine does
slows both; the figure is the ratio of medians.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery


ROUNDS = 3
BROKEN_EVERY = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # which name the broken files
    embedder = Embedder(arguments.model)
    with tempfile.TemporaryDirectory() as root:
        whole, broken = Path(root, "whole"), Path(root, "broken")
        write(whole, arguments.files, breaks=False)
        write(broken, arguments.files, breaks=True)
        rates: dict[Path, list[float]] = {whole: [], broken: []}
        sizes = {}
        for turn in range(ROUNDS):
            for folder in rates:
                start = time.perf_counter()
                gallery = Gallery.from_images(embedder, folder, uri=Path(root, f"gallery-{turn}-{folder.name}"))
                rates[folder].append(arguments.files / (time.perf_counter() - start))
                sizes[folder] = len(gallery)
    medians = {folder: statistics.median(of_folder) for folder, of_folder in rates.items()}
    figures = {
        "benchmark": "indexing",
        "files": arguments.files,
        "indexed": sizes[whole],
        "indexed_of_broken": sizes[broken],
        "files_per_second": round(medians[whole], 1),
        "files_per_second_with_broken": round(medians[broken], 1),
        "ratio": round(medians[broken] / medians[whole], 3),
    }
    print(json.dumps(figures))


def write(folder: Path, count: int, breaks: bool) -> None:
    """JPEGs of 64 x 128 pixels; some of them torn in the middle, if `breaks`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:06}.jpg"
        colors = random.integers(0, 256, (8, 4, 3), dtype=np.uint8)
        Image.fromarray(colors).resize((64, 128)).save(path)
        if breaks and index % BROKEN_EVERY == 0:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


if __name__ == "__main__":
    main()
