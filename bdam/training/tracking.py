"""Trackers: accelerate's by name, and one that needs no service, one JSON object per line."""

import json
from collections.abc import Iterable
from pathlib import Path

from accelerate.tracking import GeneralTracker, get_available_trackers, on_main_process

from bdam.recipes.recipe import Recipe


def check_trackers(names: Iterable[str]) -> None:
    """
    Raises:
        ValueError: if a tracker is unknown or not installed; accelerate would go on without it.
    """
    available = [str(tracker) for tracker in get_available_trackers()]
    if missing := sorted(set(names) - set(available)):
        raise ValueError(
            f"`report_to` names {', '.join(missing)}, which is not installed (installed: {', '.join(available) or '-'}"
            "): pip install bdam[tracking] brings tensorboard, trackio and wandb."
        )


def hyperparameters(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """The recipe as trackers take it: flat, nested keys dotted, lists as text."""
    return _flatten(recipe.model_dump(mode="json"))


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
    Appends what is logged to `log.jsonl` in `directory`.

    A checkpoint remembers how long the log was, so that a resumed run forgets what the lost steps had logged.
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
        """The recipe stands beside the model; here the log is cut to where the run stands."""
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
