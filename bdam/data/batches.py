"""From rows of a data set to batches of tensors: person-balanced sampling, choice of texts, augmentation."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Sampler


class PersonBatchSampler(Sampler[list[int]]):
    """
    Batches of P persons with K pictures each, so that every picture meets others of the same person.

    An epoch deals each person's shuffled pictures out in hands of K; a person with fewer than K fills the hand up with
    repetitions. Round after round, each person plays one hand, in random order; a round's last, incomplete batch is
    dropped.

    Args:
        person_ids: who is on each picture of the data set.
        persons_per_batch: P.
        pictures_per_person: K, at least 2.
        seed: two samplers of equal seed and epoch give the same batches.

    Raises:
        ValueError: if the data set has fewer than P persons, or no person with two pictures.
    """

    def __init__(self, person_ids: Sequence[int], persons_per_batch: int, pictures_per_person: int, seed: int = 0):
        self.pictures = defaultdict(list)
        for index, person in enumerate(person_ids):
            self.pictures[person].append(index)
        if len(self.pictures) < persons_per_batch:
            raise ValueError(
                f"`persons_per_batch` is {persons_per_batch}, but the split has {len(self.pictures)} persons: "
                "lower it."
            )
        if max(map(len, self.pictures.values())) < 2:
            raise ValueError("Each person of the split has one picture only: the triplet loss has no positives.")
        self.persons_per_batch = persons_per_batch
        self.pictures_per_person = pictures_per_person
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        hands = [self._num_hands(pictures) for pictures in self.pictures.values()]
        return sum(sum(n > turn for n in hands) // self.persons_per_batch for turn in range(max(hands)))

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        hands = {person: self._deal(pictures, generator) for person, pictures in self.pictures.items()}
        for turn in range(max(map(len, hands.values()))):
            players = [person for person in hands if len(hands[person]) > turn]
            players = [players[i] for i in torch.randperm(len(players), generator=generator).tolist()]
            for start in range(0, len(players) - self.persons_per_batch + 1, self.persons_per_batch):
                batch = players[start : start + self.persons_per_batch]
                yield [index for person in batch for index in hands[person][turn]]

    def _num_hands(self, pictures: list[int]) -> int:
        return max(len(pictures) // self.pictures_per_person, 1)

    def _deal(self, pictures: list[int], generator: torch.Generator) -> list[list[int]]:
        shuffled = [pictures[i] for i in torch.randperm(len(pictures), generator=generator).tolist()]
        size = self.pictures_per_person
        cards = [shuffled[i % len(shuffled)] for i in range(size * self._num_hands(pictures))]
        return [cards[i : i + size] for i in range(0, len(cards), size)]


class TrainingRows(Dataset):
    """
    Rows of a data set, their pictures preprocessed: `pixel_values` in place of `image`.

    Args:
        dataset: rows of the schema.
        image_processor: the picture half of a [`BDAMProcessor`].
        keep: whether rows stay in memory once they were read, which saves a small model most of its waiting.
    """

    def __init__(self, dataset, image_processor, keep: bool):
        self.dataset = dataset
        self.image_processor = image_processor
        self.keep = keep
        self.rows: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        if index in self.rows:
            return self.rows[index]
        row = self.dataset[index]
        row["pixel_values"] = self.image_processor(row.pop("image"), return_tensors="pt")["pixel_values"][0]
        if self.keep:
            self.rows[index] = row
        return row


class TrainingCollator:
    """
    [`TrainingRows`] → the model's fields, with the random choices of training.

    The query of a sample is one of its captions or, with probability `identity_query`, its identity description, so
    that the model also learns to be asked for a person alone. The fusion sees the identity description of the picture
    unless the query just said the same, or the description is dropped (with probability `description_dropout`): a
    model that can match text with text would never look at the picture.

    The clothing stream learns from the clothing description or, with probability `caption_alignment`, from a caption,
    so that it also understands the whole sentences that people search with.

    Args:
        processor: a [`BDAMProcessor`].
        description_dropout: probability per sample that the fusion sees the picture alone.
        identity_query: probability per sample that the query is the identity description.
        caption_alignment: probability per sample that a caption stands in for the clothing description.
        augment: whether pictures are flipped, shifted and partly erased.
    """

    def __init__(
        self, processor, description_dropout: float, identity_query: float, caption_alignment: float, augment: bool
    ):
        self.processor = processor
        self.description_dropout = description_dropout
        self.identity_query = identity_query
        self.caption_alignment = caption_alignment
        self.augment = augment

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        queries, descriptions, clothing = zip(*map(self._choose_texts, rows), strict=True)
        batch = self.processor(
            text=queries,
            identity_text=descriptions,
            clothing_text=clothing,
            return_tensors="pt",
        )
        pixel_values = torch.stack([row["pixel_values"] for row in rows])
        if self.augment:
            pixel_values = augment_pictures(pixel_values)
        return {**batch, "pixel_values": pixel_values, "person_ids": torch.tensor([row["person_id"] for row in rows])}

    def _choose_texts(self, row: dict) -> tuple[str, str | None, str]:
        """The query, the description that the fusion sees, and the text that the clothing stream learns from."""
        ask_for_identity, drop_description, align_caption, which = torch.rand(4).tolist()
        caption = row["captions"][int(which * len(row["captions"]))]
        clothing = caption if align_caption < self.caption_alignment else row["clothing_description"]
        if ask_for_identity < self.identity_query:
            return row["identity_description"], None, clothing
        return caption, None if drop_description < self.description_dropout else row["identity_description"], clothing


def augment_pictures(pixel_values: torch.Tensor, shift: float = 0.05, erase: float = 0.5) -> torch.Tensor:
    """
    Flips half of the pictures, shifts each by up to `shift` of its size, and erases a rectangle of each with
    probability `erase` (Zhong et al. 2020), as text-to-image person retrieval commonly does.

    Args:
        pixel_values: normalised pictures of shape `(batch_size, num_channels, height, width)`.
    """
    height, width = pixel_values.shape[-2:]
    max_down, max_right = round(shift * height), round(shift * width)
    padded = torch.nn.functional.pad(pixel_values, (max_right, max_right, max_down, max_down), mode="replicate")
    augmented = torch.empty_like(pixel_values)
    for picture, source, (flip, down, right, *hole) in zip(
        augmented, padded, torch.rand(len(pixel_values), 7).tolist(), strict=True
    ):
        top, left = int(down * (2 * max_down + 1)), int(right * (2 * max_right + 1))
        view = source[:, top : top + height, left : left + width]
        picture.copy_(view.flip(-1) if flip < 0.5 else view)
        if hole[0] < erase:
            _erase(picture, *hole[1:])
    return augmented


def _erase(picture: torch.Tensor, area: float, x: float, y: float) -> None:
    """Sets a square of 2 to 20 % of the picture to the mean colour, 0 after normalisation."""
    height, width = picture.shape[-2:]
    side = int(((0.02 + 0.18 * area) * height * width) ** 0.5)
    top, left = int(y * max(height - side, 0)), int(x * max(width - side, 0))
    picture[:, top : top + side, left : left + side] = 0
