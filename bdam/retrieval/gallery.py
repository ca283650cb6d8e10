"""A searchable gallery of pictures."""

from dataclasses import dataclass

import torch
from datasets import Dataset

from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.extraction import embed_pictures, embed_sentences


@dataclass
class Hit:
    """A picture found: its row in the gallery, and its score with the parts that identity and clothing have in it."""

    row: int
    score: float
    identity: float
    clothing: float


class Gallery:
    """
    Pictures with one vector each, `[identity ; clothing]`: a query `[(1 - c)·identity ; c·clothing]` scores
    `(1 - c)·identity + c·clothing` for any weight c of clothing that the searcher chooses.

    Args:
        model: a [`BDAMModel`].
        processor: its [`BDAMProcessor`].
        dataset: the pictures; any data set with an `image` column. Nothing but the pictures is looked at.
        batch_size: pictures per forward pass.
    """

    def __init__(self, model, processor, dataset: Dataset, batch_size: int = 64):
        self.model = model.eval()
        self.encoder = BDAMEncoder(model, processor)
        self.dataset = dataset
        columns = [name for name in ("image_id", "image") if name in dataset.column_names]
        embeddings = embed_pictures(self.encoder, dataset.select_columns(columns), batch_size=batch_size)
        self.identity = embeddings["picture"]
        self.clothing = embeddings.get("clothing")

    def search(self, text: str, clothing_weight: float | None = None, k: int = 10) -> list[Hit]:
        """The k pictures that fit best; `clothing_weight` 0 looks at the person alone, 1 at the clothes alone."""
        if clothing_weight is None:
            clothing_weight = self.model.config.clothing_weight
        if not 0 <= clothing_weight <= 1:
            raise ValueError(f"`clothing_weight` must lie in [0, 1], got {clothing_weight}.")
        query = embed_sentences(self.encoder, [text])
        identity = (1 - clothing_weight) * (self.identity @ query["identity"][0])
        clothing = torch.zeros_like(identity)
        if self.clothing is not None:
            clothing = clothing_weight * (self.clothing @ query["clothing"][0])
        scores, rows = (identity + clothing).topk(min(k, len(identity)))
        return [
            Hit(row, score, identity[row].item(), clothing[row].item())
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
