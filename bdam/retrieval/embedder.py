"""Images and sentences → vectors, by a checkpoint of the Hub or of a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from PIL.Image import new as new_image

from bdam.encoding.devices import default_device
from bdam.encoding.encoders import Encoder, load_encoder, weights_of
from bdam.encoding.extraction import Embeddings, embed_chunks, embed_sentences
from bdam.retrieval.stores.base import EmbeddingSpace
from processing_bdam import to_upright_rgb


# What is embedded in place of an image that cannot be read, so that batches keep their size.
BLANK = new_image("RGB", (64, 128))


class EmbeddedRows(NamedTuple):
    """
    Args:
        vectors: (n, D), float32 on the CPU; without meaning where there was no image.
        is_readable: (n,), whether there was one.
        contents: (n,), the digests of the images, int64.
    """

    vectors: torch.Tensor
    is_readable: torch.Tensor
    contents: torch.Tensor


class Embedder:
    """
    Embeds images and sentences as one vector each, `[identity ; clothing]`, both halves L2-normalized: a query
    weighted `[(1 - c)·identity ; c·clothing]` scores `(1 - c)·identity + c·clothing` by one inner product, for any
    weight c of clothing.

    Args:
        checkpoint: folder of a model, or its name on the Hub; any that [`load_encoder`] knows.
        device: where it runs, such as `"cuda"`; by default the accelerator, if there is one.
        mixed_precision: `"no"`, `"fp16"` or `"bf16"`.
        compile: whether its image and text encoders pass `torch.compile`, which pays for large collections.
        batch_size: images or sentences per forward pass.

    Raises:
        FileNotFoundError: if there is no model, or not all of it.
        ValueError: if the model does not embed images and sentences alike, or cannot be compiled.

    Example:

    ```python
    >>> from bdam import Embedder, load_data
    >>> embedder = Embedder("outputs/demo/model")
    >>> images = embedder(images=load_data("outputs/demo/pedestrians")["test"]["image"][:8])
    >>> images.shape
    torch.Size([8, 192])
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
                raise ValueError(f"{checkpoint} is compiled as it is: leave `compile` out.")
            self.model.vision_model.compile()
            self.model.text_model.compile()
        embeddings = embed_sentences(self.encoder, ["Somebody."])
        sizes = [embeddings[name].shape[1] if name in embeddings else 0 for name in ("identity", "clothing")]
        path = str(Path(checkpoint).resolve() if Path(checkpoint).is_dir() else checkpoint)
        self.space = EmbeddingSpace(path, weights_of(checkpoint), *sizes)
        self.clothing_weight: float = getattr(self.model.config, "clothing_weight", 0.0)

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: Image | list[Image] | None = None,
        descriptions: list[str | None] | None = None,
    ) -> torch.Tensor:
        """
        Vectors (N, identity_size + clothing_size) of sentences or of images, float32 on the CPU.

        Args:
            descriptions: identity descriptions that the images are fused with; None for an image without one.

        Raises:
            ValueError: unless either sentences or images are given, and if a sentence is empty.
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
        return torch.cat([of_chunk.vectors for of_chunk in embedded])

    def check_sentence(self, sentence: str) -> list[str]:
        """
        What is lost of a sentence when it is embedded, in plain words: where it is cut, which words are unknown.

        Raises:
            ValueError: if nothing that the model knows is left.
        """
        return self.encoder.check_sentence(sentence)

    def embed_rows(self, rows, use_descriptions: bool) -> Iterator[EmbeddedRows]:
        """
        Embeds the images of many rows, some hundred at a time.

        Args:
            rows: a sequence of rows with an `image`, a PIL image or None; an `identity_description` if these are used,
                None for an image without one; and, where it is known, the digest of the `content`.
        """

        def prepare(batch: list[dict]) -> dict[str, torch.Tensor]:
            shown = [{**row, "image": row["image"] or BLANK} for row in batch]
            return {
                **self.encoder.prepare_images(shown, use_descriptions=use_descriptions),
                "is_readable": torch.tensor([row["image"] is not None for row in batch]),
                "contents": torch.tensor([row.get("content", 0) for row in batch]),
            }

        def embed(inputs: dict[str, torch.Tensor]) -> Embeddings:
            passed = {name: inputs.pop(name) for name in ("is_readable", "contents")}
            return {**self.encoder.embed_images(inputs), **passed}

        for of_chunk in embed_chunks(self.model, prepare, embed, rows, "images", **self.options):
            yield EmbeddedRows(self._join(of_chunk), of_chunk["is_readable"], of_chunk["contents"])

    def weigh(self, vectors: torch.Tensor, clothing_weight: float) -> torch.Tensor:
        """
        Queries that score `(1 - clothing_weight)·identity + clothing_weight·clothing` by one inner product.

        Args:
            vectors: (…, D), of sentences or of examples.
            clothing_weight: c, in [0, 1].

        Returns:
            (…, D), no longer normalized.
        """
        weights = torch.cat(
            [
                torch.full((self.space.identity_size,), 1 - clothing_weight),
                torch.full((self.space.clothing_size,), clothing_weight),
            ]
        )
        return vectors * weights

    def _join(self, embeddings: Embeddings) -> torch.Tensor:
        """The fullest identity embedding that there is, and that of clothing."""
        name = next(name for name in ("image+description", "image", "identity") if name in embeddings)
        identity = embeddings[name]
        return torch.cat([identity, embeddings["clothing"]], dim=1) if self.space.clothing_size else identity
