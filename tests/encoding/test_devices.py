import torch

from bdam.encoding.devices import default_device


def test_models_run_on_the_accelerator_where_there_is_one(monkeypatch):
    for accelerator, expected in ((torch.device("cuda"), "cuda"), (None, "cpu")):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available, of=accelerator: of)
        assert default_device() == torch.device(expected)
