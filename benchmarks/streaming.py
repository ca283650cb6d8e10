"""
What streaming a corpus costs beside reading its shards, and whether its memory grows.

    python benchmarks/streaming.py [RECORDS]

The corpus has RECORDS images (default: 1,000,000), one small picture repeated, in 100 parquet files in the layout of
WebPerson. It is streamed once, as training does: shuffled, opened, tokenized, in batches of 64. Beside it, in turns, a
plain loop of `datasets` reads the shards in their order, and the same is done with them; and both once more, without
opening and tokenizing. Rates are ratios of medians; the memory is the growth of the process after its first tenth.
"""

import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import load_dataset
from PIL import Image
from tqdm.auto import tqdm
from transformers import ViTImageProcessorPil

from bdam.data.batches import StreamCollator, TrainingCollator
from bdam.data.corpora import open_corpus
from bdam.data.streaming import Position, StreamedBatches, StreamedRows
from bdam.training.building import learn_tokenizer
from processing_bdam import BDAMProcessor


SHARDS, BATCH, TURN = 100, 64, 50
SIZE = {"height": 64, "width": 32}


def write_corpus(root: Path, records: int) -> None:
    file = io.BytesIO()
    Image.effect_noise((32, 64), 60).convert("RGB").save(file, "JPEG")
    (root / "data").mkdir()
    for shard in range(SHARDS):
        names = [f"{shard}/{number}.jpg" for number in range(records // SHARDS)]
        images = pa.array([{"bytes": file.getvalue(), "path": name} for name in names])
        captions = {f"caption{i}": [f"Person {name} walks, caption {i}." for name in names] for i in (1, 2)}
        table = pa.table({"image": images, "image_path": names, **captions})
        pq.write_table(table, root / f"data/train-{shard:05}-of-{SHARDS:05}.parquet", row_group_size=1000)


def streamed(root: Path, collate: Callable) -> Iterator[dict]:
    rows = StreamedRows(open_corpus(f"webperson:{root}"), BATCH, seed=0, start=Position())
    batches = StreamedBatches(rows, collate, (0, 1), steps=1000, num_workers=0)
    return chain.from_iterable(map(batches.epoch, count()))


def read_plainly(root: Path, collate: Callable) -> Iterator[dict]:
    """The batches of a plain loop of `datasets` over the same shards, not shuffled."""
    files = sorted(map(str, root.glob("data/*.parquet")))
    dataset = load_dataset("parquet", data_files=files, streaming=True, split="train")
    rows = (
        {
            **{"image": row["image"], "image_id": row["image_path"], "captions": [row["caption1"], row["caption2"]]},
            **{"identity_description": None, "clothing_description": None, "person_id": number, "seed": number},
        }
        for number, row in enumerate(dataset)
    )
    while batch := list(islice(rows, BATCH)):
        yield collate(batch)


def seconds_of(batches: Iterator[dict]) -> float:
    start = time.perf_counter()
    for _ in islice(batches, TURN):
        pass
    return (time.perf_counter() - start) / TURN


def main() -> None:
    torch.set_num_threads(1)
    records = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    tokenizer = learn_tokenizer(["Person walks, caption 1 2 0 / . jpg"], max_length=32)
    processor = BDAMProcessor(ViTImageProcessorPil(size=SIZE, do_convert_rgb=True), tokenizer)
    collate = StreamCollator(processor, TrainingCollator(processor, 0.0, augment=[]))
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_corpus(root, records)
        start = time.perf_counter()
        stream, plain = streamed(root, collate), read_plainly(root, collate)
        next(stream)
        start_up = time.perf_counter() - start
        next(plain)
        ours, theirs, memory = [], [], []
        for turn in tqdm(range((records // BATCH - 1) // TURN), desc="Streaming"):
            ours.append(seconds_of(stream))
            if turn % 10 == 0:
                theirs.append(seconds_of(plain))
            memory.append(psutil.Process().memory_info().rss / 2**20)
        unopened, plainly_unopened = streamed(root, len), read_plainly(root, len)
        rows = [(seconds_of(unopened), seconds_of(plainly_unopened)) for _ in range(9)]
    steady = memory[len(memory) // 10 :]
    figures = {
        "pairs": TURN * BATCH * len(ours),
        "pairs_per_second": round(BATCH / statistics.median(ours)),
        "of_plain_loop": round(statistics.median(theirs) / statistics.median(ours), 2),
        "of_plain_loop_unopened": round(statistics.median(theirs / ours for ours, theirs in rows), 2),
        "start_up_seconds": round(start_up, 1),
        "memory_growth_mib": round(max(steady) - steady[0]),
    }
    print(json.dumps({"benchmark": "streaming", **figures}))


if __name__ == "__main__":
    main()
