"""The default device of models."""

import torch


def default_device() -> torch.device:
    """The accelerator of this process, if there is one; otherwise the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
