"""Trackers of training runs: those of accelerate, and a log file of JSON lines."""

import json
from collections.abc import Iterable
from pathlib import Path

from accelerate.tracking import GeneralTracker, get_available_trackers, on_main_process

from bdam.recipes.recipe import Recipe


def check_trackers(names: Iterable[str]) -> None:
    """
    Checks that the trackers are installed; accelerate would continue without them.

    Args:
        names: `report_to` of a recipe.

    Raises:
        ValueError: if a tracker is unknown or not installed.
    """
    available = [str(tracker) for tracker in get_available_trackers()]
    if missing := sorted(set(names) - set(available)):
        raise ValueError(
            f"`report_to` names {', '.join(missing)}, which is not installed (installed: {', '.join(available) or '-'}"
            "): pip install bdam[tracking] brings tensorboard, trackio and wandb."
        )


def hyperparameters(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """The values of a recipe for trackers: nested keys joined by dots, and lists as JSON."""
    return _flatten(recipe.model_dump(mode="json"))


def tracker_options(output_dir: Path, is_resumed: bool) -> dict[str, dict[str, str]]:
    """
    Options of trackers, by tracker: in trackio, runs of one folder are a group, and a run that is resumed goes on.

    Args:
        output_dir: the folder of the run. With the one above it, it names the run: `FOLDER/RUN`.
        is_resumed: whether the run continues from a checkpoint.
    """
    group = output_dir.parent.name
    name, resume = f"{group}/{output_dir.name}", "allow" if is_resumed else "never"
    return {"trackio": {"name": name, "group": group, "resume": resume}}


def _flatten(values: dict, prefix: str = "") -> dict[str, bool | int | float | str]:
    flat: dict[str, bool | int | float | str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat


class JSONLTracker(GeneralTracker):
    """
    A tracker that appends to `log.jsonl` in `directory`.

    A checkpoint has the size of the log, so that a resumed run removes the entries of steps that it repeats.
    """

    name = "jsonl"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, directory: Path):
        super().__init__()
        self.path = directory / "log.jsonl"
        self.size = 0

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict) -> None:
        """Cuts the log to its size at the checkpoint. The recipe is saved next to the model, not here."""
        with self.path.open("ab") as file:
            file.truncate(self.size)

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps({"step": step, **values}).encode() + b"\n")
            self.size = file.tell()

    def state_dict(self) -> dict:
        return {"size": self.size}

    def load_state_dict(self, values: dict) -> None:
        self.size = values["size"]
