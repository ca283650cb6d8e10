"""Uses every public name of `bdam`. mypy checks this file with all its strict flags (see pyproject.toml)."""

from pathlib import Path

import torch
from torch import Tensor

import bdam


def build_model() -> bdam.BDAMModel:
    return bdam.BDAMModel(bdam.BDAMConfig(num_branch_layers=3))


def load_processor() -> bdam.BDAMProcessor:
    return bdam.BDAMProcessor.from_pretrained("outputs/demo/model")


def search(model: bdam.Embedder, sentence: str) -> list[float]:
    gallery: bdam.Gallery = bdam.Gallery.from_images(model, Path("images"))
    return [hit.score for hit in gallery.search(sentence, clothing_weight=0.3, k=5)]


def rank(model: bdam.Embedder) -> float:
    queries: Tensor = model(["A man.", "A woman."])
    return bdam.retrieval_metrics(queries, queries, torch.tensor([0, 1]), torch.tensor([0, 1]))["r1"]


def train() -> int:
    num_rows: int = bdam.load_data("outputs/demo/pedestrians")["train"].num_rows
    recipe = bdam.load_recipe("recipes/demo.yaml", "data=DATA", "output_dir=RUN")
    return bdam.train(recipe, resume="latest") if num_rows else 0


describe = bdam.describe
version: str = bdam.__version__
