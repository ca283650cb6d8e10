"""A model's view of a split: the embeddings of its images and texts."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from bdam.data.benchmarks import BENCHMARKS
from bdam.data.images import read_column
from bdam.encoding.encoders import Encoder
from bdam.encoding.extraction import FeatureStore, embed_images, embed_sentences


# What a gallery entry is made of; every evaluation shows them side by side.
GALLERIES = ("image", "image+description", "description")


@dataclass
class Features:
    """
    Embeddings of a split, float32 on the CPU, L2-normalized. N images have G entries in the gallery: one each, or
    those that an official protocol puts there.

    Args:
        galleries: identity embeddings (G, D) by what an entry is made of; only those that the data and model have.
        clothing: clothing embeddings (G, D); None without a clothing stream.
        queries: identity embeddings of the queries by kind.
        clothing_queries: clothing embeddings of the same queries.
        query_images: the image that each query was written for, by kind of query.
        gallery_images: the image of each entry (G,).
        person_ids, outfit_ids, camera_ids: who is on each image (N,), in which outfit, seen by which camera; None
            where the data does not know.
        single_shots: how many random galleries of one image per person the official protocol averages over; 0 if
            its gallery is what it is.
    """

    galleries: dict[str, torch.Tensor]
    clothing: torch.Tensor | None
    queries: dict[str, torch.Tensor]
    clothing_queries: dict[str, torch.Tensor]
    query_images: dict[str, torch.Tensor]
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
    Embeds the gallery and the queries of a split: all images, captions and identity descriptions, or those that an
    official protocol has in these roles. A gallery of descriptions alone needs one of each image; the other
    galleries do with the image where there is none. Arguments are those of [`embed_in_batches`].

    Raises:
        ValueError: if there is nothing to search by, neither captions nor descriptions of identity.
    """
    images = range(len(dataset))
    roles = read_column(dataset, "role") if "role" in dataset.column_names else [None] * len(dataset)
    gallery_images = [row for row in images if roles[row] != "query"]
    asking = [row for row in images if roles[row] != "gallery"]
    captions, descriptions = read_column(dataset, "captions"), read_column(dataset, "identity_description")
    sentences = {
        "caption": [(row, caption) for row in asking for caption in captions[row]],
        "identity_description": [(row, descriptions[row]) for row in asking if descriptions[row]],
    }
    sentences = {kind: of_kind for kind, of_kind in sentences.items() if of_kind}
    if not sentences:
        raise ValueError(
            "The split has nothing to search by: give its images captions, or describe them in descriptions.jsonl."
        )
    described = any(descriptions[row] for row in gallery_images)
    options: dict[str, Any] = {"batch_size": batch_size, "mixed_precision": mixed_precision, "store": store}
    gallery = embed_images(encoder, dataset.select(gallery_images), described, **options)
    queries = {
        kind: embed_sentences(encoder, [sentence for _, sentence in of_kind], f"{kind}s", **options)
        for kind, of_kind in sentences.items()
    }
    benchmark = BENCHMARKS.get(dataset.info.dataset_name or "")
    return Features(
        galleries={name: gallery[name] for name in GALLERIES if name in gallery},
        clothing=gallery.get("clothing"),
        queries={kind: embeds["identity"] for kind, embeds in queries.items()},
        clothing_queries={kind: embeds["clothing"] for kind, embeds in queries.items() if "clothing" in embeds},
        query_images={kind: torch.tensor([row for row, _ in of_kind]) for kind, of_kind in sentences.items()},
        gallery_images=torch.tensor(gallery_images),
        person_ids=torch.tensor(read_column(dataset, "person_id")),
        outfit_ids=_ids(dataset, "outfit_id"),
        camera_ids=_ids(dataset, "camera_id"),
        single_shots=benchmark.single_shots if benchmark else 0,
    )


def _ids(dataset: Dataset, column: str) -> torch.Tensor | None:
    values = read_column(dataset, column) if column in dataset.column_names else [None]
    return None if None in values else torch.tensor(values)
