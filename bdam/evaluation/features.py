"""The embeddings of a split: those of its images and of its texts."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.images import read_column
from bdam.encoding.encoders import Encoder
from bdam.encoding.extraction import FeatureStore, embed_images, embed_sentences


# What a gallery entry is computed from. Every evaluation shows all three.
# A query of an image for the person, and of a caption for the clothes.
COMPOSED = "image+caption"
GALLERIES = ("image", "image+description", "description")


@dataclass
class Features:
    """
    Embeddings of a split, float32 on the CPU, L2-normalized. N images have G entries in the gallery: one each, or
    those of the official protocol.

    Args:
        galleries: identity embeddings (G, D), by one of `GALLERIES`; only those that the data and the model have.
        clothing: clothing embeddings (G, D); None without a clothing stream.
        queries: identity embeddings (Q, D), by kind of query.
        clothing_queries: clothing embeddings (Q, D) of the same queries; empty without a clothing stream.
        query_images: (Q,) the image that each query was written for, by kind of query.
        query_lengths: (Q,) the characters of each query, by kind of query.
        gallery_images: (G,) the image of each entry.
        person_ids: (N,) the person in each image.
        outfit_ids: (N,) the outfit; None if the data has no outfits.
        camera_ids: (N,) the camera; None if the data has no cameras.
        single_shots: the number of random galleries with one image per person that the official protocol averages
            over; 0 (default) if there is one gallery.
    """

    galleries: dict[str, torch.Tensor]
    clothing: torch.Tensor | None
    queries: dict[str, torch.Tensor]
    clothing_queries: dict[str, torch.Tensor]
    query_images: dict[str, torch.Tensor]
    query_lengths: dict[str, torch.Tensor]
    gallery_images: torch.Tensor
    person_ids: torch.Tensor
    outfit_ids: torch.Tensor | None = None
    camera_ids: torch.Tensor | None = None
    single_shots: int = 0


def extract_features(
    encoder: Encoder,
    dataset: Dataset,
    batch_size: int = 64,
    mixed_precision: str = "no",
    store: FeatureStore | None = None,
) -> Features:
    """
    The embeddings of a split: all images, captions and identity descriptions, or those with a role in the official
    protocol. The gallery of descriptions requires one of each image; in `image+description`, images without a
    description are embedded alone.

    Args:
        encoder: the model.
        dataset: rows of the split.
        batch_size: images or texts per forward pass.
        mixed_precision: `no` (default), `fp16` or `bf16`.
        store: where embeddings are kept; None (default) keeps none.

    Raises:
        ValueError: if there are neither captions nor identity descriptions.
    """
    images = range(len(dataset))
    roles = _roles(dataset)
    gallery_images = [row for row in images if roles[row] != "query"]
    descriptions = read_column(dataset, "identity_description")
    sentences = query_sentences(dataset)
    described = any(descriptions[row] for row in gallery_images)
    options: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision, "store": store}
    gallery = embed_images(encoder, dataset.select(gallery_images), described, **options)
    queries = {
        kind: embed_sentences(encoder, [sentence for _, sentence in pairs], f"{kind}s", **options)
        for kind, pairs in sentences.items()
    }
    benchmark = BENCHMARKS.get(dataset.info.dataset_name or "")
    if benchmark and benchmark.is_composed:
        rows = [row for row, _ in sentences["caption"]]
        asked = embed_images(encoder, dataset.select(rows), label="query images", **options)["image"]
        queries[COMPOSED] = {**queries.pop("caption"), "identity": asked}
        sentences[COMPOSED] = sentences.pop("caption")
    return Features(
        galleries={name: gallery[name] for name in GALLERIES if name in gallery},
        clothing=gallery.get("clothing"),
        queries={kind: embeds["identity"] for kind, embeds in queries.items()},
        clothing_queries={kind: embeds["clothing"] for kind, embeds in queries.items() if "clothing" in embeds},
        query_images={kind: torch.tensor([row for row, _ in pairs]) for kind, pairs in sentences.items()},
        query_lengths={kind: torch.tensor([len(text) for _, text in pairs]) for kind, pairs in sentences.items()},
        gallery_images=torch.tensor(gallery_images),
        person_ids=torch.tensor(read_column(dataset, "person_id")),
        outfit_ids=_ids(dataset, "outfit_id"),
        camera_ids=_ids(dataset, "camera_id"),
        single_shots=benchmark.single_shots if benchmark else 0,
    )


def query_sentences(dataset: Dataset) -> dict[str, list[tuple[int, str]]]:
    """
    The sentences that a split is searched by, with the row of the image that each was written for, by kind of query.

    Raises:
        ValueError: if there are neither captions nor identity descriptions.
    """
    rows = [row for row, role in enumerate(_roles(dataset)) if role != "gallery"]
    captions, descriptions = read_column(dataset, "captions"), read_column(dataset, "identity_description")
    sentences = {
        "caption": [(row, caption) for row in rows for caption in captions[row]],
        "identity_description": [(row, descriptions[row]) for row in rows if descriptions[row]],
    }
    sentences = {kind: pairs for kind, pairs in sentences.items() if pairs}
    if not sentences:
        raise ValueError(
            "The split has nothing to search by: give its images captions, or describe them in descriptions.jsonl."
        )
    return sentences


def _roles(dataset: Dataset) -> list[str | None]:
    """The role of each image in the official protocol; None for one that is both query and gallery."""
    return read_column(dataset, "role") if "role" in dataset.column_names else [None] * len(dataset)


def _ids(dataset: Dataset, column: str) -> torch.Tensor | None:
    values = read_column(dataset, column) if column in dataset.column_names else [None]
    return None if None in values else torch.tensor(values)
