"""Models on disk, whole or not at all."""

import shutil
from pathlib import Path


def save_model(directory: Path, model, processor) -> None:
    """Writes weights, code and processor beside `directory`, then swaps them in, so that no half-written model is left."""
    aside = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)
