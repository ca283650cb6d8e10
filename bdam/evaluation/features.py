"""A model's view of a split: the embeddings of its pictures and texts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from bdam.data.pictures import read_column


# What a gallery entry is made of; every evaluation shows them side by side.
GALLERIES = ("picture", "picture+description", "description")
# What people search with.
QUERIES = ("caption", "identity_description")


@dataclass
class Features:
    """
    Embeddings of a split, float32 on the CPU, L2-normalised, one row per picture unless said otherwise.

    Args:
        galleries: identity embeddings of the gallery by what it is made of; only those that the data and model have.
        clothing: clothing embeddings of the pictures; None without a clothing stream.
        queries: identity embeddings of the queries by kind.
        clothing_queries: clothing embeddings of the same queries.
        query_pictures: the row of the picture that each query was written for, by kind of query.
        person_ids, outfit_ids: who is on each picture, in which outfit; outfits are None where the data has none.
    """

    galleries: dict[str, torch.Tensor]
    clothing: torch.Tensor | None
    queries: dict[str, torch.Tensor]
    clothing_queries: dict[str, torch.Tensor]
    query_pictures: dict[str, torch.Tensor]
    person_ids: torch.Tensor
    outfit_ids: torch.Tensor | None


def extract_features(model, processor, dataset: Dataset, batch_size: int = 64) -> Features:
    """
    Embeds every picture, description and caption of `dataset`. Descriptions count where each picture has one.

    Raises:
        ValueError: if there is nothing to search by, neither captions nor descriptions of identity.
    """
    captions = read_column(dataset, "captions")
    texts, query_pictures = {}, {}
    if any(captions):
        texts["caption"] = [caption for of_picture in captions for caption in of_picture]
        query_pictures["caption"] = torch.tensor([row for row, of_picture in enumerate(captions) for _ in of_picture])
    if _is_described(dataset):
        texts["identity_description"] = read_column(dataset, "identity_description")
        query_pictures["identity_description"] = torch.arange(len(dataset))
    if not texts:
        raise ValueError(
            "The split has nothing to search by: give its pictures captions, or describe all of them in "
            "descriptions.jsonl."
        )
    pictures = embed_pictures(model, processor, dataset, batch_size)
    queries = {kind: embed_queries(model, processor, sentences, batch_size) for kind, sentences in texts.items()}
    outfit_ids = read_column(dataset, "outfit_id")
    return Features(
        galleries={name: pictures[name] for name in GALLERIES if name in pictures},
        clothing=pictures.get("clothing"),
        queries={kind: embeds["identity"] for kind, embeds in queries.items()},
        clothing_queries={kind: embeds["clothing"] for kind, embeds in queries.items() if "clothing" in embeds},
        query_pictures=query_pictures,
        person_ids=torch.tensor(read_column(dataset, "person_id")),
        outfit_ids=None if None in outfit_ids else torch.tensor(outfit_ids),
    )


def embed_pictures(model, processor, dataset: Dataset, batch_size: int = 64) -> dict[str, torch.Tensor]:
    """
    Embeddings of the pictures by name: identity embeddings of the galleries in `GALLERIES`, and `clothing`.

    Pictures pass the encoder once; the three galleries differ in the fusion alone.
    """
    described = model.config.use_fusion and _is_described(dataset)

    def embed(rows: list[dict]) -> dict[str, torch.Tensor]:
        inputs = processor(
            images=[row["image"] for row in rows],
            identity_text=[row["identity_description"] for row in rows] if described else None,
            return_tensors="pt",
        ).to(model.device)
        outputs = model(**inputs)
        embeddings = {"picture": outputs.image_embeds}
        if described:
            embeddings["picture"], _ = model.fuse(outputs.picture_output)
            embeddings["picture+description"] = outputs.image_embeds
            embeddings["description"], _ = model.fuse(None, outputs.description_output)
        if outputs.clothing_image_embeds is not None:
            embeddings["clothing"] = outputs.clothing_image_embeds
        return embeddings

    return embed_in_batches(model, embed, dataset, batch_size, "pictures")


def embed_queries(model, processor, sentences: list[str], batch_size: int = 64) -> dict[str, torch.Tensor]:
    """`identity` and, if the model has a clothing stream, `clothing` embeddings of the sentences."""

    def embed(batch: list[str]) -> dict[str, torch.Tensor]:
        inputs = processor(text=batch, return_tensors="pt").to(model.device)
        embeddings = {"identity": model.get_text_features(**inputs).pooler_output}
        if model.config.use_bdam:
            embeddings["clothing"] = model.get_clothing_text_features(**inputs).pooler_output
        return embeddings

    return embed_in_batches(model, embed, sentences, batch_size, "queries")


@torch.inference_mode()
def embed_in_batches(model, embed: Callable[[list], dict], items, batch_size: int, label: str) -> dict:
    """What `embed` makes of each batch of items, in evaluation mode: tensors by name, float32 on the CPU."""
    was_training = model.training
    model.eval()
    batches = DataLoader(items, batch_size=batch_size, collate_fn=list)
    parts = [embed(batch) for batch in tqdm(batches, desc=f"Embedding {label}", leave=False)]
    model.train(was_training)
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}


def _is_described(dataset: Dataset) -> bool:
    return "identity_description" in dataset.column_names and all(read_column(dataset, "identity_description"))
