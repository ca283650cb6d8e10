"""
Trains BDAM by a recipe, on one device or many:

    accelerate launch train_accelerate.py recipes/demo.yaml data=DATA output_dir=RUN [key=value …]

RUN then holds `model/` (weights, code, processor and recipe of the best epoch by validation) and `log.jsonl`.
"""

import argparse
import math
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from bdam.data.batches import PersonBatchSampler, TrainingCollator, TrainingRows
from bdam.data.loading import load_data
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import best_clothing_weight, evaluate, selection_score
from bdam.training.building import build_model, build_processor
from bdam.training.checkpoints import save_model
from bdam.training.recipes import Recipe, load_recipe
from bdam.training.tracking import JSONLTracker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "recipe",
        nargs="+",
        help="YAML files and overrides, of which the later win: recipes/demo.yaml learning_rate=5e-5 model.dropout=0",
    )
    arguments = parser.parse_args()
    try:
        train(load_recipe(*arguments.recipe))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def train(recipe: Recipe) -> None:
    output_dir = Path(recipe.output_dir)
    accelerator = Accelerator(
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with=[*recipe.report_to, JSONLTracker(output_dir)],
        project_dir=output_dir,
    )
    set_seed(recipe.seed)
    data = load_data(recipe.data)
    processor = build_processor(recipe, data["train"])
    model = build_model(recipe, processor)

    sampler = PersonBatchSampler(
        data["train"]["person_id"], recipe.persons_per_batch, recipe.pictures_per_person, seed=recipe.seed
    )
    collator = TrainingCollator(
        processor, recipe.description_dropout, recipe.identity_query, recipe.caption_alignment, recipe.augment
    )
    batches = DataLoader(
        TrainingRows(data["train"], processor.image_processor, keep=recipe.keep_in_memory),
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=recipe.num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    steps_per_epoch = math.ceil(len(batches) / recipe.gradient_accumulation_steps)
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, round(recipe.warmup_epochs * steps_per_epoch), recipe.num_epochs * steps_per_epoch
    )
    accelerator.init_trackers("bdam", config=recipe.model_dump(mode="json"))

    best_score = -math.inf
    progress = tqdm(
        total=recipe.num_epochs * len(batches), desc="Training", disable=not accelerator.is_local_main_process
    )
    for epoch in range(recipe.num_epochs):
        sampler.set_epoch(epoch)
        model.train()
        for batch in batches:
            with accelerator.accumulate(model):
                outputs = model(**batch, return_loss=True)
                losses = {name: outputs[name] for name in type(recipe.loss_weights).model_fields if name in outputs}
                loss = sum(getattr(recipe.loss_weights, name) * value for name, value in losses.items())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                optimizer.step()
                if accelerator.sync_gradients:
                    scheduler.step()
                optimizer.zero_grad()
            progress.update()
            progress.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", best=f"{best_score:.1f}")
        accelerator.log(
            {
                **{name: value.item() for name, value in losses.items()},
                "loss": loss.item(),
                "learning_rate": scheduler.get_last_lr()[0],
                **feature_statistics(outputs),
            },
            step=progress.n,
        )

        if (epoch + 1) % recipe.eval_every == 0 or epoch + 1 == recipe.num_epochs:
            unwrapped = accelerator.unwrap_model(model)
            features = extract_features(unwrapped, processor, data["validation"], recipe.eval_batch_size)
            clothing_weight = best_clothing_weight(features)
            score = selection_score(evaluate(features, (0.0, clothing_weight)))
            accelerator.log({"validation_score": score, "clothing_weight": clothing_weight}, step=progress.n)
            if accelerator.is_main_process and score > best_score:
                unwrapped.config.clothing_weight = clothing_weight
                save_model(output_dir / "model", unwrapped, processor, recipe)
            best_score = max(best_score, score)
    progress.close()
    accelerator.end_training()


def feature_statistics(outputs) -> dict[str, float]:
    """Spread of the identity features over the batch, and mean gate: a spread near zero means collapse."""
    picture = outputs.picture_output
    statistics = {"identity_feature_std": picture.identity_features.float().std(dim=0).mean().item()}
    if picture.gate is not None:
        statistics["gate_mean"] = picture.gate.float().mean().item()
    if outputs.fusion_weights is not None:
        statistics["image_weight_mean"] = outputs.fusion_weights[:, 0].float().mean().item()
    return statistics


if __name__ == "__main__":
    main()
