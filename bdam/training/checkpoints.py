"""Checkpoints of a run: what was stopped goes on, to the same bits as if it never had been."""

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
    Where a run stands, beside what accelerate keeps of model, optimizer and random number generators.

    Args:
        step: optimization steps done.
        epoch: epochs done.
        batch: batches done of the epoch that runs.
        best_score: the best validation score so far.
        num_processes: how many processes share each batch.
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
                f"{self.num_processes}: resume with as many."
            )
        self.__dict__.update(values)


def save_checkpoint(accelerator: Accelerator, output_dir: Path, recipe: Recipe, step: int, keep: int) -> None:
    """Writes `checkpoints/step_{step}` aside, renames it once it is whole, and drops all but the `keep` newest."""
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
    """The whole checkpoints of a run, oldest first; half-written ones have another name."""
    folders = [path for path in output_dir.glob("checkpoints/step_*") if re.fullmatch("step_[0-9]+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step_")))


def choose_checkpoint(output_dir: Path, resume: str | None, recipe: Recipe) -> Path | None:
    """
    The checkpoint to go on from: none for a new run, the newest one if there is one for `"latest"`, or the given one.

    Raises:
        FileExistsError: if a new run would mix its checkpoints with those of an earlier one.
        FileNotFoundError: if the given checkpoint is not there.
        ValueError: if another recipe wrote it.
    """
    found = find_checkpoints(output_dir)
    if resume is None:
        if found:
            raise FileExistsError(
                f"{found[-1].parent} holds checkpoints of an earlier run: go on with --resume, or choose another "
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
