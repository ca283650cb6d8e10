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
        """The recipe stands beside the model; the log holds what was measured."""

    @on_main_process
    def rewind(self, step: int) -> None:
        """Forgets what was logged after `step`, and with it a half-written last line: the run goes on from there."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        aside = self.path.with_name(f"{self.path.name}.partial")
        aside.write_text("".join(kept) if step else "", encoding="utf-8")
        aside.rename(self.path)

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
