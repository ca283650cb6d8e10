"""Checkpoints of a training run, from which it resumes with identical results."""

import math
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from bdam.recipes.recipe import RECIPE, Recipe, changed_keys, write_recipe


LATEST = "latest"


@dataclass
class TrainingState:
    """
    The progress of a run; accelerate saves the model, the optimizer and the random number generators.

    Args:
        step: finished optimization steps.
        epoch: finished epochs.
        batch: finished batches of the current epoch.
        best_score: the best validation score so far.
        num_processes: the number of processes that share each batch.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_score: float = -math.inf
    num_processes: int = 1

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, values: dict) -> None:
        if values["num_processes"] != self.num_processes:
            raise ValueError(
                f"The checkpoint was written by {values['num_processes']} processes, this run has "
                f"{self.num_processes}: resume with the same number."
            )
        self.__dict__.update(values)


def save_checkpoint(accelerator: Accelerator, output_dir: Path, recipe: Recipe, step: int, keep: int) -> None:
    """Writes `checkpoints/step_{step}`, completely or not at all, and deletes all but the `keep` newest."""
    directory = _step_directory(output_dir, step)
    aside = directory.with_name(f"{directory.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(aside))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_recipe(aside, recipe)
        shutil.rmtree(directory, ignore_errors=True)
        aside.rename(directory)
        for old in find_checkpoints(output_dir)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def find_checkpoints(output_dir: Path) -> list[Path]:
    """The folders of the complete checkpoints of a run, oldest first."""
    folders = [path for path in output_dir.glob("checkpoints/step_*") if re.fullmatch("step_[0-9]+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step_")))


def choose_checkpoint(output_dir: Path, resume: str | None, recipe: Recipe) -> Path | None:
    """
    The checkpoint to resume from; None for a new run.

    Args:
        output_dir: the folder of the run.
        resume: None for a new run; `"latest"` for the newest checkpoint, if any; or the folder of a checkpoint.
        recipe: the recipe of the run.

    Raises:
        FileExistsError: if a new run would have checkpoints of an earlier one in its folder.
        FileNotFoundError: if the given checkpoint does not exist.
        ValueError: if the checkpoint is of another recipe.
    """
    found = find_checkpoints(output_dir)
    if resume is None:
        if found:
            raise FileExistsError(
                f"{found[-1].parent} has checkpoints of an earlier run: continue it with --resume, or choose another "
                "output_dir."
            )
        return None
    checkpoint = (found[-1] if found else None) if resume == LATEST else Path(resume)
    if checkpoint is not None:
        _check_recipe(checkpoint, recipe)
    return checkpoint


def _check_recipe(checkpoint: Path, recipe: Recipe) -> None:
    if not (checkpoint / RECIPE).is_file():
        raise FileNotFoundError(f"{checkpoint} is no checkpoint: there is no {RECIPE}.")
    if changed := changed_keys(checkpoint, recipe):
        differences = "; ".join(f"`{key}` was {then}, is {now}" for key, (then, now) in changed.items())
        raise ValueError(f"{checkpoint} was written by another recipe: {differences}.")


def _step_directory(output_dir: Path, step: int) -> Path:
    return output_dir / "checkpoints" / f"step_{step:08d}"
