"""Embeds images and sentences with a checkpoint of the Hub or of a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from PIL.Image import new as new_image

from bdam.encoding.devices import default_device
from bdam.encoding.encoders import Encoder, load_encoder, weights_of
from bdam.encoding.extraction import Embeddings, embed_chunks, embed_sentences
from bdam.evaluation.calibration import Calibration
from bdam.retrieval.stores.base import EmbeddingSpace
from processing_bdam import to_upright_rgb


# Stands for an image that cannot be read, so that batches keep their size.
BLANK = new_image("RGB", (64, 128))


class EmbeddedRows(NamedTuple):
    """
    A chunk of embedded rows.

    Args:
        vectors: (n, D), float32, on the CPU; undefined where the image cannot be read.
        is_readable: (n,), bool; whether the image can be read.
        contents: (n,), int64; the digests of the images.
    """

    vectors: torch.Tensor
    is_readable: torch.Tensor
    contents: torch.Tensor


class Embedder:
    """
    Embeds images and sentences as one vector each, `[identity ; clothing]`, both halves L2-normalized.

    One inner product with the weighted query `[(1 - c)·identity ; c·clothing]`, see [`Embedder.weigh`], is the score
    `(1 - c)·cos(identity) + c·cos(clothing)`, for any clothing weight c.

    Args:
        checkpoint: folder of a model, or its name on the Hub; any that [`load_encoder`] takes.
        device: such as `"cuda"`. Default: the accelerator, if there is one, otherwise the CPU.
        mixed_precision: `"no"`, `"fp16"` or `"bf16"`.
        compile: whether to compile the image and text encoders by `torch.compile`. It is slow to start, and saves
            time with many images.
        batch_size: images or sentences per forward pass.

    Attributes:
        space: the [`EmbeddingSpace`] of the vectors.
        clothing_weight: the default weight of the model, in [0, 1].
        temperature: of its contrastive loss; 0.05 if that is not known.
        calibration: what its scores mean; None if it has none.

    Raises:
        FileNotFoundError: if there is no model at the checkpoint.
        ValueError: if `compile` is given and the model is an ONNX export.

    Example:

    ```python
    >>> from bdam import Embedder, load_data
    >>> embedder = Embedder("outputs/demo/model")
    >>> images = embedder(images=load_data("outputs/demo/pedestrians")["test"]["image"][:8])
    >>> images.shape
    torch.Size([8, 256])
    >>> query = embedder.weigh(embedder(text="A tall man in a red coat."), clothing_weight=0.6)
    >>> best = (query @ images.T).topk(5).indices
    ```"""

    def __init__(
        self,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        mixed_precision: str = "no",
        compile: bool = False,
        batch_size: int = 64,
    ):
        self.encoder: Encoder = load_encoder(str(checkpoint))
        self.model = self.encoder.model.to(default_device() if device is None else device)
        self.options: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision}
        if compile:
            if not hasattr(self.model, "vision_model"):
                raise ValueError(f"{checkpoint} is compiled already: leave out `compile`.")
            self.model.vision_model.compile()
            self.model.text_model.compile()
        embeddings = embed_sentences(self.encoder, ["Somebody."])
        sizes = [embeddings[name].shape[1] if name in embeddings else 0 for name in ("identity", "clothing")]
        path = str(Path(checkpoint).resolve() if Path(checkpoint).is_dir() else checkpoint)
        self.space = EmbeddingSpace(path, weights_of(checkpoint), *sizes)
        self.calibration = Calibration.load(checkpoint)
        self.clothing_weight: float = getattr(self.model.config, "clothing_weight", 0.0)
        self.temperature: float = getattr(self.model.config, "temperature", 0.05)

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: Image | list[Image] | None = None,
        descriptions: list[str | None] | None = None,
    ) -> torch.Tensor:
        """
        Vectors of sentences or of images.

        Args:
            text: a sentence, or N of them.
            images: an image, or N of them; instead of `text`.
            descriptions: N identity descriptions that the images are fused with; None for an image without one.

        Returns:
            (N, identity_size + clothing_size), float32, on the CPU; N is 1 for a single sentence or image.

        Raises:
            ValueError: unless either `text` or `images` is given, and if a sentence is empty.
        """
        if (text is None) == (images is None):
            raise ValueError("Give either `text` or `images`.")
        if text is not None:
            sentences = [text] if isinstance(text, str) else text
            return self._join(embed_sentences(self.encoder, sentences, **self.options))
        listed = [images] if isinstance(images, Image) else images or []
        rows = [
            {"image": to_upright_rgb(image), "identity_description": description}
            for image, description in zip(listed, descriptions or [None] * len(listed), strict=True)
        ]
        embedded = self.embed_rows(rows, use_descriptions=any(descriptions or []))
        return torch.cat([chunk.vectors for chunk in embedded])

    def check_sentence(self, sentence: str) -> list[str]:
        """
        Warnings about a sentence, if any: where the model cuts it, and which of its words the model does not know.

        Raises:
            ValueError: if the model knows no word of it.
        """
        return self.encoder.check_sentence(sentence)

    def embed_rows(self, rows, use_descriptions: bool) -> Iterator[EmbeddedRows]:
        """
        The embedded rows, chunk by chunk.

        Args:
            rows: a sequence of dicts with an `image`, a PIL image or None; with an `identity_description`, or None,
                if `use_descriptions`; and optionally with `content`, the digest of the image.
            use_descriptions: whether to fuse the images with their identity descriptions.
        """

        def prepare(batch: list[dict]) -> dict[str, torch.Tensor]:
            filled = [{**row, "image": row["image"] or BLANK} for row in batch]
            return {
                **self.encoder.prepare_images(filled, use_descriptions=use_descriptions),
                "is_readable": torch.tensor([row["image"] is not None for row in batch]),
                "contents": torch.tensor([row.get("content", 0) for row in batch]),
            }

        def embed(inputs: dict[str, torch.Tensor]) -> Embeddings:
            passed = {name: inputs.pop(name) for name in ("is_readable", "contents")}
            return {**self.encoder.embed_images(inputs), **passed}

        for chunk in embed_chunks(self.model, prepare, embed, rows, "images", **self.options):
            yield EmbeddedRows(self._join(chunk), chunk["is_readable"], chunk["contents"])

    def weigh(self, vectors: torch.Tensor, clothing_weight: float) -> torch.Tensor:
        """
        The weighted queries `[(1 - clothing_weight)·identity ; clothing_weight·clothing]`.

        Args:
            vectors: (..., D), float32.
            clothing_weight: in [0, 1].
        """
        weights = torch.cat(
            [
                torch.full((self.space.identity_size,), 1 - clothing_weight),
                torch.full((self.space.clothing_size,), clothing_weight),
            ]
        )
        return vectors * weights

    def score_parts(self, query: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The identity and the clothing parts (...) of scores, which are their sum.

        Args:
            query: (D,), weighted, see [`Embedder.weigh`].
            vectors: (..., D), of images.
        """
        identity, clothing = (query * vectors).split([self.space.identity_size, self.space.clothing_size], dim=-1)
        return identity.sum(dim=-1), clothing.sum(dim=-1)

    def _join(self, embeddings: Embeddings) -> torch.Tensor:
        """Vectors (N, D): the identity embedding, fused with a description if there is one, and that of clothing."""
        name = next(name for name in ("image+description", "image", "identity") if name in embeddings)
        identity = embeddings[name]
        return torch.cat([identity, embeddings["clothing"]], dim=1) if self.space.clothing_size else identity
