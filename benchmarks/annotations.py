"""
What it takes to load the annotations of CUHK-PEDES at full size, written here with the words' tokens as the official
file has them: 40,206 images, 80,412 captions. No image is there, as none is looked at.

    python benchmarks/annotations.py

The memory is the growth of the process's peak over what it held when everything was imported.
"""

import json
import random
import resource
import tempfile
import time
from pathlib import Path

from bdam.data.images import read_column
from bdam.data.loading import load_data


SPLITS = {"train": (11003, 34054), "val": (1000, 3078), "test": (1000, 3074)}
SUB_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query")
WORDS = ("a", "the", "young", "man", "woman", "with", "wearing", "black", "white", "shirt", "jeans", "carrying", "bag")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in SUB_FOLDERS:
            (root / "imgs" / name).mkdir(parents=True)
        path, records = root / "reid_raw.json", annotations()
        with path.open("w", encoding="utf-8") as file:
            file.write("[" + json.dumps(next(records)))
            file.writelines("," + json.dumps(record) for record in records)
            file.write("]")
        before = peak()
        start = time.perf_counter()
        data = load_data(f"cuhk-pedes:{root}")
        seconds = time.perf_counter() - start
        captions = sum(len(of_image) for rows in data.values() for of_image in read_column(rows, "captions"))
        megabytes = path.stat().st_size / 1e6
    figures = {
        "benchmark": "annotations",
        "images": sum(map(len, data.values())),
        "captions": captions,
        "file_mb": round(megabytes, 1),
        "seconds": round(seconds, 2),
        "added_mb": round(peak() - before),
        "peak_mb": round(peak()),
    }
    print("{images} images and {captions} captions, {file_mb} MB of JSON, in {seconds} s".format(**figures))
    print("memory: {added_mb} MB on top, {peak_mb} MB in all, imports included".format(**figures))
    print(json.dumps(figures))


def annotations():
    """Records as those of `reid_raw.json`, persons in order, two captions of 10 to 40 words each."""
    chance, first = random.Random(0), 1
    for split, (persons, images) in SPLITS.items():
        for image in range(images):
            tokens = [chance.choices(WORDS, k=chance.randint(10, 40)) for _ in range(2)]
            yield {
                "split": split,
                "captions": [" ".join(words) for words in tokens],
                "file_path": f"{SUB_FOLDERS[image % 7]}/{split}_{image:06}.png",
                "processed_tokens": tokens,
                "id": first + image % persons,
            }
        first += persons


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * 1.048576


if __name__ == "__main__":
    main()
