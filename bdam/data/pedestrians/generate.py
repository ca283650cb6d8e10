"""Generates a data set of pedestrians in several outfits, with captions and descriptions, from attributes."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from random import Random

from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from ..schema import PEDESTRIAN_FEATURES
from .attributes import COLORS, Identity, Outfit, count_identities, draw_identity, draw_outfit
from .drawing import draw_pedestrian
from .view import draw_view
from .wording import write_caption, write_clothing_description, write_identity_description


CAPTIONS_PER_IMAGE = 2


@dataclass(frozen=True)
class Person:
    """A person to be drawn."""

    split: str
    person_id: int
    identity: Identity


@dataclass(frozen=True)
class Plan:
    """The images to draw of each person."""

    outfits_per_person: int
    images_per_outfit: int
    train_images_per_outfit: int
    image_size: tuple[int, int]
    seed: int


def generate_pedestrians(
    num_train_persons: int,
    num_validation_persons: int,
    num_test_persons: int,
    outfits_per_person: int = 2,
    images_per_outfit: int = 2,
    image_size: tuple[int, int] = (256, 128),
    seed: int = 0,
    num_proc: int = 1,
    train_images_per_outfit: int | None = None,
) -> DatasetDict:
    """A data set of drawn pedestrians with captions and descriptions.

    No two persons share all their identity attributes, so the splits are disjoint in person ids and in looks.
    The outfits of one person differ in the color of the upper garment and in the lower garment or its color.

    Args:
        num_train_persons: Persons in the split `train`.
        num_validation_persons: Persons in the split `validation`.
        num_test_persons: Persons in the split `test`.
        outfits_per_person: Outfits of each person.
        images_per_outfit: Images of each person in each outfit, from independently drawn views.
        image_size: `(height, width)` in pixels.
        seed: The same seed and counts give the same data set, whatever `num_proc`.
        num_proc: Number of processes that draw.
        train_images_per_outfit: Those of each person of the split `train`; by default as many.

    Returns:
        The splits `train`, `validation` and `test`, in memory, with the columns of `PEDESTRIAN_FEATURES`. A
        split without persons is left out: `datasets` cannot read an empty one back from disk.

    Raises:
        ValueError: A count is out of range, or more persons are asked for than there are distinct identities.
    """
    counts = {"train": num_train_persons, "validation": num_validation_persons, "test": num_test_persons}
    train_images = images_per_outfit if train_images_per_outfit is None else train_images_per_outfit
    plan = Plan(outfits_per_person, images_per_outfit, train_images, image_size, seed)
    _check(counts, plan, num_proc)
    persons = list(_draw_persons(counts, seed))
    rows: dict[str, list[dict]] = {split: [] for split in counts}
    drawn = _draw_all(persons, plan, num_proc)
    progress = tqdm(drawn, total=len(persons), desc="Drawing pedestrians", unit="person", leave=False)
    for person, person_rows in zip(persons, progress, strict=True):
        rows[person.split].extend(person_rows)
    return DatasetDict(
        {split: Dataset.from_list(rows[split], PEDESTRIAN_FEATURES, split=split) for split in counts if rows[split]}
    )


def _check(counts: dict[str, int], plan: Plan, num_proc: int) -> None:
    for split, count in counts.items():
        if count < 0:
            raise ValueError(f"num_{split}_persons must not be negative, got {count}.")
    if not any(counts.values()):
        raise ValueError("There is nothing to draw: all numbers of persons are 0; ask for at least one person.")
    if sum(counts.values()) > count_identities():
        raise ValueError(
            f"{sum(counts.values())} persons were asked for, but there are only {count_identities()} distinct "
            "identities; ask for fewer persons, or for more outfits and images of each."
        )
    if not 1 <= plan.outfits_per_person <= len(COLORS):
        raise ValueError(
            f"outfits_per_person must be between 1 and {len(COLORS)}, the number of colors in which the outfits "
            f"of a person can differ, got {plan.outfits_per_person}."
        )
    for name in ("images_per_outfit", "train_images_per_outfit"):
        if getattr(plan, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(plan, name)}.")
    if min(plan.image_size) < 16:
        raise ValueError(f"image_size must be (height, width) of at least 16 pixels each, got {plan.image_size}.")
    if num_proc < 1:
        raise ValueError(f"num_proc must be at least 1, got {num_proc}.")


def _draw_persons(counts: dict[str, int], seed: int) -> Iterator[Person]:
    person_id, seen = 0, set()
    for split, count in counts.items():
        for _ in range(count):
            random = Random(f"{seed}/identity/{person_id}")
            identity = draw_identity(random)
            while identity in seen:
                identity = draw_identity(random)
            seen.add(identity)
            yield Person(split, person_id, identity)
            person_id += 1


def _draw_all(persons: list[Person], plan: Plan, num_proc: int) -> Iterator[list[dict]]:
    draw = partial(_draw_person, plan=plan)
    if num_proc == 1:
        yield from map(draw, persons)
        return
    with ProcessPoolExecutor(num_proc) as pool:
        yield from pool.map(draw, persons, chunksize=8)


def _draw_person(person: Person, plan: Plan) -> list[dict]:
    outfits = _draw_wardrobe(Random(f"{plan.seed}/outfits/{person.person_id}"), plan.outfits_per_person)
    return [
        _draw_row(person, outfit, outfit_index, image_index, plan)
        for outfit_index, outfit in enumerate(outfits)
        for image_index in range(plan.train_images_per_outfit if person.split == "train" else plan.images_per_outfit)
    ]


def _draw_wardrobe(random: Random, count: int) -> list[Outfit]:
    """Outfits of which any two differ in the color of the upper garment, and in the lower garment or its color."""
    wardrobe: list[Outfit] = []
    while len(wardrobe) < count:
        outfit = draw_outfit(random)
        if all(_is_change(outfit, other) for other in wardrobe):
            wardrobe.append(outfit)
    return wardrobe


def _is_change(outfit: Outfit, other: Outfit) -> bool:
    same_lower = (outfit.lower, outfit.lower_colour) == (other.lower, other.lower_colour)
    return outfit.upper_colour != other.upper_colour and not same_lower


def _draw_row(person: Person, outfit: Outfit, outfit_index: int, image_index: int, plan: Plan) -> dict:
    random = Random(f"{plan.seed}/image/{person.person_id}/{outfit_index}/{image_index}")
    view = draw_view(random)
    image = BytesIO()
    draw_pedestrian(person.identity, outfit, view, plan.image_size).save(image, format="PNG")
    return {
        "image": {"bytes": image.getvalue(), "path": None},
        "image_id": f"{person.split}/{person.person_id:04d}/{outfit_index}/{image_index:02d}.png",
        "person_id": person.person_id,
        "outfit_id": person.person_id * plan.outfits_per_person + outfit_index,
        "captions": [write_caption(person.identity, outfit, view, random) for _ in range(CAPTIONS_PER_IMAGE)],
        "identity_description": write_identity_description(person.identity, random),
        "clothing_description": write_clothing_description(outfit, random),
        "identity_attributes": asdict(person.identity),
        "clothing_attributes": asdict(outfit),
    }
