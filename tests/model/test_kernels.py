"""The package `kernels`, which `make oldest` has. Where it is missing or does not fit, transformers says so."""

import json

import pytest
import torch
from tiny import tiny_batch, tiny_model
from transformers.utils import is_kernels_available

import mamba_bdam
from mamba_bdam import BDAMSelectiveScan
from modeling_bdam import BDAMModel


SCAN = """
import torch
from torch import nn


class selective_scan_fn(nn.Module):
    def forward(
        self, u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False,
        use_mambapy=False, use_associative_scan=False, **kwargs
    ):
        decay = torch.exp(delta[..., None] * A[:, None])
        update = (delta * u)[..., None] * B.transpose(1, 2)[:, None]
        state, outputs = 0, []
        for t in range(u.shape[2]):
            state = decay[:, :, t] * state + update[:, :, t]
            outputs.append((state * C[:, None, :, t]).sum(-1))
        return torch.stack(outputs, dim=2)
"""
METADATA = {
    "name": "scan",
    "id": "scan",
    "version": 1,
    "license": "Apache-2.0",
    "upstream": "https://example.com",
    "python-depends": [],
    "backend": {"type": "cpu"},
}


@pytest.fixture
def saved(tmp_path):
    """A folder with a model whose fusion scans several steps, and its embeddings."""
    model = tiny_model(fusion_mode="tokens")
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model", embed(model)


@pytest.fixture
def restored(monkeypatch):
    """A kernel that is loaded stays for all models of the process: here, for one test."""
    scan = mamba_bdam.selective_scan_fn
    monkeypatch.setattr(scan, "forward", scan.forward)


@torch.inference_mode()
def embed(model: BDAMModel) -> torch.Tensor:
    return model(**tiny_batch()).image_embeds


def load(folder, repository=None) -> BDAMModel:
    """The model, with the scan of CPU tensors mapped to a kernel; there is none for them on the Hub."""
    if repository is None:
        return BDAMModel.from_pretrained(folder, use_kernels=True)
    from kernels import use_kernel_mapping

    with use_kernel_mapping({"selective_scan_fn": {"cpu": repository}}):
        return BDAMModel.from_pretrained(folder, use_kernels=True)


def test_without_a_gpu_kernels_change_nothing(saved, caplog):
    folder, expected = saved
    if not is_kernels_available():
        with pytest.raises(ValueError, match="install a compatible version"):
            load(folder)
        assert "kernels: not installed" in mamba_bdam.describe_scan()
        return
    assert torch.equal(embed(load(folder)), expected)
    assert "kernels: can take its place" in mamba_bdam.describe_scan()
    assert not caplog.records


if is_kernels_available():
    from huggingface_hub import constants
    from kernels import LayerRepository, LocalLayerRepository

    def test_a_kernel_takes_the_place_of_the_scan(saved, restored, tmp_path, monkeypatch):
        build = tmp_path / "scan" / "build" / "torch-cpu"
        build.mkdir(parents=True)
        (build / "__init__.py").write_text("from . import layers\n")
        (build / "layers.py").write_text(SCAN)
        (build / "metadata.json").write_text(json.dumps(METADATA))
        folder, expected = saved
        model = load(folder, LocalLayerRepository(tmp_path / "scan", layer_name="selective_scan_fn"))
        assert torch.equal(embed(model), expected)  # CPU tensors do not reach it

        choose = mamba_bdam.choose_scan
        assert choose("cuda")[0] == "kernels"
        monkeypatch.setattr(mamba_bdam, "choose_scan", lambda device_type: choose("cuda"))
        monkeypatch.setattr(BDAMSelectiveScan, "apply", None)
        torch.testing.assert_close(embed(model), expected)

    def test_a_kernel_that_cannot_be_loaded_is_left_out(saved, restored, monkeypatch, caplog):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        folder, expected = saved
        repository = LayerRepository("kernels-community/mamba-ssm", layer_name="selective_scan_fn", version=4)
        for _ in range(2):
            assert torch.equal(embed(load(folder, repository)), expected)
        (record,) = caplog.records
        assert "runs without the kernels of the Hub" in record.message
