"""
What the evaluation adds to the bare forward pass: images per second from files on disk over those of one batch that
is embedded again and again, on a BDAM of the paper's size; and how memory grows when the gallery is four times as
large.

    python benchmarks/extraction.py

Both take turns, so that whatever else the machine does slows both; the figure is the ratio of medians. Memory is the
peak of the process with the demo's model, less what the features themselves hold.
"""

import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import ViTImageProcessorPil

from bdam.data.benchmarks import load_benchmark
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.extraction import embed_images
from bdam.recipes.recipe import load_recipe
from bdam.training.building import build_model, build_processor, learn_tokenizer
from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


BATCH_SIZE = 4
BATCHES = 2
ROUNDS = 3
# Images of the two galleries whose memory is compared.
SMALL, LARGE = 1024, 4096


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        images = save_images(Path(folder))
        growth = memory_growth(images)
        encoder = paper_encoder()
        some = images.select(range(BATCH_SIZE * BATCHES))
        batch = dict(encoder.prepare_images([images[row] for row in range(BATCH_SIZE)], use_descriptions=False))
        bare, extracted = [], []
        for _ in range(ROUNDS):
            bare.append(forward_rate(encoder, batch))
            start = time.perf_counter()
            embed_images(encoder, some, batch_size=BATCH_SIZE)
            extracted.append(len(some) / (time.perf_counter() - start))
    figures = {
        "benchmark": "extraction",
        "device": str(encoder.model.device),
        "bare_images_per_second": round(statistics.median(bare), 2),
        "extracted_images_per_second": round(statistics.median(extracted), 2),
        "ratio": round(statistics.median(extracted) / statistics.median(bare), 3),
        "growth_mb": round(growth, 1),
    }
    print(f"{figures['ratio']:.1%} of the throughput of the bare forward pass, on {figures['device']}.")
    print(f"From {SMALL} to {LARGE} images, memory grows by {growth:.1f} MB besides the features.")
    print(json.dumps(figures))


def save_images(root: Path):
    """People of 384 x 192 pixels as files on disk, again and again until they are many."""
    rows = generate_pedestrians(1, 1, BATCH_SIZE * BATCHES // 4, image_size=(384, 192))["test"]
    for index, row in enumerate(rows):
        row["image"].save(root / f"{index}.jpg")
    lines = []
    for index in range(LARGE):
        person, source = index // len(rows), root / f"{index % len(rows)}.jpg"
        path = root / f"{index}.jpg"
        if index >= len(rows):
            path.hardlink_to(source)
        lines.append(json.dumps({"image": path.name, "person_id": person, "caption": "A man.", "split": "test"}))
    (root / "annotations.jsonl").write_text("\n".join(lines))
    return load_benchmark("own", root, "test")


def paper_encoder() -> BDAMEncoder:
    tokenizer = learn_tokenizer(["A man."], max_length=64, vocab_size=100)
    processor = BDAMProcessor(ViTImageProcessorPil(size={"height": 224, "width": 224}), tokenizer)
    model = BDAMModel(BDAMConfig(vision_config={"model_type": "vit"}, text_config={"model_type": "bert"})).eval()
    return BDAMEncoder(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor)


@torch.inference_mode()
def forward_rate(encoder: BDAMEncoder, batch: dict[str, torch.Tensor]) -> float:
    batch = {name: values.to(encoder.model.device) for name, values in batch.items()}
    start = time.perf_counter()
    for _ in range(BATCHES):
        encoder.embed_images(batch)["image"].cpu()
    return BATCHES * BATCH_SIZE / (time.perf_counter() - start)


def memory_growth(images) -> float:
    """Megabytes that the peak grows by between a small and a large gallery, besides the features."""
    recipe = load_recipe(Path(__file__).parents[1] / "recipes/demo.yaml", "data=generated", "output_dir=none")
    processor = build_processor(recipe, images)
    encoder = BDAMEncoder(build_model(recipe, processor), processor)
    peaks, held = [], []
    for size in (SMALL, LARGE):
        features = embed_images(encoder, images.select(range(size)))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        held.append(sum(part.nbytes for part in features.values()) / 2**20)
    return peaks[1] - peaks[0] - (held[1] - held[0])


if __name__ == "__main__":
    main()
