"""A tracker that needs no service: one JSON object per line."""

import json
from pathlib import Path

from accelerate.tracking import GeneralTracker, on_main_process


class JSONLTracker(GeneralTracker):
    """Appends what is logged to `log.jsonl` in `directory`."""

    name = "jsonl"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, directory: Path):
        super().__init__()
        self.path = directory / "log.jsonl"

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
