from dataclasses import asdict, fields, replace
from itertools import combinations
from random import Random

import pytest
from datasets import load_from_disk
from PIL import ImageChops

from bdam.data.pedestrians import (
    Identity,
    Outfit,
    View,
    contact_sheet,
    count_identities,
    draw_identity,
    draw_outfit,
    draw_pedestrian,
    draw_view,
    generate_pedestrians,
)
from bdam.data.pedestrians.attributes import (
    AGES,
    BAGS,
    BEARDS,
    BUILDS,
    COLORS,
    GENDERS,
    GLASSES,
    HAIR_COLORS,
    HAIR_STYLES,
    HATS,
    HEIGHTS,
    NONE,
    PATTERNS,
    SCARVES,
    SHOES,
    SKIN_TONES,
    UPPERS,
)
from bdam.data.schema import CLOTHING_ATTRIBUTES, FEATURES, IDENTITY_ATTRIBUTES, PEDESTRIAN_FEATURES


SIZE = (96, 48)
SMALL = {
    "num_train_persons": 5,
    "num_validation_persons": 2,
    "num_test_persons": 3,
    "image_size": (48, 24),
}

PERSON = Identity("man", "young", "average", "average", "short", "brown", "tan", NONE, NONE)
BARE_HEADED = Outfit(
    "t-shirt", "red", "striped", "white", "trousers", "navy", "trainers", "white", "backpack", "black", *[NONE] * 4
)
COMPLETE = replace(BARE_HEADED, hat="cap", hat_colour="green", scarf="scarf", scarf_colour="yellow")

IDENTITY_VALUES = {
    "gender": GENDERS,
    "age": AGES,
    "build": BUILDS,
    "height": HEIGHTS,
    "hair_style": tuple(dict.fromkeys(HAIR_STYLES["man"] + HAIR_STYLES["woman"])),
    "hair_colour": HAIR_COLORS,
    "skin_tone": SKIN_TONES,
    "glasses": GLASSES,
    "beard": BEARDS["man"],
}
CLOTHING_VALUES = {
    "upper": UPPERS,
    "upper_colour": COLORS,
    "pattern": PATTERNS["shirt"],
    "pattern_colour": COLORS,
    "lower": ("trousers", "jeans", "shorts", "skirt", "leggings"),
    "lower_colour": COLORS,
    "shoes": SHOES,
    "shoes_colour": COLORS,
    "bag": BAGS,
    "bag_colour": COLORS,
    "hat": tuple(dict.fromkeys(HATS)),
    "hat_colour": COLORS,
    "scarf": tuple(dict.fromkeys(SCARVES)),
    "scarf_colour": COLORS,
}


@pytest.fixture(scope="module")
def pedestrians():
    return generate_pedestrians(**SMALL)


def changed_pixels(first, second):
    """How many pixels differ clearly in some channel."""
    difference = ImageChops.difference(first, second).split()
    brightest = ImageChops.lighter(ImageChops.lighter(difference[0], difference[1]), difference[2])
    return sum(brightest.histogram()[24:])


def visible_change(first, second):
    """Changed pixels between two (identity, outfit) pairs in the view where they differ most."""
    views = [View(viewpoint=viewpoint) for viewpoint in ("front", "right", "back")]
    return max(
        changed_pixels(draw_pedestrian(*first, view, SIZE), draw_pedestrian(*second, view, SIZE)) for view in views
    )


@pytest.mark.parametrize("attribute", IDENTITY_VALUES)
def test_every_identity_attribute_is_visible(attribute):
    for first, second in combinations(IDENTITY_VALUES[attribute], 2):
        pair = [(replace(PERSON, **{attribute: value}), BARE_HEADED) for value in (first, second)]
        assert visible_change(*pair) >= 12, (first, second)


@pytest.mark.parametrize("attribute", CLOTHING_VALUES)
def test_every_clothing_attribute_is_visible(attribute):
    values = CLOTHING_VALUES[attribute]
    # All pairs of the small vocabularies, neighbors of the large one.
    for first, second in combinations(values, 2) if len(values) < 8 else zip(values, values[1:], strict=False):
        pair = [(PERSON, replace(COMPLETE, **{attribute: value})) for value in (first, second)]
        assert visible_change(*pair) >= 12, (first, second)


def test_height_shows_as_height_in_any_view():
    random = Random(0)
    for _ in range(20):
        view, outfit = replace(draw_view(random), grain=0), draw_outfit(random)
        tops = []
        for height in HEIGHTS:
            # What two persons of different looks, but equal height, change in the scene is where they stand.
            looks = [
                replace(PERSON, height=height, skin_tone=tone, hair_style="bald", hair_colour=NONE)
                for tone in ("light", "dark")
            ]
            first, second = (draw_pedestrian(look, replace(outfit, hat=NONE), view, SIZE) for look in looks)
            tops.append(ImageChops.difference(first, second).convert("L").point(lambda x: 255 * (x > 40)).getbbox()[1])
        short, average, tall = tops
        assert short > average > tall


def test_drawing_is_deterministic_and_has_the_size_asked_for():
    view = draw_view(Random(1))
    first, second = (draw_pedestrian(PERSON, COMPLETE, view, (70, 50)) for _ in range(2))
    assert first.size == (50, 70) and first.mode == "RGB"
    assert first.tobytes() == second.tobytes()


def test_all_combinations_can_be_drawn():
    random = Random(2)
    for _ in range(300):
        draw_pedestrian(draw_identity(random), draw_outfit(random), draw_view(random), (32, 16))


def test_vocabulary_rules():
    random = Random(3)
    for _ in range(1000):
        identity, outfit = draw_identity(random), draw_outfit(random)
        assert (identity.hair_colour == NONE) == (identity.hair_style == "bald")
        assert identity.beard == NONE or identity.gender == "man"
        assert (outfit.pattern == "plain") == (outfit.pattern_colour == NONE)
        assert outfit.pattern_colour != outfit.upper_colour
        assert (outfit.bag == NONE) == (outfit.bag_colour == NONE)


def test_count_identities_is_reached_and_never_exceeded():
    random = Random(4)
    assert count_identities() == 27 * 4 * 2 * (21 * 3 + 25)
    seen = {draw_identity(random) for _ in range(150_000)}
    assert 0.97 * count_identities() < len(seen) <= count_identities()


def test_schema(pedestrians):
    assert list(pedestrians) == ["train", "validation", "test"]
    assert [len(split) for split in pedestrians.values()] == [20, 8, 12]
    for split in pedestrians.values():
        assert split.features == PEDESTRIAN_FEATURES
        assert split.column_names[: len(FEATURES)] == list(FEATURES)
    assert tuple(field.name for field in fields(Identity)) == IDENTITY_ATTRIBUTES
    assert tuple(field.name for field in fields(Outfit)) == CLOTHING_ATTRIBUTES
    row = pedestrians["test"][0]
    assert row["image"].size == (24, 48)
    assert row["image_id"] == "test/0007/0/00.png"
    assert len(row["captions"]) == 2


def test_persons_and_images_are_unique_over_splits(pedestrians):
    rows = [row for split in pedestrians.values() for row in split.remove_columns("image")]
    assert len({row["image_id"] for row in rows}) == len(rows)
    persons = {row["person_id"]: tuple(row["identity_attributes"].values()) for row in rows}
    assert len(persons) == len(set(persons.values())) == 10
    outfits = {row["outfit_id"]: tuple(row["clothing_attributes"].values()) for row in rows}
    assert len(outfits) == 20
    for row in rows:
        assert tuple(row["identity_attributes"].values()) == persons[row["person_id"]]
        assert tuple(row["clothing_attributes"].values()) == outfits[row["outfit_id"]]


def test_outfits_of_a_person_differ_at_first_sight():
    rows = generate_pedestrians(0, 0, 6, outfits_per_person=3, images_per_outfit=1, image_size=(32, 16))["test"]
    view = View()
    for first, second in combinations(rows, 2):
        if first["person_id"] != second["person_id"]:
            continue
        assert first["clothing_attributes"]["upper_colour"] != second["clothing_attributes"]["upper_colour"]
        identity = Identity(**first["identity_attributes"])
        images = [
            draw_pedestrian(identity, Outfit(**row["clothing_attributes"]), view, SIZE) for row in (first, second)
        ]
        assert changed_pixels(*images) > 300


def test_generation_depends_on_the_seed_alone(pedestrians):
    again = generate_pedestrians(**SMALL, num_proc=2)
    other = generate_pedestrians(**SMALL, seed=1)
    for split in pedestrians:
        assert again[split].to_list() == pedestrians[split].to_list()
        assert other[split].to_list() != pedestrians[split].to_list()


def test_disk_round_trip(pedestrians, tmp_path):
    pedestrians.save_to_disk(tmp_path)
    loaded = load_from_disk(tmp_path)
    for split in pedestrians:
        assert loaded[split].features == pedestrians[split].features
        assert loaded[split].to_list() == pedestrians[split].to_list()


def test_a_split_without_persons_is_left_out():
    assert list(generate_pedestrians(1, 0, 1, image_size=(32, 16))) == ["train", "test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_test_persons": -1}, "num_test_persons"),
        ({"num_train_persons": 0, "num_validation_persons": 0, "num_test_persons": 0}, "nothing to draw"),
        ({"num_train_persons": count_identities()}, "distinct identities"),
        ({"outfits_per_person": 0}, "outfits_per_person"),
        ({"outfits_per_person": 99}, "outfits_per_person"),
        ({"images_per_outfit": 0}, "images_per_outfit"),
        ({"image_size": (128, 0)}, "image_size"),
        ({"num_proc": 0}, "num_proc"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_pedestrians(**{**SMALL, **arguments})


def test_contact_sheet_shows_each_outfit_once(pedestrians):
    sheet = contact_sheet(pedestrians["train"], rows=2, columns=2)
    margin, gap = 4, 2
    assert sheet.size == (2 * (2 * 24 + gap + margin) + margin, 2 * (48 + margin) + margin)
    first, second = pedestrians["train"][0], pedestrians["train"][2]
    assert first["outfit_id"] != second["outfit_id"]
    assert sheet.crop((4, 4, 28, 52)).tobytes() == first["image"].tobytes()
    assert sheet.crop((30, 4, 54, 52)).tobytes() == second["image"].tobytes()
    with pytest.raises(ValueError, match="needs 6"):
        contact_sheet(pedestrians["train"], rows=3, columns=2)


def test_attributes_are_labelled_by_name(pedestrians):
    row = pedestrians["train"][0]
    assert asdict(Identity(**row["identity_attributes"])) == row["identity_attributes"]
    assert asdict(Outfit(**row["clothing_attributes"])) == row["clothing_attributes"]


def test_the_training_split_can_have_more_people_in_fewer_images():
    data = generate_pedestrians(3, 1, 2, 2, 2, image_size=(32, 16), train_images_per_outfit=1)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 6, "validation": 4, "test": 8}
    alike = generate_pedestrians(3, 1, 2, 2, 2, image_size=(32, 16))
    assert data["test"][:]["captions"] == alike["test"][:]["captions"]
    with pytest.raises(ValueError, match="train_images_per_outfit must be at least 1, got 0"):
        generate_pedestrians(1, 0, 0, train_images_per_outfit=0)
