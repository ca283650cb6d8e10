"""Training with compiled encoders."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY_RUN, TINY_VIT

from bdam.data.pedestrians import generate_pedestrians
from bdam.recipes.recipe import load_recipe
from bdam.training.loop import train


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within PyTorch's compiler
def test_compiled_encoders_train_to_the_same_weights(tmp_path):
    demo = Path(__file__).parents[2] / "recipes/demo.yaml"
    generate_pedestrians(8, 4, 4, image_size=(32, 16)).save_to_disk(tmp_path / "data")
    weights = {}
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        overrides = [f"data={tmp_path / 'data'}", f"output_dir={folder}", f"torch_compile={compiled}", "num_epochs=1"]
        assert train(load_recipe(demo, *TINY_RUN, TINY_VIT, *overrides)) == 0
        weights[compiled] = load_file(folder / "model/model.safetensors")
    assert weights["true"].keys() == weights["false"].keys()
    for name, value in weights["false"].items():
        torch.testing.assert_close(weights["true"][name], value, rtol=1e-3, atol=1e-4)
