"""A tracker that needs no service: one JSON object per line."""

import json
from pathlib import Path

from accelerate.tracking import GeneralTracker, on_main_process


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
