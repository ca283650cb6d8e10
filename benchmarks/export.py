"""
What ONNX Runtime makes of an exported BDAM: how far its embeddings are from PyTorch's, how many images a second it
embeds, and what that does to a search.

    python benchmarks/export.py [--checkpoint outputs/demo/model --data outputs/demo/pedestrians]

Speed is that of a model of the paper's size with random weights. All take turns, so that whatever else the machine
does slows all; the figures are ratios of the best times. R-1 is that of a trained model on its test split, by the
standard protocol with captions as queries, at the model's own weight of clothing.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from transformers import ViTImageProcessorPil

from bdam.data.loading import load_split
from bdam.encoding.encoders import Encoder, load_encoder
from bdam.encoding.onnx import export_onnx
from bdam.evaluation.features import extract_features
from bdam.evaluation.protocols import score
from bdam.training.building import learn_tokenizer
from configuration_bdam import BDAMConfig
from modeling_bdam import BDAMModel
from processing_bdam import BDAMProcessor


BATCH_SIZE = 8
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="A trained BDAM, for the change of R-1.")
    parser.add_argument("--data", help="The data set to search, as for `bdam evaluate`.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoders = export_both(save_paper_model(Path(folder) / "model"), Path(folder))
        figures = {"benchmark": "export", "threads": torch.get_num_threads(), **compare(encoders)}
    if arguments.checkpoint and arguments.data:
        with tempfile.TemporaryDirectory() as folder:
            encoders = export_both(arguments.checkpoint, Path(folder))
            figures |= search(encoders, arguments.data)
    print(json.dumps(figures))


def save_paper_model(folder: Path) -> str:
    """ViT-B/16, BERT-base and six layers per branch, for 224 x 224; what starts at zero is random, too."""
    tokenizer = learn_tokenizer(["A man."], max_length=64, vocab_size=100)
    model = BDAMModel(BDAMConfig(vision_config={"model_type": "vit"}, text_config={"model_type": "bert"}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    BDAMProcessor(ViTImageProcessorPil(size={"height": 224, "width": 224}), tokenizer).save_pretrained(folder)
    return str(folder)


def export_both(checkpoint: str, folder: Path) -> dict[str, Encoder]:
    export_onnx(checkpoint, folder / "fp32")
    export_onnx(checkpoint, folder / "int8", quantize=True)
    places = {"torch": checkpoint, "fp32": str(folder / "fp32"), "int8": str(folder / "int8")}
    return {name: load_encoder(place) for name, place in places.items()}


@torch.inference_mode()
def compare(encoders: dict[str, Encoder]) -> dict[str, float]:
    """Agreement and speed on one batch of noise."""
    torch.manual_seed(0)
    images = {"pixel_values": torch.randn(BATCH_SIZE, 3, 224, 224)}
    embeddings, seconds = {}, dict.fromkeys(encoders, float("inf"))
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            start = time.perf_counter()
            embeddings[name] = torch.cat(list(encoder.embed_images(images).values()), dim=1)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    figures = {
        "max_difference_fp32": (embeddings["fp32"] - embeddings["torch"]).abs().max().item(),
        "min_cosine_int8": round(torch.cosine_similarity(embeddings["int8"], embeddings["torch"]).min().item(), 5),
        "torch_images_per_second": round(BATCH_SIZE / seconds["torch"], 2),
        "speedup_fp32": round(seconds["torch"] / seconds["fp32"], 2),
        "speedup_int8": round(seconds["torch"] / seconds["int8"], 2),
    }
    print(
        f"fp32 differs by at most {figures['max_difference_fp32']:.1e}; int8's cosine: {figures['min_cosine_int8']}."
    )
    print(f"Against {figures['torch_images_per_second']} images per second of PyTorch, ONNX Runtime embeds")
    print(f"{figures['speedup_fp32']:.2f} times as many in fp32, and {figures['speedup_int8']:.2f} times in int8.")
    return figures


def search(encoders: dict[str, Encoder], data: str) -> dict[str, float]:
    """R-1 of all on the test split, images alone."""
    test = load_split(data, "test")
    clothing_weight = encoders["torch"].model.config.clothing_weight
    recall = {
        name: score(extract_features(encoder, test), "standard", "image", "caption", clothing_weight).r1
        for name, encoder in encoders.items()
    }
    changes = {f"r1_change_{name}": round(recall[name] - recall["torch"], 2) for name in ("fp32", "int8")}
    print(f"R-1 is {recall['torch']:.1f} in PyTorch, {recall['fp32']:.1f} in fp32 and {recall['int8']:.1f} in int8.")
    return {"r1_torch": round(recall["torch"], 2), **changes}


if __name__ == "__main__":
    main()
