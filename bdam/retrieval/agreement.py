"""Whether two encoders of the same weights, such as a model and its export in int8, embed images alike."""

import pyarrow as pa
import torch
from torch.nn.functional import cosine_similarity

from bdam.data.images import ImageError, decode_image
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.rows import digest
from bdam.retrieval.stores.base import Store


# This many images are embedded again, and must agree to this cosine.
CHECKED, AGREES_FROM = 4, 0.99


def check_agreement(embedder: Embedder, store: Store, uri: str) -> None:
    """
    Embeds a few images of a store again, as far as they are there.

    Raises:
        ValueError: if their vectors differ from those that are kept.
    """
    rows, vectors = next(iter(store.chunks()), (pa.table({"image": []}), torch.empty(0)))
    for row, vector in zip(rows.slice(0, CHECKED).to_pylist(), vectors, strict=False):
        if row.get("identity_description") or digest(row["image"]) != row["content"]:
            continue  # an export embeds images alone, and those that have changed prove nothing
        try:
            again = embedder(images=decode_image(row["image"], row["image_id"]))[0]
        except ImageError:
            continue
        similarity = _lowest_similarity(again, vector, embedder.space.identity_size)
        if similarity < AGREES_FROM:
            raise ValueError(
                f"{embedder.space.checkpoint} embeds {row['image_id']} otherwise than {uri} has it (cosine "
                f"{similarity:.3f}): give the model that the gallery was made by, or index the images anew."
            )


def _lowest_similarity(one: torch.Tensor, other: torch.Tensor, size: int) -> float:
    """The lower cosine of the identity halves, of this size, and of the clothing halves if there are any."""
    halves = [(one[:size], other[:size]), (one[size:], other[size:])]
    return min(cosine_similarity(*pair, dim=0).item() for pair in halves if len(pair[0]))
