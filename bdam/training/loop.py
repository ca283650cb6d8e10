"""The training loop."""

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import send_to_device, set_seed
from datasets import Dataset, DatasetDict
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from bdam.data.loading import load_training_data
from bdam.data.streaming import StreamedBatches
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.models import save_model
from bdam.evaluation.calibration import Calibration, UncalibratedError
from bdam.evaluation.features import Features, extract_features
from bdam.evaluation.protocols import best_clothing_weight, evaluate, selection_score
from bdam.recipes.recipe import Recipe
from bdam.training.adapters import add_adapters, merge_adapters
from bdam.training.balancing import FixedWeights, GradNorm, build_balancer, shared_parameters
from bdam.training.batches import Batches, build_batches, rows_with_texts, training_rows
from bdam.training.building import build_model, build_processor, parameter_groups
from bdam.training.checkpoints import TrainingState, choose_checkpoint, save_checkpoint
from bdam.training.effort import Stopwatch
from bdam.training.gradient_cache import GradientCache, WholeBatch, check_model
from bdam.training.safety import CollapseWarning, StopSignals, check_finite, check_output_dir
from bdam.training.tracking import JSONLTracker, check_trackers, hyperparameters, tracker_options
from losses_bdam import LABELS, BDAMLossInputs, losses
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


def train(recipe: Recipe, resume: str | None = None, keep_checkpoints: int = 2, cpu: bool = False) -> int:
    """
    Trains a model by a recipe: Adam, cosine decay (§IV-A), the losses balanced by GradNorm (Eq. 5 and 6) or fixed. In
    `recipe.output_dir` it writes `model/` (weights, code, processor and recipe of the best epoch by validation),
    `checkpoints/` to resume from, and `log.jsonl`. SIGTERM and SIGINT end training after the step, with a checkpoint.

    Args:
        recipe: the settings; see [`load_recipe`].
        resume: None (default) for a new run; `"latest"` to resume from the newest checkpoint, or to start if there is
            none; or the folder of a checkpoint.
        keep_checkpoints: the number of checkpoints to keep.
        cpu: whether to train on the CPU even if there is an accelerator; by default not.

    Returns:
        0 if training is complete; the number of the signal if it was stopped.

    Raises:
        ValueError: if the recipe does not fit the data, the model, the number of processes or the checkpoint.
        OSError: if the data does not exist, `output_dir` cannot be written, or it has another run.
        FloatingPointError: if a loss is NaN or infinite.

    Example:

    ```python
    >>> from bdam import load_recipe, train
    >>> places = "data=outputs/demo/pedestrians", "output_dir=outputs/small"
    >>> train(load_recipe("recipes/demo.yaml", *places, "num_epochs=1", "persons_per_batch=8"))
    0
    ```"""
    check_trackers(recipe.report_to)
    tracker = JSONLTracker(Path(recipe.output_dir))
    accelerator = build_accelerator(recipe, tracker, cpu)
    checkpoint = choose_checkpoint(Path(recipe.output_dir), resume, recipe)
    stopwatch = Stopwatch(accelerator, checkpoint)
    set_seed(recipe.seed)
    data = load_training_data(recipe.data, is_streamed=recipe.stream is not None)
    run = build_run(recipe, accelerator, stopwatch, data, keep_checkpoints)
    model = accelerator.unwrap_model(run.model)
    check_output_dir(run.output_dir, _required_bytes(model, recipe, keep_checkpoints))
    if recipe.lora is not None:
        num_parameters, num_trained = model.num_parameters(), model.num_parameters(only_trainable=True)
        share = num_trained / num_parameters
        accelerator.print(f"Trains {num_trained:,} of {num_parameters:,} parameters ({share:.1%}).")
    optional: list[Any] = [] if run.average is None else [run.average]
    if isinstance(run.batches, StreamedBatches):
        optional.append(run.batches)
    accelerator.register_for_checkpointing(run.balancer, run.scheduler, run.state, tracker, *optional)
    set_seed(recipe.seed, device_specific=True)  # dropout differs between processes
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
    options = tracker_options(run.output_dir, is_resumed=checkpoint is not None)
    accelerator.init_trackers("bdam", config=hyperparameters(recipe), init_kwargs=options)
    return run.train(data["validation"])


def build_accelerator(recipe: Recipe, tracker: JSONLTracker, cpu: bool) -> Accelerator:
    """The accelerator of a run, with the precision, the accumulation of gradients and the trackers of its recipe."""
    return Accelerator(
        cpu=cpu,
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with=[*recipe.report_to, tracker],
        project_dir=recipe.output_dir,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )


def build_run(
    recipe: Recipe, accelerator: Accelerator, stopwatch: Stopwatch, data: DatasetDict, keep_checkpoints: int
) -> "Run":
    """A run of a recipe at its first step, which has written nothing."""
    rows = training_rows(recipe, data)
    processor = build_processor(recipe, rows_with_texts(rows, recipe.seed))
    model = build_model(recipe, processor)
    convert_conv2d_weight_memory_format(model.vision_model, torch.channels_last)  # as the images, and the gradients
    if recipe.lora is not None:
        add_adapters(model, recipe.lora)
    if recipe.gradient_cache is not None:
        check_model(model)
    if recipe.torch_compile:
        model.vision_model.compile()
        model.text_model.compile()
    batches = build_batches(recipe, accelerator, rows, processor)
    balancer = build_balancer(recipe).to(accelerator.device)
    shared = shared_parameters(model)
    optimizer = torch.optim.Adam(parameter_groups(model, balancer, recipe), eps=recipe.adam_epsilon, fused=True)
    average = None
    if recipe.ema_decay is not None:
        average = AveragedModel(model, accelerator.device, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
    model, optimizer = accelerator.prepare(model, optimizer)
    steps_per_epoch = math.ceil(len(batches) / recipe.gradient_accumulation_steps)
    num_steps = recipe.num_epochs * steps_per_epoch
    return Run(
        recipe=recipe,
        accelerator=accelerator,
        stopwatch=stopwatch,
        processor=processor,
        model=model,
        average=average,
        batches=batches,
        balancer=balancer,
        shared=shared,
        optimizer=optimizer,
        scheduler=get_cosine_schedule_with_warmup(optimizer, round(recipe.warmup_epochs * steps_per_epoch), num_steps),
        state=TrainingState(num_processes=accelerator.num_processes),
        num_steps=num_steps,
        keep_checkpoints=keep_checkpoints,
        collapse=CollapseWarning(),
    )


def _required_bytes(model: BDAMModel, recipe: Recipe, keep_checkpoints: int) -> int:
    """The size of the saved model and of checkpoints: weights, moments of those that are trained, the average."""
    num_parameters = model.num_parameters()
    num_averaged = 0 if recipe.ema_decay is None else num_parameters
    per_checkpoint = num_parameters + 2 * model.num_parameters(only_trainable=True) + num_averaged
    return 4 * (num_parameters + (keep_checkpoints + 1) * per_checkpoint)


@dataclass
class Run:
    """
    A training run and its progress. `model` and `optimizer` are prepared by accelerate. `average` is the
    moving average of the weights, if the recipe has one.
    """

    recipe: Recipe
    accelerator: Accelerator
    stopwatch: Stopwatch
    processor: BDAMProcessor
    model: BDAMModel
    average: AveragedModel | None
    batches: Batches
    balancer: FixedWeights | GradNorm
    shared: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    state: TrainingState
    num_steps: int
    keep_checkpoints: int
    collapse: CollapseWarning

    @property
    def output_dir(self) -> Path:
        return Path(self.recipe.output_dir)

    def train(self, validation: Dataset) -> int:
        """Trains the remaining epochs; returns the signal that stopped training, or 0."""
        recipe, state = self.recipe, self.state
        progress = tqdm(
            desc="Training",
            total=self.num_steps,
            initial=state.step,
            disable=not self.accelerator.is_local_main_process,
        )
        with StopSignals() as signals:
            for epoch in range(state.epoch, recipe.num_epochs):
                if stopped_by := self.train_epoch(epoch, progress, signals):
                    return stopped_by
                state.epoch, state.batch = epoch + 1, 0
                if state.epoch % recipe.eval_every == 0 or state.epoch == recipe.num_epochs:
                    self.validate(validation)
        self.save_checkpoint()
        if state.best_score > -math.inf:
            self.stopwatch.write(self.output_dir / "model")
        progress.close()
        self.accelerator.end_training()
        return 0

    def train_epoch(self, epoch: int, progress: tqdm, signals: StopSignals) -> int:
        """Trains the remaining batches of an epoch; returns the signal that stopped training, or 0."""
        recipe, state = self.recipe, self.state
        self.model.train()
        for batch in self.batches.epoch(epoch, state.batch):
            features, loss_dict, loss = self.train_batch(epoch, send_to_device(batch, self.accelerator.device))
            state.batch += 1
            if not self.accelerator.sync_gradients:
                continue
            self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.accelerator.unwrap_model(self.model))
            state.step += 1
            progress.update()
            progress.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", best=f"{state.best_score:.1f}")
            if state.step % recipe.log_every == 0:
                self.log(features, loss_dict, loss)
            stopped_by = signals.agreed(self.accelerator)
            if stopped_by or state.step % recipe.checkpoint_every == 0:
                self.save_checkpoint()
            if stopped_by:
                return stopped_by
        return 0

    def train_batch(
        self, epoch: int, batch: dict
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        """One step; returns the features that losses are computed from, the losses, and their balanced sum."""
        accelerator, recipe = self.accelerator, self.recipe
        image_ids = batch.pop("image_ids")
        with accelerator.accumulate(self.model):
            forward_pass = self.forward_pass(batch)
            labels = {name: batch[name] for name in LABELS if name in batch}
            inputs = BDAMLossInputs(**forward_pass.features, **labels)
            loss_dict = losses(inputs, accelerator.unwrap_model(self.model).config)
            loss_dict = self.balancer.select(loss_dict, epoch)
            check_finite(loss_dict, self.state.step, image_ids)
            loss = forward_pass.backward(loss_dict, self.balancer, self.shared)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return forward_pass.features, loss_dict, loss

    def forward_pass(self, batch: dict) -> WholeBatch | GradientCache:
        if self.recipe.gradient_cache is None:
            return WholeBatch(self.accelerator, self.model, batch)
        return GradientCache(self.accelerator, self.model, batch, self.recipe.gradient_cache)

    def log(self, features: dict[str, torch.Tensor], loss_dict: dict[str, torch.Tensor], loss: torch.Tensor) -> None:
        statistics = feature_statistics(features)
        self.collapse.check(statistics["identity_feature_spread"], self.state.step)
        values = {"loss": loss.item(), **{name: value.item() for name, value in loss_dict.items()}}
        rate = {"learning_rate": self.scheduler.get_last_lr()[0]}
        self.accelerator.log({**values, **self.balancer.report(), **statistics, **rate}, step=self.state.step)

    def save_checkpoint(self) -> None:
        self.stopwatch.write(self.output_dir / "checkpoints")
        save_checkpoint(self.accelerator, self.output_dir, self.recipe, self.state.step, self.keep_checkpoints)

    def validate(self, dataset: Dataset) -> None:
        """Scores the model on the validation split, and saves it if its score is the best until now."""
        model, state = self.plain_model(), self.state
        features = extract_features(BDAMEncoder(model, self.processor), dataset, self.recipe.eval_batch_size)
        score, clothing_weight = validation_score(features)
        self.accelerator.log({"validation_score": score, "clothing_weight": clothing_weight}, step=state.step)
        if self.accelerator.is_main_process and score > state.best_score:
            model.config.clothing_weight = clothing_weight
            save_model(self.output_dir / "model", model, self.processor, self.recipe)
            with suppress(UncalibratedError):  # a few persons can select an epoch, but not calibrate
                Calibration.fit(features).save(self.output_dir / "model")
            self.stopwatch.write(self.output_dir / "model")
        state.best_score = max(state.best_score, score)

    def plain_model(self) -> BDAMModel:
        """The model to validate and to save: the average of the weights, if there is one, with merged adapters."""
        model: Any = self.accelerator.unwrap_model(self.model) if self.average is None else self.average.module
        return model if self.recipe.lora is None else merge_adapters(model)


def validation_score(features: Features) -> tuple[float, float]:
    """The score of a validation split that selects the best epoch, and its clothing weight."""
    clothing_weight = best_clothing_weight(features)
    return selection_score(evaluate(features, (0.0, clothing_weight))), clothing_weight


def feature_statistics(features: dict[str, torch.Tensor]) -> dict[str, float]:
    """The standard deviation of identity features over the batch, relative to their size, and means of both gates."""
    identity = features["identity_features"].detach().float()
    spread = identity.std(dim=0).square().mean().sqrt() / identity.square().mean().sqrt()
    statistics = {"identity_feature_spread": spread.item()}
    if "gate" in features:
        statistics["gate_mean"] = features["gate"].float().mean().item()
    if "fusion_weights" in features:
        statistics["image_weight_mean"] = features["fusion_weights"][:, 0].float().mean().item()
    return statistics
