"""Models as an evaluation sees them: images and sentences in, embeddings by name out.

Preparing and embedding are apart, so that worker processes can decode and tokenise what the model sees next.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import try_to_load_from_cache
from torch.nn.functional import normalize
from transformers import BatchFeature

from bdam.encoding.models import fingerprint, load_model
from bdam.encoding.reading import read_sentence


# The text halves of these were trained on sentences padded to their full length.
PADDED_TO_THE_END = ("siglip", "siglip2")
# What tells a folder of `bdam export` from that of a checkpoint.
IMAGE_ENCODER, QUERY_ENCODER = "image_encoder.onnx", "query_encoder.onnx"
# In such a folder: what tells the weights that it was made of from all others.
EXPORTED_WEIGHTS = "exported_weights.txt"


class Encoder(Protocol):
    """
    What an evaluation asks of a model.

    `embed_images` returns identity embeddings by gallery; that of descriptions alone is there if all the rows are
    described. `embed_sentences` returns `identity`. Both return `clothing` if the model has such a stream. All
    embeddings are (B, D), L2-normalized.
    """

    model: Any
    processor: Any

    def prepare_images(self, rows: list[dict], use_descriptions: bool) -> BatchFeature: ...

    def embed_images(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]: ...

    def prepare_sentences(self, sentences: list[str]) -> BatchFeature: ...

    def embed_sentences(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]: ...

    def check_sentence(self, sentence: str) -> list[str]:
        """
        What is lost of a sentence when it is embedded, see [`read_sentence`].

        Raises:
            ValueError: if nothing that the model knows is left.
        """
        tokenizer = self.processor.tokenizer
        return read_sentence(tokenizer, sentence, tokenizer.model_max_length)


class BDAMEncoder(Encoder):
    """A [`BDAMModel`] and its [`BDAMProcessor`]. An image is encoded once, whatever it is fused with."""

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor

    def prepare_images(self, rows: list[dict], use_descriptions: bool) -> BatchFeature:
        descriptions = None
        if use_descriptions and self.model.config.use_fusion:
            descriptions = [row["identity_description"] or None for row in rows]
        return self.processor(images=[row["image"] for row in rows], identity_text=descriptions, return_tensors="pt")

    def embed_images(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self.model(**inputs)
        embeddings = {"image": outputs.image_embeds}
        if "identity_input_ids" in inputs:
            embeddings["image"] = outputs.plain_image_embeds
            embeddings["image+description"] = outputs.image_embeds
            if inputs["identity_attention_mask"].any(dim=1).all():
                embeddings["description"], _ = self.model.fuse(None, outputs.description_output)
        if outputs.clothing_image_embeds is not None:
            embeddings["clothing"] = outputs.clothing_image_embeds
        return embeddings

    def prepare_sentences(self, sentences: list[str]) -> BatchFeature:
        return self.processor(text=sentences, return_tensors="pt")

    def embed_sentences(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self.model(**inputs)
        embeddings = {"identity": outputs.text_embeds}
        if self.model.config.use_bdam:  # the sentence as a clothing text: the text encoder is the same
            embeddings["clothing"] = outputs.clothing_query_embeds
        return embeddings


class DualEncoder(Encoder):
    """Any model of transformers with `get_image_features` and `get_text_features`: CLIP, SigLIP and their kin."""

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor
        is_padded = model.config.model_type in PADDED_TO_THE_END
        self.text_options = {
            "padding": "max_length" if is_padded else True,
            "truncation": True,
            "max_length": processor.tokenizer.model_max_length,
            "return_tensors": "pt",
        }

    def prepare_images(self, rows: list[dict], use_descriptions: bool) -> BatchFeature:
        return self.processor.image_processor([row["image"] for row in rows], return_tensors="pt")

    def embed_images(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"image": normalize(self.model.get_image_features(**inputs).pooler_output, dim=-1)}

    def prepare_sentences(self, sentences: list[str]) -> BatchFeature:
        return self.processor.tokenizer(sentences, **self.text_options)

    def embed_sentences(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"identity": normalize(self.model.get_text_features(**inputs).pooler_output, dim=-1)}


def load_encoder(checkpoint: str) -> Encoder:
    """
    The model of a folder or of the Hub, see [`load_model`], or that of a folder of ONNX files.

    Raises:
        FileNotFoundError: if there is no model, or not all of it.
        ValueError: if the model does not embed images and sentences alike.
    """
    if any((Path(checkpoint) / name).is_file() for name in (IMAGE_ENCODER, QUERY_ENCODER)):
        from bdam.encoding.onnx import OnnxEncoder  # needs what not every installation has

        return OnnxEncoder(Path(checkpoint))
    model, processor = load_model(checkpoint)
    if model.config.model_type == "bdam":
        return BDAMEncoder(model, processor)
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        raise ValueError(
            f"{checkpoint} ({model.config.model_type}) is no dual encoder: it must embed images and sentences "
            "alike, as BDAM, CLIP, SigLIP and VisionTextDualEncoderModel do."
        )
    return DualEncoder(model, processor)


def weights_of(checkpoint: str | Path) -> str:
    """
    What tells the weights of a checkpoint that was loaded from all others: the fingerprint of their files, or the
    commit of a model of the Hub. An export has that of the model it was made of, since both embed alike.
    """
    exported = Path(checkpoint) / EXPORTED_WEIGHTS
    if exported.is_file():
        return exported.read_text(encoding="utf-8").strip()
    return fingerprint(checkpoint) or commit_on_hub(str(checkpoint)) or str(checkpoint)


def commit_on_hub(checkpoint: str) -> str | None:
    """The commit that a model of the Hub was loaded at; None if it was not."""
    path = None if Path(checkpoint).exists() else try_to_load_from_cache(checkpoint, "config.json")
    return Path(path).parent.name if isinstance(path, str) else None
