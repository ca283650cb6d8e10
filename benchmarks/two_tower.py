"""
The plain model that BDAM has to be ahead of: a small convolutional encoder of images with a linear head for each
stream, and bags of words and word pairs for the texts.

    python benchmarks/two_tower.py DATA [MODEL …] --steps 6300 --seed 0

DATA is what `bdam data pedestrians` writes. The towers learn from its split train by four contrasts, their clothing
weight is chosen on validation, and R-1 is that of test, of images alone. Each MODEL is measured on the same searches;
how far it is ahead stands with 95 % intervals, by a paired bootstrap over persons. A step sees 128 images and takes
0.17 seconds of one core.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, pairwise
from random import Random

import numpy as np
import torch
from accelerate.utils import set_seed
from datasets import Dataset
from torch import nn
from tqdm.auto import tqdm

from bdam.data.batches import PersonBatchSampler
from bdam.data.images import read_column
from bdam.data.loading import load_split
from bdam.encoding.encoders import load_encoder
from bdam.encoding.extraction import feature_store
from bdam.evaluation.features import Features, extract_features, query_sentences
from bdam.evaluation.intervals import interval
from bdam.evaluation.protocols import TENTHS, rank, score


PERSONS, WIDTH, WORDS, TEMPERATURE, LEARNING_RATE = 64, 128, 6000, 0.05, 2e-3
PLAIN = "two towers"
# The searches that are compared: protocol, query, and whether clothing counts.
SEARCHES = (
    ("standard", "caption", True),
    ("standard", "caption", False),
    ("standard", "identity_description", False),
    ("clothes-changed", "identity_description", False),
)
TEXTS = ("identity_description", "clothing_description")


class ImageTower(nn.Module):
    """Images (B, 3, 128, 64) of bytes → identity and clothing embeddings, each (B, WIDTH), L2-normalized."""

    def __init__(self):
        super().__init__()
        sizes = pairwise((32, 64, 64, 128))
        blocks = (block(*pair, stride) for pair, stride in zip(sizes, (2, 1, 2), strict=True))
        self.body = nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.GELU(), *chain.from_iterable(blocks))
        self.heads = nn.ModuleList(nn.Linear(128 * 8 * 4, WIDTH) for _ in range(2))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        pixels = (images / 255 - 0.5) / 0.25
        tokens = self.body(pixels.contiguous(memory_format=torch.channels_last)).flatten(1)
        return [nn.functional.normalize(head(tokens), dim=1) for head in self.heads]


class TextTower(nn.Module):
    """Texts → embeddings (B, WIDTH), L2-normalized: the mean over their words and word pairs, and two layers."""

    def __init__(self, vocabulary: dict[str, int]):
        super().__init__()
        self.vocabulary = vocabulary
        self.words = nn.EmbeddingBag(len(vocabulary), WIDTH)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, texts: list[str]) -> torch.Tensor:
        ids = [[self.vocabulary[gram] for gram in grams(text) if gram in self.vocabulary] for text in texts]
        starts = torch.tensor([0, *map(len, ids[:-1])]).cumsum(0)
        return nn.functional.normalize(self.head(self.words(torch.tensor([*chain(*ids)]), starts)), dim=1)


class TwoTower(nn.Module):
    """The image tower, and four of texts: a caption is read once for the person, and once for the clothes."""

    def __init__(self, vocabulary: dict[str, int]):
        super().__init__()
        self.image = ImageTower()
        self.identity, self.clothing, self.caption, self.clothing_caption = (TextTower(vocabulary) for _ in range(4))

    def loss(self, images: torch.Tensor, rows: dict[str, list], captions: list[str]) -> torch.Tensor:
        identity, clothing = self.image(images)
        persons, outfits = (torch.tensor(rows[name]) for name in ("person_id", "outfit_id"))
        return (
            contrast(identity, self.identity(rows["identity_description"]), persons)
            + contrast(identity, self.caption(captions), persons)
            + contrast(clothing, self.clothing(rows["clothing_description"]), outfits)
            + contrast(clothing, self.clothing_caption(captions), outfits)
        )


def block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.GELU()


def grams(text: str) -> list[str]:
    words = re.findall("[a-z]+", text.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def contrast(images: torch.Tensor, texts: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of both directions, whose target is spread over all pairs of equal id."""
    similarity = images @ texts.T / TEMPERATURE
    target = nn.functional.normalize((ids[:, None] == ids).float(), p=1, dim=1)
    return (nn.functional.cross_entropy(similarity, target) + nn.functional.cross_entropy(similarity.T, target)) / 2


def read_images(dataset: Dataset) -> torch.Tensor:
    """(N, 3, height, width) of bytes."""
    images = [np.asarray(image.convert("RGB")) for image in tqdm(dataset["image"], desc="Reading", leave=False)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def draw_batches(dataset: Dataset, seed: int) -> Iterator[list[int]]:
    """Rows of `PERSONS` persons, each in two outfits."""
    persons, outfits = (read_column(dataset, name) for name in ("person_id", "outfit_id"))
    sampler = PersonBatchSampler(persons, PERSONS, 2, outfits, seed)
    for epoch in count():
        sampler.set_epoch(epoch)
        for draws in sampler:
            yield [draw.row for draw in draws]


def train(dataset: Dataset, steps: int, seed: int) -> TwoTower:
    set_seed(seed)
    images, random = read_images(dataset), Random(seed)
    columns = {name: read_column(dataset, name) for name in ("captions", *TEXTS, "person_id", "outfit_id")}
    texts = chain(chain.from_iterable(columns["captions"]), *(columns[name] for name in TEXTS))
    most_common = Counter(gram for text in texts for gram in grams(text)).most_common(WORDS)
    model = TwoTower({gram: number for number, (gram, _) in enumerate(most_common)})
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for _, rows in zip(tqdm(range(steps), desc="Training"), draw_batches(dataset, seed), strict=False):
        batch = {name: [values[row] for row in rows] for name, values in columns.items()}
        pixels = images[rows].flip(-1) if random.random() < 0.5 else images[rows]
        loss = model.loss(pixels, batch, [random.choice(captions) for captions in batch["captions"]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def embed(model: TwoTower, dataset: Dataset) -> Features:
    """The embeddings of a split, as those of any other model."""
    parts = zip(*(model.image(images) for images in read_images(dataset).split(128)), strict=True)
    identity, clothing = (torch.cat(part) for part in parts)
    rows, texts = {}, {}
    for kind, pairs in query_sentences(dataset).items():
        rows[kind], texts[kind] = zip(*pairs, strict=True)
    return Features(
        galleries={"image": identity},
        clothing=clothing,
        queries={
            "caption": model.caption(texts["caption"]),
            "identity_description": model.identity(texts["identity_description"]),
        },
        clothing_queries={"caption": model.clothing_caption(texts["caption"])},
        query_images={kind: torch.tensor(images) for kind, images in rows.items()},
        query_lengths={kind: torch.tensor([*map(len, sentences)]) for kind, sentences in texts.items()},
        gallery_images=torch.arange(len(dataset)),
        person_ids=torch.tensor(read_column(dataset, "person_id")),
        outfit_ids=torch.tensor(read_column(dataset, "outfit_id")),
    )


def hits(features: Features, clothing_weight: float) -> list[np.ndarray]:
    """For each of the searches, whether each query (Q,) finds its person first; NaN where it has nobody to find."""
    found = []
    for protocol, query, with_clothing in SEARCHES:
        ranks = rank(features, protocol, "image", query, clothing_weight if with_clothing else 0.0)
        found.append(ranks.is_first_right.numpy())
    return found


def compare(found: dict[str, list[np.ndarray]], features: Features) -> dict[str, dict]:
    """R-1 of each model, and how far each is ahead of the two towers, by search; both are printed, too."""
    figures = {}
    for number, (protocol, query, with_clothing) in enumerate(SEARCHES):
        persons = features.person_ids[features.query_images[query]].numpy()
        right = {model: searches[number] for model, searches in found.items()}
        r1 = {model: round(100 * float(np.nanmean(queries)), 1) for model, queries in right.items()}
        plain = right.pop(PLAIN)
        ahead = {model: str(interval(queries - plain, persons)) for model, queries in right.items()}
        search = f"{protocol}, {query}, {'mix' if with_clothing else 'identity alone'}"
        figures[search] = {"r1": r1, "ahead": ahead}
        print(f"{search}: {r1}, ahead by {ahead}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    splits = {name: load_split(arguments.data, name) for name in ("train", "validation", "test")}
    start = time.process_time()
    towers = train(splits["train"], arguments.steps, arguments.seed)
    minutes = (time.process_time() - start) / 60
    validation, features = (embed(towers, splits[name]) for name in ("validation", "test"))
    weight = max(TENTHS, key=lambda weight: score(validation, "standard", "image", "caption", weight).r1)
    found = {PLAIN: hits(features, weight)}
    for model in arguments.models:
        encoder, store = load_encoder(model), feature_store(model, splits["test"], batch_size=64, mixed_precision="no")
        own = extract_features(encoder, splits["test"], store=store)
        found[model] = hits(own, encoder.model.config.clothing_weight)
    figures = compare(found, features)
    run = {"steps": arguments.steps, "seed": arguments.seed, "minutes": round(minutes, 1), "clothing_weight": weight}
    print(json.dumps({"benchmark": "two_tower", **run, **figures}))


if __name__ == "__main__":
    main()
