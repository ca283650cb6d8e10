"""
From rows of a data set to batches of tensors: person-balanced sampling, choice of texts, augmentation.

All randomness comes from the sampler: it gives every image a seed of its own. A batch is therefore the same for any
number of workers and processes, and after a run is resumed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import zip_longest
from random import Random
from typing import Literal, NamedTuple, get_args

import torch.utils.data
from datasets import Dataset, Features, List, Value
from torch.utils.data import Sampler

from bdam.data.images import decode_image
from bdam.data.schema import TEXT_COLUMNS


Tokens = list[int]
# The random changes of [`augment_image`].
Augmentation = Literal["flip", "shift", "erase"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
TOKENS = List(Value("int32"))
TOKEN_FEATURES = Features(dict(zip(TEXT_COLUMNS, (List(TOKENS), TOKENS, TOKENS), strict=True)))


class Draw(NamedTuple):
    """A row that the sampler chose, and the seed of all random choices that are made for it."""

    row: int
    seed: int


class PersonBatchSampler(Sampler[list[Draw]]):
    """
    Batches of P persons with K images each, so that every image meets others of the same person.

    An epoch splits each person's images into random groups of K, in as many different outfits as there are; a person
    with fewer than K images is repeated. Each batch takes one group each of P random persons; the last, incomplete
    batches are dropped. Several processes share each batch in equal parts (accelerate's `split_batches`).

    Args:
        person_ids: who is on each image of the data set.
        persons_per_batch: P, of all processes together.
        images_per_person: K, at least 2.
        outfit_ids: which outfit each image shows; None where nobody knows.
        seed: two samplers of equal seed and epoch give the same batches.

    Raises:
        ValueError: if the data set has fewer than P persons, or no person with two images.
    """

    def __init__(
        self,
        person_ids: Sequence[int],
        persons_per_batch: int,
        images_per_person: int,
        outfit_ids: Sequence[int | None] | None = None,
        seed: int = 0,
    ):
        self.images = defaultdict(list)
        for index, person in enumerate(person_ids):
            self.images[person].append(index)
        if len(self.images) < persons_per_batch:
            raise ValueError(
                f"`persons_per_batch` is {persons_per_batch}, but the split has {len(self.images)} persons: lower it."
            )
        if max(map(len, self.images.values())) < 2:
            raise ValueError("Each person of the split has one image only: the triplet loss has no positives.")
        self.persons_per_batch = persons_per_batch
        self.images_per_person = images_per_person
        self.outfit_ids = outfit_ids or [None] * len(person_ids)
        self.batch_size = persons_per_batch * images_per_person
        self.drop_last = True
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        counts = [self._num_groups(images) for images in self.images.values()]
        return sum(sum(n > turn for n in counts) // self.persons_per_batch for turn in range(max(counts)))

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        groups = {person: self._group(images, generator) for person, images in self.images.items()}
        for turn in range(max(map(len, groups.values()))):
            persons = [person for person in groups if len(groups[person]) > turn]
            persons = [persons[i] for i in torch.randperm(len(persons), generator=generator).tolist()]
            for start in range(0, len(persons) - self.persons_per_batch + 1, self.persons_per_batch):
                batch = persons[start : start + self.persons_per_batch]
                indices = [index for person in batch for index in groups[person][turn]]
                seeds = torch.randint(2**62, (len(indices),), generator=generator).tolist()
                yield [Draw(*draw) for draw in zip(indices, seeds, strict=True)]

    def _num_groups(self, images: list[int]) -> int:
        return max(len(images) // self.images_per_person, 1)

    def _group(self, images: list[int], generator: torch.Generator) -> list[list[int]]:
        shuffled = [images[i] for i in torch.randperm(len(images), generator=generator).tolist()]
        by_outfit = defaultdict(list)
        for index in shuffled:
            by_outfit[self.outfit_ids[index]].append(index)
        turns = zip_longest(*by_outfit.values())
        changing = [index for turn in turns for index in turn if index is not None]
        size = self.images_per_person
        repeated = [changing[i % len(changing)] for i in range(size * self._num_groups(images))]
        return [repeated[i : i + size] for i in range(0, len(repeated), size)]


class TrainingRows(torch.utils.data.Dataset):
    """
    Rows of a data set for the draws of the sampler: `pixel_values` in place of `image`, token ids in place of texts
    (None where there is none), and the draw's `seed`. All texts are tokenized once, when this is built.

    Args:
        dataset: rows of the schema.
        processor: a [`BDAMProcessor`].
        keep: whether rows stay in memory once they were read, which saves a small model most of its waiting.
    """

    def __init__(self, dataset: Dataset, processor, keep: bool):
        self.rows = dataset.remove_columns(list(TEXT_COLUMNS))
        self.tokens = dataset.select_columns(list(TEXT_COLUMNS)).map(
            tokenize_texts,
            batched=True,
            fn_kwargs={"processor": processor},
            features=TOKEN_FEATURES,
            keep_in_memory=True,
            desc="Tokenizing",
        )
        self.processor = processor
        self.keep = keep
        self.read: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict:
        row = self.read[draw.row] if draw.row in self.read else self._read(draw.row)
        return {**row, "seed": draw.seed}

    def _read(self, index: int) -> dict:
        row = {**self.rows[index], **self.tokens[index]}
        images = self.processor.image_processor(row.pop("image"), return_tensors="pt")
        row["pixel_values"] = images["pixel_values"][0]
        if self.keep:
            self.read[index] = row
        return row


def tokenize_texts(columns: dict[str, list], processor) -> dict[str, list]:
    """The token ids of the captions and descriptions of several rows; None for a description that is not there."""
    captions = columns["captions"]
    ids = iter(processor.tokenize([text for texts in captions for text in texts]))
    tokens: dict[str, list] = {"captions": [[next(ids) for _ in texts] for texts in captions]}
    for name in TEXT_COLUMNS[1:]:
        ids = iter(processor.tokenize([text for text in columns[name] if text]))
        tokens[name] = [next(ids) if text else None for text in columns[name]]
    return tokens


class TrainingCollator:
    """
    [`TrainingRows`] → the model's fields and `image_ids`, with the random choices of training.

    The query of a sample is one of its captions. The fusion sees the identity description of the image unless it is
    dropped, or there is none. The clothing stream learns from the clothing description or, where there is none, from
    the caption.

    Args:
        processor: a [`BDAMProcessor`].
        description_dropout: probability per sample that its identity description is dropped.
        augment: what is done to images, see [`augment_image`].
        weigh_by_agreement: whether descriptions weigh as much as their samples agree: `identity_agreement` and
            `clothing_agreement`. Captions, and descriptions of which there was but one, weigh 1.
    """

    def __init__(
        self, processor, description_dropout: float, augment: Sequence[str], weigh_by_agreement: bool = False
    ):
        self.processor = processor
        self.description_dropout = description_dropout
        self.augment = augment
        self.weigh_by_agreement = weigh_by_agreement

    def __call__(self, rows: list[dict]) -> dict:
        randoms = [Random(row["seed"]) for row in rows]
        texts = [self._choose_texts(row, random) for row, random in zip(rows, randoms, strict=True)]
        captions, identity, clothing = zip(*texts, strict=True)
        batch = self.processor.pad(captions, identity, clothing, return_tensors="pt")
        images = [row["pixel_values"] for row in rows]
        if self.augment:
            images = [
                augment_image(image, random, self.augment) for image, random in zip(images, randoms, strict=True)
            ]
        if self.weigh_by_agreement:
            batch["identity_agreement"] = _agreement("identity", rows, identity)
            batch["clothing_agreement"] = _agreement("clothing", rows, clothing)
        return {
            **batch,
            "pixel_values": torch.stack(images),
            "person_ids": torch.tensor([row["person_id"] for row in rows]),
            "clothing_text_ids": torch.tensor([text_id(text) for text in clothing]),
            "image_ids": [row["image_id"] for row in rows],
        }

    def _choose_texts(self, row: dict, random: Random) -> tuple[Tokens, Tokens | None, Tokens]:
        """A caption, the identity description or None, and what the clothing stream learns from."""
        caption = random.choice(row["captions"])
        is_dropped = random.random() < self.description_dropout
        identity = None if is_dropped else row["identity_description"]
        return caption, identity, row["clothing_description"] or caption


class StreamCollator:
    """Opens and tokenizes rows of a stream, and hands them to a [`TrainingCollator`], which makes a batch of them."""

    def __init__(self, processor, collate: TrainingCollator):
        self.processor = processor
        self.collate = collate

    def __call__(self, rows: list[dict]) -> dict:
        columns = {name: [row[name] for row in rows] for name in TEXT_COLUMNS}
        tokens = tokenize_texts(columns, self.processor)
        images = [decode_image(row["image"], row["image_id"]) for row in rows]
        pixel_values = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        texts = ({name: values[index] for name, values in tokens.items()} for index in range(len(rows)))
        drawn = zip(rows, texts, pixel_values, strict=True)
        return self.collate([{**row, **text, "pixel_values": pixels} for row, text, pixels in drawn])


def text_id(tokens: Tokens) -> int:
    """A number for a text, the same in every process; texts that differ share one with probability 2⁻⁶³."""
    return int.from_bytes(blake2b(str(tokens).encode(), digest_size=8).digest(), "big") >> 1


def _agreement(kind: str, rows: list[dict], texts: Sequence[Tokens | None]) -> torch.Tensor:
    """How far the samples agree of those texts (B,) that are descriptions of this kind; 1 for all others."""
    shares = [
        row.get(f"{kind}_agreement") if text == row[f"{kind}_description"] else None
        for row, text in zip(rows, texts, strict=True)
    ]
    return torch.tensor([1.0 if share is None else share for share in shares])


def augment_image(image: torch.Tensor, random: Random, augment: Sequence[str] = AUGMENTATIONS) -> torch.Tensor:
    """
    The random changes by which text-to-image person retrieval commonly augments images.

    Args:
        image: normalized image of shape `(num_channels, height, width)`.
        random: where chance comes from.
        augment: `"shift"` by up to 5 % of its size, `"flip"` with probability ½, `"erase"` a square with probability ½
            (Zhong et al. 2020).
    """
    image = _shift(image, random) if "shift" in augment else image.clone()
    if "flip" in augment and random.random() < 0.5:
        image = image.flip(-1)
    if "erase" in augment and random.random() < 0.5:
        _erase(image, random)
    return image


def _shift(image: torch.Tensor, random: Random) -> torch.Tensor:
    """Moves the image by up to 5 % of its size, and repeats its edges beyond."""
    height, width = image.shape[-2:]
    max_down, max_right = round(0.05 * height), round(0.05 * width)
    padding = (max_right, max_right, max_down, max_down)
    padded = torch.nn.functional.pad(image[None], padding, mode="replicate")[0]
    top, left = random.randint(0, 2 * max_down), random.randint(0, 2 * max_right)
    return padded[:, top : top + height, left : left + width].clone()


def _erase(image: torch.Tensor, random: Random) -> None:
    """Sets a square of 2 to 20 % of the image to the mean colour, 0 after normalization."""
    height, width = image.shape[-2:]
    side = int((random.uniform(0.02, 0.20) * height * width) ** 0.5)
    top, left = int(random.random() * max(height - side, 0)), int(random.random() * max(width - side, 0))
    image[:, top : top + side, left : left + side] = 0
