from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import SENTENCES, tiny_model

from bdam.data.batches import AUGMENTATIONS, Draw, PersonBatchSampler, TrainingCollator, TrainingRows, augment_image


PERSONS = [p for p in range(10) for _ in range(5)] + [10]


def test_a_batch_holds_p_persons_with_k_images_each():
    sampler = PersonBatchSampler(PERSONS, persons_per_batch=4, images_per_person=2)
    batches = [[draw.row for draw in batch] for batch in sampler]
    assert len(batches) == len(sampler) == 4
    for batch in batches:
        assert sorted(Counter(PERSONS[i] for i in batch).values()) == [2] * 4
    # A lone image stands in for its own pair; no other image is seen twice in an epoch.
    assert all(PERSONS[i] == 10 for i, count in Counter(sum(batches, [])).items() if count > 1)


def test_batches_depend_on_seed_and_epoch_alone():
    def epoch(seed: int, number: int) -> list[list[Draw]]:
        sampler = PersonBatchSampler(PERSONS, 4, 2, seed=seed)
        sampler.set_epoch(number)
        torch.manual_seed(torch.seed())
        return list(sampler)

    assert epoch(0, 3) == epoch(0, 3)
    assert epoch(0, 3) != epoch(0, 4)
    assert epoch(0, 3) != epoch(1, 3)


def test_impossible_batches_are_named():
    with pytest.raises(ValueError, match="`persons_per_batch` is 12, but the split has 11 persons"):
        PersonBatchSampler(PERSONS, 12, 2)
    with pytest.raises(ValueError, match="one image only"):
        PersonBatchSampler(range(10), 4, 2)


def rows(processor, count: int = 64, descriptions: Sequence[str | None] = SENTENCES[1:3]) -> list[dict]:
    identity, clothing = descriptions
    record = {
        "image": Image.new("RGB", (16, 32)),
        "person_id": 7,
        "captions": SENTENCES[:1],
        "identity_description": identity,
        "clothing_description": clothing,
    }
    records = [{**record, "image_id": f"{seed}.png"} for seed in range(count)]
    training_rows = TrainingRows(Dataset.from_list(records), processor, keep=False)
    return [training_rows[Draw(seed, seed)] for seed in range(count)]


@pytest.mark.parametrize("description_dropout", [0.0, 0.5, 1.0])
def test_captions_ask_and_descriptions_are_dropped(processor, description_dropout):
    batch = TrainingCollator(processor, description_dropout, augment=[])(rows(processor))
    for prefix, sentence in (("", SENTENCES[0]), ("clothing_", SENTENCES[2])):
        ids = processor(text=sentence, return_tensors="pt")["input_ids"][0]
        assert (batch[f"{prefix}input_ids"] == ids).all()
    described = batch["identity_attention_mask"].any(dim=1)
    assert described.float().mean().item() == pytest.approx(1 - description_dropout, abs=0.2)
    assert batch["person_ids"].tolist() == [7] * 64
    assert len(set(batch["clothing_text_ids"].tolist())) == 1


@pytest.mark.parametrize("keep", [False, True])
def test_rows_hold_preprocessed_images(processor, keep):
    texts = {"captions": SENTENCES[:2], "identity_description": SENTENCES[1], "clothing_description": ""}
    images = [Image.new("RGB", (20, 40), color) for color in ("red", "navy")]
    dataset = Dataset.from_list([{"image": image, **texts} for image in images])
    training_rows = TrainingRows(dataset, processor, keep)
    for index in (0, 1, 0):
        expected = processor(images=images[index], return_tensors="pt")["pixel_values"][0]
        row = training_rows[Draw(index, seed=5)]
        assert torch.equal(row["pixel_values"], expected) and row["seed"] == 5
        assert row["captions"] == processor(text=SENTENCES[:2], padding=False)["input_ids"]
        assert row["identity_description"] == row["captions"][1] and row["clothing_description"] is None
    assert len(training_rows) == 2
    first, again = (training_rows[Draw(0, seed=5)] for _ in range(2))
    assert (first["pixel_values"] is again["pixel_values"]) == keep


def test_augmentation_moves_flips_and_erases():
    image = torch.linspace(1, 2, 48 * 24).reshape(1, 48, 24).expand(3, -1, -1)
    random = Random(0)
    augmented = torch.stack([augment_image(image, random) for _ in range(64)])
    assert augmented.shape == (64, 3, 48, 24)
    erased = augmented.eq(0).flatten(1).float().mean(dim=1)
    assert 0.3 < erased.gt(0).float().mean() < 0.7
    assert erased.max() < 0.25
    untouched = torch.stack([augment_image(image, random, ["flip"]) for _ in range(64)])
    straight = (untouched == image).flatten(1).all(dim=1)
    flipped = (untouched == image.flip(-1)).flatten(1).all(dim=1)
    assert (straight ^ flipped).all() and 0.3 < flipped.float().mean() < 0.7


def test_chance_comes_with_the_draw(processor):
    collator = TrainingCollator(processor, 0.5, AUGMENTATIONS)
    torch.manual_seed(torch.seed())
    whole, part = collator(rows(processor, 8)), collator(rows(processor, 8)[4:])
    assert torch.equal(whole["pixel_values"][4:], part["pixel_values"])
    assert torch.equal(whole["input_ids"][4:, : part["input_ids"].shape[1]], part["input_ids"])
    assert whole["image_ids"][4:] == part["image_ids"] == ["4.png", "5.png", "6.png", "7.png"]


@pytest.mark.parametrize("missing", [None, ""])
def test_an_image_that_nobody_described_trains_by_its_captions_alone(processor, missing):
    undescribed = rows(processor, 8, [missing, missing])
    collator = TrainingCollator(processor, 0.0, augment=[])
    batch = collator(undescribed + rows(processor, 8))
    caption = processor(text=SENTENCES[0], return_tensors="pt")["input_ids"][0]
    for name in ("input_ids", "clothing_input_ids"):
        assert (batch[name][:8, : len(caption)] == caption).all()
    assert not batch["identity_attention_mask"][:8].any() and batch["identity_attention_mask"][8:].any()
    alone = collator(undescribed)
    assert torch.equal(alone["input_ids"], batch["input_ids"][:8, : alone["input_ids"].shape[1]])
    outputs = tiny_model()(**{key: value for key, value in alone.items() if key != "image_ids"}, return_loss=True)
    assert all(loss.isfinite() for loss in outputs.loss_dict.values())


def test_descriptions_weigh_as_their_samples_agree(processor):
    told = rows(processor, 32)
    for row in told[:16]:
        row |= {"identity_agreement": 0.25, "clothing_agreement": 0.75}
    told[16] |= {"identity_agreement": None, "clothing_agreement": None}
    told[0] |= {"clothing_description": None}  # the clothing stream learns from the caption
    batch = TrainingCollator(processor, 0.5, augment=[], weigh_by_agreement=True)(told)
    is_described = batch["identity_attention_mask"].any(dim=1)
    assert 0 < is_described[:16].sum() < 16
    assert batch["identity_agreement"][:16].tolist() == [0.25 if there else 1.0 for there in is_described[:16]]
    assert batch["identity_agreement"][16:].tolist() == [1.0] * 16
    assert batch["clothing_agreement"].tolist() == [1.0] + [0.75] * 15 + [1.0] * 16
    unweighed = TrainingCollator(processor, 0.5, augment=[])(told)
    assert unweighed.keys() == batch.keys() - {"identity_agreement", "clothing_agreement"}


OUTFITS = [0, 0, 0, 1, 1, 2]


def test_a_person_changes_clothes_within_a_batch():
    sampler = PersonBatchSampler([0] * 6 + [1] * 6, 2, 2, outfit_ids=OUTFITS * 2)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        first, second, _ = sampler
        for batch in (first, second):
            for group in (batch[:2], batch[2:]):
                assert len({OUTFITS[draw.row % 6] for draw in group}) == 2
