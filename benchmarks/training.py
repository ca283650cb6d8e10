"""
Where the time of a training step goes, and what each of the settings that make it faster brings.

    python benchmarks/training.py

Two models, both untrained: that of `recipes/demo.yaml`, and that of `recipes/paper.yaml` (ViT-B/16 and BERT-base) with
batches of 4 images. All that is compared takes turns, so that other load slows all of it; figures are ratios of
medians, of processor time on one core of a CPU.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import DatasetDict

from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import Recipe, load_recipe
from bdam.training.balancing import FixedWeights, GradNorm
from bdam.training.effort import Stopwatch
from bdam.training.loop import Run, build_run
from encoders_bdam import encode_images, encode_texts
from losses_bdam import loss_features


RECIPES = Path(__file__).parents[1] / "recipes"
# The overrides and the number of rounds of each recipe.
MODELS = {
    "demo": ([], 20),
    "paper": (
        ["vision_encoder={model_type: vit}", "text_encoder={model_type: bert}", "persons_per_batch=2"]
        + ["images_per_person=2"],
        5,
    ),
}
TEXTS = ("", "identity_", "clothing_")


def main() -> None:
    torch.set_num_threads(1)
    data = generate_pedestrians(64, 1, 1)
    figures = {name: measure(name, load(name), data, MODELS[name][1]) for name in MODELS}
    print(json.dumps({"benchmark": "training", **figures}))


def load(name: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml", "data=generated", "output_dir=none", *MODELS[name][0])


def measure(name: str, recipe: Recipe, data: DatasetDict, rounds: int) -> dict[str, float]:
    accelerator = Accelerator(cpu=True)
    run = build_run(recipe, accelerator, Stopwatch(accelerator, None), data, keep_checkpoints=0)
    run.model.train()
    inputs = {key: value for key, value in next(iter(run.batches.epoch(0))).items() if key != "image_ids"}
    compared = parts(run, inputs)
    compared |= variants(run, inputs, data, lambda: (compared["images"](), compared["texts"]()))
    seconds = take_turns(compared, rounds)
    step, images, texts, model, update = (seconds[part] for part in ("step", "images", "texts", "model", "update"))
    shares = {
        "images": images / step,
        "texts": texts / step,
        "bdam_and_fusion": (model - images - texts) / step,
        "optimizer": update / step,
        "losses_and_balance": (step - model - update) / step,
        "data": seconds["data"] / step,
    }
    speedups = {
        "eager_over_sdpa": seconds["eager attention"] / (images + texts),
        "contiguous_over_channels_last": seconds["contiguous images"] / seconds["images as they are"],
        "tokenizing_over_padding": seconds["tokenizing"] / seconds["padding"],
        "gradnorm_over_fixed": seconds["GradNorm"] / seconds["fixed weights"],
    }
    print(f"{name}: {1e3 * step:.0f} ms per step of {run.batches.batch_size} images; of that, in percent: ", end="")
    print(", ".join(f"{part} {100 * share:.1f}" for part, share in shares.items()))
    return {key: round(value, 3) for key, value in {**shares, **speedups}.items()}


def parts(run: Run, inputs: Mapping[str, torch.Tensor]) -> dict[str, Callable]:
    """A step, and its parts: forward and backward passes, the update of the weights, and the next batch."""
    model, config = run.model, run.model.config
    loader = chain.from_iterable(map(run.batches.epoch, count()))
    last_epoch = run.recipe.num_epochs - 1  # in which no loss is delayed

    def images() -> None:
        backward(
            encode_images(model.vision_model, inputs["pixel_values"], config.vision_hidden_size).last_hidden_state
        )

    def texts() -> None:
        for prefix in TEXTS:
            ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"]
            backward(encode_texts(model.text_model, ids, attention_mask=mask).last_hidden_state)

    return {
        "step": lambda: run.train_batch(last_epoch, {**inputs, "image_ids": []}),
        "images": images,
        "texts": texts,
        "model": lambda: backward(*floating(loss_features(model(**inputs)))),
        "update": run.optimizer.step,
        "data": lambda: next(loader),
    }


def variants(run: Run, inputs: Mapping[str, torch.Tensor], data: DatasetDict, encode: Callable) -> dict[str, Callable]:
    """What the settings replace, each beside what it became where no part is that. `encode` is both encoders."""
    model, processor = run.model, run.processor
    rows = data["train"].remove_columns("image")[: run.batches.batch_size]
    sentences = [captions[0] for captions in rows["captions"]]
    texts = {
        "text": sentences,
        "identity_text": rows["identity_description"],
        "clothing_text": rows["clothing_description"],
    }
    tokens = {name: processor.tokenize(given) for name, given in texts.items()}
    channels_last = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
    contiguous = inputs["pixel_values"].contiguous()

    attending = [each for each in (model.vision_model, model.text_model) if each.config._attn_implementation == "sdpa"]

    def eager() -> None:
        for encoder in attending:
            encoder.set_attn_implementation("eager")
        encode()
        for encoder in attending:
            encoder.set_attn_implementation("sdpa")

    def balanced(balancer: FixedWeights) -> Callable:
        def step() -> None:
            losses = balancer.select(model(**inputs, return_loss=True).loss_dict, epoch=0)
            balancer(losses, run.shared).backward()

        return step

    weights = load("paper").loss_weights
    return {
        "eager attention": eager,
        "contiguous images": lambda: backward(model.vision_model(contiguous).last_hidden_state),
        "images as they are": lambda: backward(model.vision_model(channels_last).last_hidden_state),
        "tokenizing": lambda: processor(**texts, return_tensors="pt"),
        "padding": lambda: processor.pad(**tokens, return_tensors="pt"),
        "GradNorm": balanced(GradNorm(weights)),
        "fixed weights": balanced(FixedWeights(weights)),
    }


def floating(features: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    return [values for values in features.values() if values.is_floating_point()]


def backward(*outputs: torch.Tensor) -> None:
    torch.stack([output.square().mean() for output in outputs]).sum().backward()


def take_turns(compared: Mapping[str, Callable], rounds: int) -> dict[str, float]:
    """The median processor time of each, in seconds, without the first two rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(rounds + 2):
        for name, run in compared.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times[2:]) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
