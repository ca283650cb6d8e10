"""Low-rank adapters (LoRA, Hu et al. 2022) of the encoders, by peft."""

import copy

from torch import nn
from transformers import PreTrainedModel

from bdam.recipes.recipe import LoRA
from modeling_bdam import BDAMModel


def add_adapters(model: BDAMModel, lora: LoRA) -> None:
    """
    Adds adapters to all linear layers of both encoders, and freezes all else of the encoders. The output of the model
    stays the same until the adapters are trained.

    Args:
        model: the model, which is changed.
        lora: the rank, scale and dropout of the adapters.

    Raises:
        ValueError: if peft is not installed, or an encoder has no linear layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("`lora` needs peft: pip install bdam[lora]") from error
    for encoder in (model.vision_model, model.text_model):
        names = _linear_layers(encoder)
        if not names:
            raise ValueError(f"`lora` needs linear layers: {encoder.config.model_type!r} has none.")
        config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names)
        inject_adapter_in_model(config, encoder)


def merge_adapters(model: BDAMModel) -> BDAMModel:
    """A copy of the model without adapters: its weights are those of the model plus their adapters."""
    from peft.tuners.lora import LoraLayer

    merged = copy.deepcopy(model)
    for name, layer in list(merged.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            merged.set_submodule(name, layer.get_base_layer())
    return merged


def _linear_layers(encoder: PreTrainedModel) -> list[str]:
    """
    The names of the linear layers that are trained. That of `nn.MultiheadAttention`, as in the head of SigLIP, is left
    out: the attention reads its weight without calling it, so that an adapter of it would get no gradient.
    """
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and not isinstance(encoder.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention)
    ]
