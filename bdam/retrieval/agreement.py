"""A check that two encoders of the same weights, such as a model and its int8 export, agree on their embeddings."""

import pyarrow as pa
import torch
from torch.nn.functional import cosine_similarity

from bdam.data.images import ImageError, decode_image
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.rows import digest
from bdam.retrieval.stores.base import Store


NUM_CHECKED = 4  # images that are embedded again
MIN_SIMILARITY = 0.99  # cosine similarity of their vectors to those of the store


def check_agreement(embedder: Embedder, store: Store, uri: str) -> None:
    """
    Embeds some images of a store again, as far as their files exist, and compares the vectors.

    Args:
        embedder: whose encoder is checked.
        store: whose vectors are the reference.
        uri: of the store, for messages.

    Raises:
        ValueError: if the cosine similarity of a vector to that of the store is below `MIN_SIMILARITY`.
    """
    rows, vectors = next(iter(store.chunks()), (pa.table({"image": []}), torch.empty(0)))
    for row, vector in zip(rows.slice(0, NUM_CHECKED).to_pylist(), vectors, strict=False):
        if row.get("identity_description") or digest(row["image"]) != row["content"]:
            continue  # exports do not fuse descriptions, and an image that has changed has another vector
        try:
            again = embedder(images=decode_image(row["image"], row["image_id"]))[0]
        except ImageError:
            continue
        similarity = _lowest_similarity(again, vector, embedder.space.identity_size)
        if similarity < MIN_SIMILARITY:
            raise ValueError(
                f"{embedder.space.checkpoint} embeds {row['image_id']} differently from {uri} (cosine similarity "
                f"{similarity:.3f}): give the model that the gallery was made with, or index the images again."
            )


def _lowest_similarity(one: torch.Tensor, other: torch.Tensor, size: int) -> float:
    """The lower of the cosine similarities of the identity halves, `size` numbers each, and of the clothing halves."""
    halves = [(one[:size], other[:size]), (one[size:], other[size:])]
    return min(cosine_similarity(*pair, dim=0).item() for pair in halves if len(pair[0]))
