"""Embeddings of many items: what was embedded is not embedded again, and processes share the work."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from processes import environment
from tiny import tiny_model

from bdam.data.benchmarks import load_benchmark
from bdam.encoding.extraction import FeatureStore, embed_in_batches, feature_store


MODEL = tiny_model()
NUMBERS = list(range(70))  # in batches of two, of which sixteen make a chunk: two chunks and a bit


def prepare(numbers: list[int]) -> dict[str, torch.Tensor]:
    return {"numbers": torch.tensor(numbers)}


def embed(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    assert not MODEL.training and torch.is_inference_mode_enabled()
    squares = inputs["numbers"].double().square()[:, None]
    return {"square": squares, **({} if squares.max() > 4000 else {"small": squares})}


def embed_numbers(embed=embed, store=None) -> dict[str, torch.Tensor]:
    return embed_in_batches(MODEL.train(), prepare, embed, NUMBERS, "numbers", batch_size=2, store=store)


def test_embeddings_come_in_the_order_of_their_items():
    embeddings = embed_numbers()
    assert torch.equal(embeddings["square"], torch.tensor(NUMBERS).float().square()[:, None])
    assert list(embeddings) == ["square"]  # the last batches lack the other
    assert MODEL.training


def test_what_was_interrupted_goes_on(tmp_path):
    store, seen = FeatureStore(tmp_path), []

    def give_up(inputs):
        if inputs["numbers"].max() > 50:
            raise KeyboardInterrupt
        return embed(inputs)

    def count(inputs):
        seen.extend(inputs["numbers"].tolist())
        return embed(inputs)

    with pytest.raises(KeyboardInterrupt):
        embed_numbers(give_up, store)
    assert torch.equal(embed_numbers(count, store)["square"], embed_numbers()["square"])
    assert seen == NUMBERS[32:]  # the first chunk was kept
    embed_numbers(give_up, store)  # now there is nothing left to embed


def test_what_embeddings_depend_on_gives_them_a_place_of_their_own(tmp_path):
    checkpoint, root = tmp_path / "model", tmp_path / "people"
    MODEL.save_pretrained(checkpoint)
    root.mkdir()
    Image.new("RGB", (8, 16)).save(root / "a.png")

    def place(caption: str = "A man.", **settings) -> Path:
        record = f'{{"image": "a.png", "person_id": 0, "caption": "{caption}", "split": "test"}}'
        (root / "annotations.jsonl").write_text(record)
        return feature_store(str(checkpoint), load_benchmark("own", root, "test"), **settings).folder

    first = place()
    (checkpoint / "calibration.json").write_text("{}")
    assert place() == first
    others = [place("A woman."), place(mixed_precision="bf16")]
    Image.new("RGB", (8, 16), "red").save(root / "a.png")
    others.append(place())
    (checkpoint / "config.json").write_text("{}")
    others.append(place())
    assert len({first, *others}) == 5


def test_two_processes_share_the_work(tmp_path):
    run = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    results = [torch.load(path) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(results) == 2, run.stderr[-3000:]
    assert sorted(len(of_process["seen"]) for of_process in results) == [32, 38]
    for of_process in results:
        assert torch.equal(of_process["embeddings"]["square"], embed_numbers()["square"])


def work(folder: str) -> None:
    """What each of two processes runs."""
    accelerator, seen = Accelerator(cpu=True), []

    def count(inputs):
        seen.extend(inputs["numbers"].tolist())
        return embed(inputs)

    results = {"embeddings": embed_numbers(count), "seen": seen}
    torch.save(results, Path(folder) / f"{accelerator.process_index}.pt")


if __name__ == "__main__":
    from accelerate import Accelerator, debug_launcher

    debug_launcher(work, args=(sys.argv[1],), num_processes=2)
