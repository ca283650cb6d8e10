"""Who a sentence speaks of: the person, or what they wear."""

from itertools import pairwise
from random import Random

import pytest

from bdam.captions.lexicon import attributes, mentions
from bdam.data.pedestrians import (
    draw_identity,
    draw_outfit,
    draw_view,
    write_caption,
    write_clothing_description,
    write_identity_description,
)
from bdam.data.pedestrians.attributes import NONE


@pytest.mark.parametrize("seed", [0, 1])
def test_generated_descriptions_keep_to_their_subject_and_tell_all_of_it(seed):
    random = Random(seed)
    for _ in range(300):
        outfit = draw_outfit(random)
        identity_text = write_identity_description(draw_identity(random), random)
        clothing_text = write_clothing_description(outfit, random)
        assert attributes("clothing", identity_text) == {}, identity_text
        assert attributes("identity", clothing_text) == {}, clothing_text
        identity = {"gender", "age", "build", "height", "hair", "skin", "face"}
        assert set(attributes("identity", identity_text)) == identity, identity_text
        extras = {"bag": outfit.bag, "hat": outfit.hat, "accessory": outfit.scarf}
        clothing = {"colour", "upper", "lower", "shoes"} | {name for name, item in extras.items() if item != NONE}
        assert clothing <= set(attributes("clothing", clothing_text)), clothing_text


@pytest.mark.parametrize(
    "text",
    [
        "A hairband, a hair clip and a hair scarf.",
        "Skinny jeans with a slim fit and a loose-fitting tank top.",
        "A black dress shirt with dress pants and high heels.",
        "Running shoes, hiking boots and a walking jacket.",
        "Slim black trousers, a short, black skirt and a long, light coat.",
        "A heavy, thin or large jacket that fits well.",
        "The jeans are slim and dark. The skirt is short.",
        "A thick woollen scarf with fringe.",
        "A baby-blue T-shirt, boyfriend jeans and a dad cap.",
        "Old sneakers and an old-fashioned hat.",
        "An upright collar on a coat with a stripe running down the side.",
        "A cap sits low, and a logo stands out.",
        "Barefoot, in skin-tight leggings and a camel hair coat.",
        "A narrow belt, a broad-brimmed hat and wide-leg pants.",
        "A face mask, sunglasses and tall black boots with medium heels.",
        "A body warmer over a bodysuit with a snakeskin print.",
    ],
)
def test_clothes_have_no_body(text):
    assert attributes("identity", text) == {}
    assert attributes("clothing", text)


@pytest.mark.parametrize(
    "text",
    [
        "A man with short black hair and brown eyes.",
        "She has long, wavy, light brown hair in a top knot.",
        "A 25-year-old male of athletic build, of about average height.",
        "His hair is black and cut short; his beard is grey.",
        "Hair longer on top, tied in a bun at the top of the head.",
        "He looks fit, and is broad-shouldered with a dark complexion.",
        "A black woman with a bob cut.",
        "Dark-haired, fair-skinned girl, standing and facing away.",
        "Build: slim. Height: tall. Hair: black. Skin: light.",
    ],
)
def test_bodies_wear_nothing(text):
    assert attributes("clothing", text) == {}
    assert attributes("identity", text)


@pytest.mark.parametrize(
    "text, identity, clothing",
    [
        (
            "A young man with brown hair in a brown coat and skinny jeans.",
            {"gender": "man", "age": "young", "hair": "brown hair"},
            {"colour": "brown", "upper": "coat", "lower": "jeans"},
        ),
        (
            "Her short black hair falls on a short red skirt.",
            {"gender": "her", "hair": "short black hair"},
            {"colour": "red", "lower": "skirt"},
        ),
        ("He is tall, black hair, black shoes.", {"gender": "he", "height": "tall", "hair": "black hair"}, None),
        ("A woman with red hair dressed in black.", {"gender": "woman", "hair": "red hair"}, {"colour": "black"}),
        ("A white man in blue.", {"gender": "man", "skin": "white"}, {"colour": "blue"}),
        ("The man is wearing a T-shirt and is slim.", {"gender": "man", "build": "slim"}, {"upper": "t-shirt"}),
        ("She is thin, medium height.", {"gender": "she", "build": "thin", "height": "medium height"}, {}),
        ("A lady in a floral dress.", {"gender": "lady"}, {"upper": "dress", "lower": "dress", "pattern": "floral"}),
        ("Grey polo-shirts.", {}, {"colour": "grey", "upper": "polo shirt"}),
        ("A GRAY TSHIRT and two scarves", {}, {"colour": "grey", "upper": "t-shirt", "accessory": "scarf"}),
        ("Women with jewelry", {"gender": "woman"}, {"accessory": "jewellery"}),
        ("A street with a green tree and no one in it.", {}, {}),
        ("", {}, {}),
    ],
)
def test_each_word_belongs_to_one_of_the_two(text, identity, clothing):
    assert attributes("identity", text) == identity
    if clothing is not None:
        found = attributes("clothing", text)
        assert {name: term for name, term in found.items() if name != "outfit"} == clothing


def test_mentions_of_any_caption_are_in_order_and_apart():
    random = Random(0)
    for _ in range(300):
        caption = write_caption(draw_identity(random), draw_outfit(random), draw_view(random), random)
        found = mentions(caption)
        assert all(before.end <= after.start for before, after in pairwise(found)), caption
        assert "gender" in attributes("identity", caption), caption
        assert {"upper", "colour"} <= set(attributes("clothing", caption)), caption


def test_mentions_say_where():
    text = "A young man with short black hair wears a black leather jacket, tight jeans and running shoes."
    found = mentions(text)
    places = [text[mention.start : mention.end] for mention in found]
    assert places == [
        *("young", "man", "short black hair", "black", "leather", "jacket"),
        *("tight", "jeans", "running", "shoes"),
    ]
    assert [mention.term for mention in found[-4:]] == ["jeans", "jeans", "shoe", "shoe"]
