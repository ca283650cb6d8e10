"""
The first steps of fine-tuning a pretrained dual encoder: BDAM that starts as it, BDAM of its two halves, and the dual
encoder alone.

    python benchmarks/dual_start.py DATA FOLDER

DATA is what `bdam data pedestrians` writes. No pretrained weights are at hand, so a CLIP is first trained on it from
scratch, by its own loss, for some minutes, and saved in FOLDER as transformers saves it. Each start is then fine-tuned
by `recipes/clip.yaml`. R-1 is that of captions on images alone, without clothing, on the split `test`. FOLDER gets
`dual_start.png`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from tqdm.auto import trange
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, get_cosine_schedule_with_warmup

from bdam.data.images import read_column
from bdam.data.loading import load_training_data
from bdam.encoding.encoders import BDAMEncoder
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import score
from bdam.recipes.recipe import load_recipe
from bdam.training.building import learn_tokenizer
from bdam.training.effort import Stopwatch
from bdam.training.loop import Run, build_run


PRETRAINING_STEPS = 2000
STEPS, EVERY = 50, 5
IMAGE_SIZE = 96
ENCODER = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
# The overrides of `recipes/clip.yaml`; `{dual}` is the folder of the dual encoder.
COMMON = [f"image_size=[{IMAGE_SIZE}, {IMAGE_SIZE}]", "num_workers=0", "warmup_epochs=0.05"]
COMMON += ["model.num_branch_heads=4", "model.branch_intermediate_size=256", "model.fusion_hidden_size=64"]
STARTS = {
    "BDAM that starts as the dual encoder": ["dual_encoder={dual}"],
    "BDAM of its halves": [
        "dual_encoder=null",
        "vision_encoder={dual}",
        "text_encoder={dual}",
        "model.text_pooling=mean",
    ],
    "the dual encoder alone": ["dual_encoder={dual}", "model.use_bdam=false", "model.use_fusion=false"],
}


def main() -> None:
    data, folder = load_training_data(sys.argv[1]), Path(sys.argv[2])
    dual = folder / "dual"
    if not (dual / "config.json").exists():
        pretrain(data["train"], dual)
    curves = {name: dict(fine_tune(name, dual, data)) for name in STARTS}
    for name, curve in curves.items():
        plt.plot(list(curve), list(curve.values()), label=name, marker=".")
        print(f"{name}: " + ", ".join(f"{step}: {r1:.1f}" for step, r1 in curve.items()))
    plt.xlabel("steps of fine-tuning")
    plt.ylabel("R-1 by caption, images alone")
    plt.ylim(bottom=0)
    plt.legend()
    plt.savefig(folder / "dual_start.png", dpi=120, bbox_inches="tight")
    print(json.dumps({"benchmark": "dual_start", **{name: [*curve.values()] for name, curve in curves.items()}}))


def pretrain(train: Dataset, folder: Path) -> None:
    """Trains a CLIP from scratch on pairs of an image and a caption, and saves it with its processor."""
    captions = read_column(train, "captions")
    tokenizer = learn_tokenizer((text for texts in captions for text in texts), max_length=77)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = CLIPProcessor(CLIPImageProcessorPil(size=size, do_center_crop=False), tokenizer)
    text = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.sep_token_id, "max_position_embeddings": 77}
    config = CLIPConfig(
        vision_config={**ENCODER, "image_size": IMAGE_SIZE, "patch_size": 12},
        text_config={**ENCODER, **text},
        projection_dim=128,
    )
    set_seed(0)
    model = CLIPModel(config).train()

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        texts = [row["captions"][torch.randint(len(row["captions"]), ()).item()] for row in rows]
        images = [row["image"] for row in rows]
        return processor(text=texts, images=images, padding=True, truncation=True, return_tensors="pt")

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, PRETRAINING_STEPS // 20, PRETRAINING_STEPS)
    batches = endless(DataLoader(train, batch_size=64, shuffle=True, collate_fn=collate, num_workers=1))
    for _ in trange(PRETRAINING_STEPS, desc="Pretraining"):
        loss = model(**next(batches), return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


def endless(loader: DataLoader) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from loader


def fine_tune(name: str, dual: Path, data: DatasetDict) -> Iterator[tuple[int, float]]:
    """The steps, and R-1 after them."""
    overrides = [override.format(dual=dual) for override in STARTS[name]]
    recipe = load_recipe("recipes/clip.yaml", "data=DATA", "output_dir=none", *COMMON, *overrides)
    accelerator = Accelerator(cpu=True)
    set_seed(recipe.seed)
    run = build_run(recipe, accelerator, Stopwatch(accelerator, None), data, keep_checkpoints=0)
    batches = iter(run.batches.epoch(0))
    for step in trange(STEPS + 1, desc=name):
        if step % EVERY == 0:
            yield step, r1(run, data["test"])
        run.model.train()
        run.train_batch(0, next(batches))
        run.scheduler.step()


def r1(run: Run, test: Dataset) -> float:
    run.model.eval()
    features = extract_features(BDAMEncoder(run.model, run.processor), test)
    return score(features, "standard", "image", "caption", clothing_weight=0.0).r1


if __name__ == "__main__":
    main()
