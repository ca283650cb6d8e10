"""
Which encoders of transformers a BDAM takes: each one, tiny and with random weights, through what is done with it.

    python benchmarks/encoders.py [NAME ...] [--no-onnx]

| column | what must work |
|---|---|
| trains | the losses of a model, and a gradient for every parameter that asks for one |
| pooled | the same with the encoder's own pooled vector, as in a start as a dual encoder |
| reloads | the model saved, and read again by the code that was saved with it, gives the same embeddings |
| 96 x 64 | images of another shape than the encoder's own |
| ONNX | the image encoder exported, run by ONNX Runtime on another number of images, gives the same tokens |

No family is named but in the tables below, which only make it small. What is refused has its reason in the table.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import logging

from bdam.encoding.onnx import open_onnx, run_onnx, write_onnx
from configuration_bdam import BDAMConfig
from encoders_bdam import encode_images
from modeling_bdam import BDAMModel


BATCH_SIZE, LENGTH, VOCABULARY = 4, 12, 120
OTHER_SIZE = (96, 64)
ATTENTION = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {**ATTENTION, "image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 64}
RESNET = {**STAGES, "embedding_size": 8}
PYRAMID = {**STAGES, "num_attention_heads": [1, 1, 2, 2]}
EFFICIENTNET = {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320}
SWIN = {"image_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
WORDS = {**ATTENTION, "vocab_size": VOCABULARY, "max_position_embeddings": 40, "pad_token_id": 0}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}
XLM = {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 40}
DECODER = {**WORDS, "num_key_value_heads": 1, "head_dim": 16}
CLIP_TEXT = {**WORDS, "eos_token_id": VOCABULARY - 1}

IMAGE_ENCODERS = {
    "vit": VIT,
    "deit": VIT,
    "beit": VIT,
    "data2vec-vision": VIT,
    "vit_msn": VIT,
    "vit_mae": VIT,
    "ijepa": VIT,
    "dinov2": VIT,
    "dinov2_with_registers": VIT,
    "dinov3_vit": {**VIT, "num_register_tokens": 4},
    "vitdet": {**VIT, "pretrain_image_size": 64},
    "internvl_vision": {**VIT, "image_size": [64, 64], "patch_size": [16, 16]},
    "clip_vision_model": VIT,
    "clipseg_vision_model": VIT,
    "metaclip_2_vision_model": VIT,
    "chinese_clip_vision_model": VIT,
    "altclip_vision_model": VIT,
    "siglip_vision_model": VIT,
    "siglip2_vision_model": {**VIT, "num_patches": 16},
    "aimv2_vision_model": VIT,
    "tipsv2_vision_model": VIT,
    "mlcd_vision_model": VIT,
    "blip_vision_model": VIT,
    "git_vision_model": VIT,
    "owlvit_vision_model": VIT,
    "instructblip_vision_model": VIT,
    "align_vision_model": EFFICIENTNET,
    "efficientnet": EFFICIENTNET,
    "convnext": STAGES,
    "convnextv2": STAGES,
    "dinov3_convnext": STAGES,
    "resnet": RESNET,
    "regnet": {**RESNET, "groups_width": 8},
    "bit": {**RESNET, "num_groups": 4},
    "mobilenet_v1": {"image_size": 64, "depth_multiplier": 0.25},
    "mobilenet_v2": {"image_size": 64, "depth_multiplier": 0.25},
    "mobilevit": {"image_size": 64, "hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32]},
    "mobilevitv2": {"image_size": 64, "base_attn_unit_dims": [16, 16, 16], "n_attn_blocks": [1, 1, 1]},
    "poolformer": {**STAGES, "num_encoder_blocks": 4},
    "swiftformer": {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]},
    "focalnet": {"image_size": 64, "embed_dim": 8, "hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 1, 1]},
    "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 1, 2], "depth": [1, 2, 3]},
    "swin": SWIN,
    "swinv2": SWIN,
    "donut-swin": SWIN,
    "hiera": {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1]},
    "pvt": PYRAMID,
    "pvt_v2": {**PYRAMID, "image_size": [64, 64]},
    "segformer": PYRAMID,
    "glpn": PYRAMID,
    "levit": {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 1, 2], "depths": [1, 1, 1]},
    "timm_wrapper (resnet)": {"architecture": "resnet10t"},
    "timm_wrapper (vit)": {"architecture": "vit_tiny_patch16_224"},
    "timm_wrapper (swin)": {"architecture": "swin_tiny_patch4_window7_224"},
}
TEXT_ENCODERS = {
    "bert": WORDS,
    "roberta": WORDS,
    "xlm-roberta": WORDS,
    "xlm-roberta-xl": WORDS,
    "camembert": WORDS,
    "xmod": {**WORDS, "languages": ["en_XX"], "default_language": "en_XX"},
    "data2vec-text": WORDS,
    "mpnet": WORDS,
    "albert": {**WORDS, "embedding_size": 8},
    "distilbert": {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": {**WORDS, "embedding_size": 8},
    "convbert": {**WORDS, "embedding_size": 32},
    "ernie": WORDS,
    "roformer": {**WORDS, "embedding_size": 32},
    "rembert": {**WORDS, "input_embedding_size": 8},
    "megatron-bert": WORDS,
    "mobilebert": {**WORDS, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "squeezebert": {**WORDS, "embedding_size": 32},
    "deberta": WORDS,
    "deberta-v2": WORDS,
    "modernbert": WORDS,
    "eurobert": DECODER,
    "nomic_bert": {**WORDS, "head_dim": 16},
    "jina_embeddings_v3": WORDS,
    "fnet": WORDS,
    "nystromformer": {**WORDS, "num_landmarks": 4, "segment_means_seq_len": 4},
    "longformer": {**WORDS, "attention_window": 8},
    "big_bird": {**WORDS, "attention_type": "original_full"},
    "funnel": {"vocab_size": VOCABULARY, "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 32, "block_sizes": [1]},
    "flaubert": XLM,
    "xlm": XLM,
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
    "clip_text_model": CLIP_TEXT,
    "clipseg_text_model": CLIP_TEXT,
    "metaclip_2_text_model": CLIP_TEXT,
    "siglip_text_model": {**WORDS, "projection_size": 32},
    "siglip2_text_model": {**WORDS, "projection_size": 32},
    "chinese_clip_text_model": WORDS,
    "altclip_text_model": {**WORDS, "project_dim": 24},
    "aimv2_text_model": CLIP_TEXT,
    "tipsv2_text_model": WORDS,
    "blip_text_model": {**WORDS, "encoder_hidden_size": 32},
    "align_text_model": WORDS,
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 40},
    "qwen3": DECODER,
}


@dataclass
class Row:
    """What works with one encoder: "yes", or the reason why not; None where it does not apply."""

    encoder: str
    trains: str
    pooled: str | None = None
    reloads: str | None = None
    other_size: str | None = None
    onnx: str | None = None

    @property
    def works(self) -> bool:
        """Whether a model with it can be trained and used."""
        return self.trains == self.reloads == "yes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="The encoders to try; by default all.")
    parser.add_argument("--no-onnx", action="store_true", help="Leave out the exports, which take most of the time.")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    figures: dict = {"benchmark": "encoders"}
    for kind, encoders in (("image", IMAGE_ENCODERS), ("text", TEXT_ENCODERS)):
        names = [name for name in encoders if not arguments.names or name.split()[0] in arguments.names]
        print(f"\n| {kind} encoder | trains | pooled | reloads |", "96 x 64 | ONNX |" if kind == "image" else "")
        print(f"|---|---|---|---|{'---|---|' if kind == 'image' else ''}")
        rows = []
        for name in names:
            rows.append(try_encoder(name, kind, encoders[name], with_onnx=not arguments.no_onnx))
            cells = [cell for cell in asdict(rows[-1]).values() if cell is not None]
            print(f"| {' | '.join(cells)} |", flush=True)
        figures[f"{kind}_encoders"] = len(rows)
        figures[f"{kind}_encoders_that_work"] = sum(row.works for row in rows)
    print(json.dumps(figures))


def try_encoder(name: str, kind: str, values: dict, with_onnx: bool) -> Row:
    """Puts one encoder to every test, beside a ViT or a BERT."""
    model_type = name.split()[0]
    if model_type == "timm_wrapper" and importlib.util.find_spec("timm") is None:
        return Row(name, "timm is not installed")
    own = {"model_type": model_type, **values}
    encoders = {
        "vision_config": own if kind == "image" else {"model_type": "vit", **VIT},
        "text_config": own if kind == "text" else {"model_type": "bert", **WORDS},
    }
    torch.manual_seed(0)
    row = Row(name, attempt(lambda: train(build(encoders))))
    if row.trains != "yes":
        return row
    uses_pooled = {"use_pooled_image": True} if kind == "image" else {"text_pooling": "pooler"}
    model = build(encoders).eval()
    row.pooled = attempt(lambda: train(build(encoders, **uses_pooled)))
    row.reloads = attempt(lambda: reload(model))
    if kind == "image":
        row.other_size = attempt(lambda: check_finite(model(pixel_values=torch.randn(2, 3, *OTHER_SIZE)).image_embeds))
        row.onnx = attempt(lambda: export(model)) if with_onnx else "not tried"
    return row


def attempt(step: Callable[[], None]) -> str:
    try:
        step()
    except Exception as error:  # whatever an encoder or an exporter raises, which is what the table tells
        reason = (str(error).strip() or type(error).__name__).splitlines()
        return " ".join(reason[-1 if len(reason) > 1 and not reason[0].strip() else 0].replace("|", "/").split())[:100]
    return "yes"


def build(encoders: dict, **changes) -> BDAMModel:
    config = BDAMConfig(
        **encoders,
        num_branch_layers=1,
        num_branch_heads=1,
        branch_intermediate_size=32,
        fusion_hidden_size=8,
        num_mamba_layers=1,
        projection_dim=16,
        **{"text_pooling": "mean", **changes},
    )
    return BDAMModel(config)


def make_batch(image_size: tuple[int, int]) -> dict[str, torch.Tensor]:
    texts = ("input_ids", "identity_input_ids", "clothing_input_ids", "clothing_query_input_ids")
    batch = {name: torch.randint(5, VOCABULARY, (BATCH_SIZE, LENGTH)) for name in texts}
    for input_ids in batch.values():
        input_ids[:, 0] = 1  # All texts begin alike, as with [CLS].
    batch["pixel_values"] = torch.randn(BATCH_SIZE, 3, *image_size)
    return {**batch, "person_ids": torch.arange(BATCH_SIZE) // 2}


def image_size_of(model: BDAMModel) -> tuple[int, int]:
    size = getattr(model.config.vision_config, "image_size", None) or 64
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def train(model: BDAMModel) -> None:
    outputs = model.train()(**make_batch(image_size_of(model)), return_loss=True)
    sum(outputs.loss_dict.values()).backward()
    check_finite(outputs.loss)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        raise ValueError(f"{len(without)} parameters without gradient, such as {without[0]}")
    with torch.no_grad():
        text_embeds = model.eval()(input_ids=make_batch(image_size_of(model))["input_ids"]).text_embeds
    if torch.allclose(text_embeds, text_embeds[:1], atol=1e-6):
        raise ValueError("All texts get the same vector.")


@torch.no_grad()
def reload(model: BDAMModel) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("transformers.dynamic_module_utils.HF_MODULES_CACHE", f"{folder}/modules"),
    ):
        try:
            model.save_pretrained(f"{folder}/model")
            # What AutoModel does with trust_remote_code where no class of that name is registered.
            saved_class = get_class_from_dynamic_module("modeling_bdam.BDAMModel", f"{folder}/model")
            again = saved_class.from_pretrained(f"{folder}/model").eval()
        finally:
            sys.path[:] = [path for path in sys.path if not path.startswith(folder)]
    code = sys.modules[saved_class.__module__]
    if not all(part.__module__.startswith("transformers_modules.") for part in (saved_class, code.build_encoder)):
        raise ValueError("It was not the saved code that read it.")
    batch = make_batch(image_size_of(model))
    outputs, expected = again(**batch), model(**batch)
    for name in ("image_embeds", "text_embeds", "clothing_image_embeds", "clothing_text_embeds"):
        torch.testing.assert_close(outputs[name], expected[name])


class ImageTokens(nn.Module):
    """The image encoder of a model, from `pixel_values` to tokens."""

    def __init__(self, model: BDAMModel):
        super().__init__()
        self.encoder, self.hidden_size = model.vision_model, model.config.vision_hidden_size

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = encode_images(self.encoder, inputs["pixel_values"], self.hidden_size)
        return {"tokens": outputs.last_hidden_state}


@torch.no_grad()
def export(model: BDAMModel) -> None:
    tokens = ImageTokens(model)
    two, three = ({"pixel_values": torch.randn(count, 3, *image_size_of(model))} for count in (2, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        write_onnx(path, tokens, two, ["batch"])
        exported = run_onnx(open_onnx(path), three)
    torch.testing.assert_close(exported["tokens"], tokens(three)["tokens"], rtol=1e-3, atol=1e-3)


def check_finite(tensor: torch.Tensor) -> None:
    if not tensor.isfinite().all():
        raise ValueError("It is not finite.")


if __name__ == "__main__":
    main()
