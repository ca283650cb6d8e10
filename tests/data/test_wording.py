import re
from dataclasses import replace
from random import Random

import pytest

from bdam.data.pedestrians import Identity, Outfit, View, draw_identity, draw_outfit, draw_view
from bdam.data.pedestrians.attributes import COLORS, NONE
from bdam.data.pedestrians.wording import (
    GARMENTS,
    write_caption,
    write_clothing_description,
    write_identity_description,
)


def words(text):
    return re.findall(r"[a-z]+", text.lower())


FUNCTION_WORDS = set(words("a an and at for from he her his in is it of on or she the this to with no"))
CLOTHING_WORDS = set(words(" ".join(name for names in GARMENTS.values() for name in names))) | set(
    words("clothes clothing garment wear wears wearing worn dressed outfit attire striped checked dotted hat bag")
)
BODY_WORDS = set(
    words(
        "man woman male female guy lady he she his her person individual young youthful elderly older senior mature "
        "tall short stature height slim slender stout build physique frame hair locks bald scalp beard moustache "
        "whiskers glasses spectacles skin complexion face head"
    )
)
PLURALS = "trousers|jeans|shorts|leggings|trainers|sneakers|boots|shoes"
BEFORE_PLURALS = "|".join((*COLORS, "plain", "straight", "denim", "leather", "flat"))


@pytest.fixture(scope="module")
def draws():
    random = Random(0)
    cases = [(draw_identity(random), draw_outfit(random), draw_view(random)) for _ in range(4000)]
    return [
        (
            write_caption(identity, outfit, view, random),
            write_identity_description(identity, random),
            write_clothing_description(outfit, random),
        )
        for identity, outfit, view in cases
    ]


def runs(text, length):
    tokens = words(text)
    return {tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)}


def test_caption_and_identity_description_share_no_content_word(draws):
    for caption, identity, _ in draws:
        assert not (set(words(caption)) & set(words(identity))) - FUNCTION_WORDS, (caption, identity)


def test_no_word_of_any_caption_is_in_any_identity_description(draws):
    captions = {word for caption, _, _ in draws for word in words(caption)}
    identities = {word for _, identity, _ in draws for word in words(identity)}
    assert captions & identities <= FUNCTION_WORDS


def test_captions_and_descriptions_share_no_run_of_four_words(draws):
    for caption, identity, clothing in draws:
        assert not runs(caption, 4) & (runs(identity, 4) | runs(clothing, 4)), (caption, identity, clothing)


def test_descriptions_keep_to_their_subject(draws):
    for _, identity, clothing in draws:
        assert not set(words(identity)) & CLOTHING_WORDS, identity
        assert not set(words(clothing)) & BODY_WORDS, clothing


def test_texts_are_well_formed(draws):
    for text in (text for texts in draws for text in texts):
        assert re.fullmatch(r"([A-Z][^.]*\. )?[A-Z][^.]*\.", text), text
        assert not re.search(r"  | ,|,,|\{|none|\ban? (?![a-zA-Z])", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\ba an?\b|\ban an?\b", text, re.IGNORECASE), text
        assert not re.search(rf"\ban? (({BEFORE_PLURALS}) )*({PLURALS})\b", text, re.IGNORECASE), text
        assert not re.search(r"\b(\w+) \1\b", text), text


def test_descriptions_tell_every_attribute():
    person = Identity("man", "young", "average", "average", "short", "brown", "tan", "glasses", "beard")
    outfit = Outfit(
        "shirt", "red", "striped", "white", "trousers", "navy", "boots", "black", "handbag", "pink", *[NONE] * 4
    )
    for seed in range(20):
        description = write_identity_description(person, Random(seed))
        for change in (
            {"gender": "woman", "beard": NONE},
            {"age": "elderly"},
            {"build": "heavy"},
            {"height": "tall"},
            {"hair_style": "long"},
            {"hair_colour": "grey"},
            {"skin_tone": "dark"},
            {"glasses": NONE},
            {"beard": NONE},
        ):
            assert write_identity_description(replace(person, **change), Random(seed)) != description, change
        description = write_clothing_description(outfit, Random(seed))
        for word in ("shirt", "red", "white", "trousers", "navy", "boots", "black", "handbag", "pink"):
            assert word in description, (word, description)
        assert "hat or scarf" in description


def test_captions_omit_what_the_view_hides():
    person = Identity("man", "young", "slim", "tall", "short", "brown", "tan", "glasses", "beard")
    outfit = draw_outfit(Random(0))
    front = {word for seed in range(50) for word in words(write_caption(person, outfit, View(), Random(seed)))}
    view = View(viewpoint="back")
    back = {word for seed in range(50) for word in words(write_caption(person, outfit, view, Random(seed)))}
    assert {"glasses", "beard"} <= front
    assert not {"glasses", "beard"} & back


def test_captions_vary_and_mostly_mention_each_attribute():
    person = Identity("woman", "elderly", "slim", "tall", "ponytail", "black", "dark", "glasses", NONE)
    outfit = Outfit(
        "coat", "red", "plain", NONE, "jeans", "blue", "boots", "green", *["backpack", "pink"], *[NONE] * 4
    )
    captions = [write_caption(person, outfit, View(), Random(seed)) for seed in range(400)]
    assert len(set(captions)) > 390
    for word in ("tall", "black", "dark", "glasses", "blue", "green", "pink"):
        assert 0.75 < sum(word in caption for caption in captions) / len(captions) < 1.0, word
    assert all("red" in caption for caption in captions)


def test_wording_is_deterministic():
    def texts(seed):
        random = Random(seed)
        identity, outfit, view = draw_identity(random), draw_outfit(random), draw_view(random)
        return (
            write_caption(identity, outfit, view, random),
            write_identity_description(identity, random),
            write_clothing_description(outfit, random),
        )

    assert texts(5) == texts(5)
    assert texts(5) != texts(6)


def test_colors_of_clothes_never_describe_an_identity(draws):
    for _, identity, _ in draws:
        assert not set(words(identity)) & set(COLORS), identity
