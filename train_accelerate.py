"""
Trains BDAM by a recipe, on one device or many:

    accelerate launch train_accelerate.py recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]

RUN then holds `model/` (weights, code, processor and recipe of the best epoch by validation), `checkpoints/` to go on
from, and `log.jsonl`.
"""

import argparse
import math
import sys
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from bdam.data.batches import PersonBatchSampler, TrainingRows
from bdam.data.loading import load_training_data
from bdam.data.pictures import read_column
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.models import save_model
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import best_clothing_weight, evaluate, selection_score
from bdam.recipes.recipe import Recipe, load_recipe
from bdam.training.balancing import build_balancer, shared_parameters
from bdam.training.building import build_collator, build_model, build_processor, check_agreement, parameter_groups
from bdam.training.checkpoints import LATEST, TrainingState, choose_checkpoint, save_checkpoint
from bdam.training.effort import Stopwatch
from bdam.training.safety import CollapseWarning, StopSignals, check_finite, check_output_dir
from bdam.training.tracking import JSONLTracker, check_trackers, hyperparameters


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    try:
        recipe = load_recipe(*arguments.recipe)
        stopped_by = train(recipe, arguments.resume, arguments.keep_checkpoints, arguments.cpu)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    if stopped_by:
        print(f"Stopped by signal {stopped_by}; --resume goes on.")
        raise SystemExit(128 + stopped_by)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Recipes and overrides in their order, and options anywhere among them; what is unknown ends the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "recipe",
        nargs="+",
        help="YAML files and overrides, of which the later win: recipes/demo.yaml learning_rate=5e-5 model.dropout=0",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=LATEST,
        metavar="CHECKPOINT",
        help="go on from a checkpoint, by default the newest in RUN; without any, start",
    )
    parser.add_argument(
        "--keep_checkpoints", type=positive, default=2, metavar="N", help="how many to keep (default 2)"
    )
    parser.add_argument("--cpu", action="store_true", help="train on the CPU even where there is a GPU")
    # What follows a --resume without a checkpoint is a recipe or an override of its own.
    for index, (word, following) in enumerate(pairwise(words)):
        if word == "--resume" and ("=" in following or following.endswith((".yaml", ".yml"))):
            words = [*words[:index], f"--resume={LATEST}", *words[index + 1 :]]
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if options := [word for word in unknown if word.startswith("-")]:
        parser.error(
            f"unknown: {' '.join(options)}. There are --resume [CHECKPOINT], --keep_checkpoints N and --cpu; keys of "
            "the recipe are written without dashes, as in learning_rate=5e-5."
        )
    return arguments


def positive(word: str) -> int:
    """A whole number from 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {word!r}")
    return int(word)


def train(recipe: Recipe, resume: str | None = None, keep_checkpoints: int = 2, cpu: bool = False) -> int:
    """Trains to the end, which returns 0, or until a signal asks to stop, which returns its number."""
    output_dir = Path(recipe.output_dir)
    check_trackers(recipe.report_to)
    tracker = JSONLTracker(output_dir)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with=[*recipe.report_to, tracker],
        project_dir=output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    checkpoint = choose_checkpoint(output_dir, resume, recipe)
    stopwatch = Stopwatch(accelerator, checkpoint)
    set_seed(recipe.seed)
    data = load_training_data(recipe.data)
    check_agreement(recipe, data["train"])
    processor = build_processor(recipe, data["train"])
    model = build_model(recipe, processor)
    # A checkpoint holds the weights and two moments of each.
    check_output_dir(output_dir, (1 + 3 * (keep_checkpoints + 1)) * 4 * model.num_parameters())

    sampler = PersonBatchSampler(
        read_column(data["train"], "person_id"),
        recipe.persons_per_batch,
        recipe.pictures_per_person,
        seed=recipe.seed,
    )
    if sampler.batch_size % accelerator.num_processes:
        raise ValueError(
            f"{accelerator.num_processes} processes cannot share batches of {sampler.batch_size} pictures equally: "
            "change persons_per_batch."
        )
    collator = build_collator(recipe, processor)
    batches = DataLoader(
        TrainingRows(data["train"], processor.image_processor, keep=recipe.keep_in_memory),
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=recipe.num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # else each epoch draws on the random numbers that dropout uses
    )
    balancer = build_balancer(recipe, model).to(accelerator.device)
    shared = shared_parameters(model)
    optimizer = torch.optim.Adam(parameter_groups(model, balancer, recipe.weight_decay), lr=recipe.learning_rate)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    steps_per_epoch = math.ceil(len(batches) / recipe.gradient_accumulation_steps)
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, round(recipe.warmup_epochs * steps_per_epoch), recipe.num_epochs * steps_per_epoch
    )
    state = TrainingState(num_processes=accelerator.num_processes)
    accelerator.register_for_checkpointing(balancer, scheduler, state, tracker)
    set_seed(recipe.seed, device_specific=True)  # each process drops out its own features
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
    accelerator.init_trackers("bdam", config=hyperparameters(recipe))

    collapse = CollapseWarning()
    progress = tqdm(
        desc="Training",
        total=recipe.num_epochs * steps_per_epoch,
        initial=state.step,
        disable=not accelerator.is_local_main_process,
    )
    with StopSignals() as signals:
        for epoch in range(state.epoch, recipe.num_epochs):
            sampler.set_epoch(epoch)
            model.train()
            for batch in accelerator.skip_first_batches(batches, state.batch):
                image_ids = batch.pop("image_ids")
                with accelerator.accumulate(model):
                    outputs = model(**batch, return_loss=True)
                    losses = {name: outputs[name] for name, _ in recipe.loss_weights if name in outputs}
                    if epoch < recipe.decoupling_after and "decoupling_loss" in losses:
                        losses["decoupling_loss"] = 0 * losses["decoupling_loss"]
                    check_finite(losses, state.step, image_ids)
                    loss_scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
                    loss = balancer(losses, shared, loss_scale)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                state.batch += 1
                if not accelerator.sync_gradients:
                    continue
                scheduler.step()
                state.step += 1
                progress.update()
                progress.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", best=f"{state.best_score:.1f}")
                if state.step % recipe.log_every == 0:
                    statistics = feature_statistics(outputs)
                    collapse.check(statistics["identity_feature_spread"], state.step)
                    values = {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
                    rate = {"learning_rate": scheduler.get_last_lr()[0]}
                    accelerator.log({**values, **balancer.report(), **statistics, **rate}, step=state.step)
                stopped_by = signals.agreed(accelerator)
                if stopped_by or state.step % recipe.checkpoint_every == 0:
                    stopwatch.write(output_dir / "checkpoints")
                    save_checkpoint(accelerator, output_dir, recipe, state.step, keep_checkpoints)
                if stopped_by:
                    return stopped_by
            state.epoch, state.batch = epoch + 1, 0

            if state.epoch % recipe.eval_every == 0 or state.epoch == recipe.num_epochs:
                unwrapped = accelerator.unwrap_model(model)
                score, clothing_weight = validate(unwrapped, processor, data["validation"], recipe.eval_batch_size)
                accelerator.log({"validation_score": score, "clothing_weight": clothing_weight}, step=state.step)
                if accelerator.is_main_process and score > state.best_score:
                    unwrapped.config.clothing_weight = clothing_weight
                    save_model(output_dir / "model", unwrapped, processor, recipe)
                    stopwatch.write(output_dir / "model")
                state.best_score = max(state.best_score, score)
    stopwatch.write(output_dir / "checkpoints")
    save_checkpoint(accelerator, output_dir, recipe, state.step, keep_checkpoints)
    if state.best_score > -math.inf:
        stopwatch.write(output_dir / "model")
    progress.close()
    accelerator.end_training()
    return 0


def validate(model, processor, dataset, batch_size: int) -> tuple[float, float]:
    """The score that picks the best epoch, and the clothing weight that it was reached with."""
    features = extract_features(BDAMEncoder(model, processor), dataset, batch_size)
    clothing_weight = best_clothing_weight(features)
    return selection_score(evaluate(features, (0.0, clothing_weight))), clothing_weight


def feature_statistics(outputs) -> dict[str, float]:
    """Spread of the identity features over the batch, relative to their size, and the means of both gates."""
    picture = outputs.picture_output
    features = picture.identity_features.detach().float()
    spread = features.std(dim=0).square().mean().sqrt() / features.square().mean().sqrt()
    statistics = {"identity_feature_spread": spread.item()}
    if picture.gate is not None:
        statistics["gate_mean"] = picture.gate.float().mean().item()
    if outputs.fusion_weights is not None:
        statistics["image_weight_mean"] = outputs.fusion_weights[:, 0].float().mean().item()
    return statistics


if __name__ == "__main__":
    main()
