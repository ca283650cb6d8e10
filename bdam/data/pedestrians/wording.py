"""Writes captions and descriptions of generated pedestrians.

A caption is a query, as people write it. The two descriptions belong to an image of the gallery, as language models
write them: the identity description has no word about clothing, the clothing description none about the body. A
caption shares no content word with the identity description, and no four consecutive words with either description,
so that no model can find images by equal words.
"""

from random import Random

from .attributes import NONE, Identity, Outfit
from .view import View


Phrases = dict[str, tuple[str, ...]]

# Caption phrases go before the noun, unless they begin with a preposition.
CAPTION_GENDER: Phrases = {"man": ("man", "man", "guy"), "woman": ("woman", "woman", "lady")}
CAPTION_HEIGHT: Phrases = {
    "short": ("short", "rather short"),
    "average": ("of average height", "of medium height"),
    "tall": ("tall", "very tall"),
}
CAPTION_BUILD: Phrases = {
    "slim": ("slim", "thin", "of slim build"),
    "average": ("of average build", "of medium build", "of normal build"),
    "heavy": ("heavy-set", "stocky", "of heavy build"),
}
CAPTION_AGE: Phrases = {
    "young": ("young", "in {possessive} twenties", "young"),
    "middle-aged": ("middle-aged", "in {possessive} forties", "in {possessive} fifties"),
    "elderly": ("elderly", "older", "in {possessive} seventies"),
}
CAPTION_SKIN: Phrases = {
    "light": ("light skin", "fair skin"),
    "tan": ("tan skin", "tanned skin"),
    "brown": ("brown skin", "medium brown skin"),
    "dark": ("dark skin", "very dark skin"),
}
CAPTION_HAIR_COLOR: Phrases = {
    "black": ("black",),
    "brown": ("brown",),
    "blond": ("blond", "blonde"),
    "red": ("red", "ginger"),
    "grey": ("grey",),
}
CAPTION_HAIR: Phrases = {
    "bald": ("a bald head", "no hair", "a hairless head"),
    "short": ("short {color} hair", "{color} hair cut short"),
    "curly": ("curly {color} hair", "{color} curls"),
    "long": ("long {color} hair", "{color} hair worn long"),
    "ponytail": ("a {color} ponytail", "{color} hair in a ponytail", "{color} hair tied back"),
    "bun": ("a {color} bun", "{color} hair in a bun", "{color} hair put up"),
}
CAPTION_GLASSES: Phrases = {"glasses": ("glasses", "a pair of glasses")}
CAPTION_BEARD: Phrases = {"beard": ("a beard", "a full beard"), "moustache": ("a moustache",)}

DESCRIPTION_GENDER: Phrases = {"man": ("male", "male individual"), "woman": ("female", "female individual")}
DESCRIPTION_HEIGHT: Phrases = {
    "short": ("low stature", "petite stature", "compact stature"),
    "average": ("moderate stature", "ordinary stature", "intermediate stature"),
    "tall": ("towering stature", "considerable stature", "imposing stature"),
}
DESCRIPTION_BUILD: Phrases = {
    "slim": ("a slender frame", "a lean physique", "a narrow frame"),
    "average": ("a balanced physique", "a proportionate frame", "an even physique"),
    "heavy": ("a stout frame", "a bulky physique", "an ample frame"),
}
DESCRIPTION_AGE: Phrases = {
    "young": ("youthful", "in early adulthood"),
    "middle-aged": ("mature", "in midlife"),
    "elderly": ("senior", "in late adulthood"),
}
DESCRIPTION_SKIN: Phrases = {
    "light": ("a pale complexion", "an ivory complexion"),
    "tan": ("a bronzed complexion", "an olive complexion"),
    "brown": ("an umber complexion", "a sienna complexion"),
    "dark": ("a deep complexion", "an ebony complexion"),
}
DESCRIPTION_HAIR_COLOR: Phrases = {
    "black": ("raven", "jet"),
    "brown": ("chestnut", "hazel"),
    "blond": ("golden", "flaxen"),
    "red": ("auburn", "copper"),
    "grey": ("silver", "silvery"),
}
DESCRIPTION_HAIR: Phrases = {
    "bald": ("a bare scalp", "a smooth scalp", "an uncovered scalp"),
    "short": ("closely cropped {color} locks", "{color} locks trimmed close to the scalp"),
    "curly": ("springy {color} ringlets", "a frizzy {color} mop", "{color} ringlets"),
    "long": ("{color} tresses flowing over the shoulders", "flowing {color} locks"),
    "ponytail": ("{color} locks gathered at the nape", "{color} tresses gathered low at the nape"),
    "bun": ("a {color} chignon", "{color} locks twisted into a knot"),
}
DESCRIPTION_GLASSES: Phrases = {
    "glasses": ("spectacles", "eyewear", "corrective lenses"),
    NONE: ("no spectacles", "no eyewear", "no lenses before the eyes"),
}
DESCRIPTION_BEARD: Phrases = {
    "beard": ("whiskers along the jaw", "thick whiskers around the chin"),
    "moustache": ("whiskers above the upper lip", "whiskers beneath the nose"),
    NONE: ("a clean-shaven jaw", "a clean-shaven chin"),
}

GARMENTS: Phrases = {
    "t-shirt": ("T-shirt",),
    "shirt": ("shirt", "button-up shirt"),
    "hoodie": ("hoodie", "hooded sweatshirt"),
    "jacket": ("jacket", "zip-up jacket"),
    "coat": ("coat", "belted coat"),
    "dress": ("dress", "flared dress"),
    "trousers": ("trousers", "straight trousers"),
    "jeans": ("jeans", "denim jeans"),
    "shorts": ("shorts",),
    "skirt": ("skirt",),
    "leggings": ("leggings",),
    "trainers": ("trainers", "sneakers"),
    "boots": ("boots", "leather boots"),
    "shoes": ("shoes", "flat shoes"),
    "backpack": ("backpack", "rucksack"),
    "handbag": ("handbag",),
    "shoulder bag": ("shoulder bag", "crossbody bag"),
    "cap": ("cap", "baseball cap"),
    "beanie": ("beanie", "bobble hat"),
    "scarf": ("scarf",),
}
PLURALS = {"trousers", "jeans", "shorts", "leggings", "trainers", "boots", "shoes"}
CAPTION_PATTERNS: Phrases = {
    NONE: ("{color} {garment}",),
    "plain": ("{color} {garment}", "plain {color} {garment}"),
    "striped": ("{color} and {second} striped {garment}", "{second}-striped {color} {garment}"),
    "checked": ("{color} and {second} checked {garment}", "{second}-checked {color} {garment}"),
    "dotted": ("{color} and {second} dotted {garment}", "{second}-dotted {color} {garment}"),
}
DESCRIPTION_PATTERNS: Phrases = {
    NONE: ("{garment} in {color}", "{garment} coloured {color}"),
    "plain": ("{garment} in plain {color}", "plain {garment} in {color}", "{garment} all in {color}"),
    "striped": ("{garment} in {color} with {second} stripes", "{garment} of {color} with stripes in {second}"),
    "checked": ("{garment} in {color} with {second} checks", "{garment} of {color} with checks in {second}"),
    "dotted": ("{garment} in {color} with {second} dots", "{garment} of {color} with dots in {second}"),
}

SEEN_FROM_FRONT: tuple[tuple[str, str], ...] = (
    ("walks towards the camera", "stands facing the camera"),
    ("comes closer", "waits"),
)
SEEN_FROM_BACK: tuple[tuple[str, str], ...] = (
    ("walks away", "stands seen from behind"),
    ("heads off", "stands facing away"),
)
SEEN_FROM_SIDE: tuple[tuple[str, str], ...] = (
    ("walks past", "stands in profile"),
    ("walks by", "stands sideways"),
)
PLACES: Phrases = {
    "house": ("in front of a house", "near a front door"),
    "shop": ("outside a shop", "near a shop window"),
    "park": ("in a park", "near some trees"),
    "square": ("on a square", "near a street lamp"),
    "station": ("inside a station", "near a tiled wall"),
}

# Captions may omit these; the upper garment and the gender are always mentioned.
OMITTABLE = (
    "height",
    "build",
    "age",
    "skin_tone",
    "hair",
    "glasses",
    "beard",
    "lower",
    "shoes",
    "bag",
    "hat",
    "scarf",
)


def write_caption(identity: Identity, outfit: Outfit, view: View, random: Random) -> str:
    """A caption of one or two sentences, about body and clothes.

    It omits up to two attributes, and what the view hides or the person does not have.
    """
    mentioned = set(OMITTABLE) - set(random.sample(OMITTABLE, random.randint(0, 2)))
    subject = _caption_subject(identity, mentioned, random)
    features = _join(_caption_features(identity, view, mentioned, random))
    clothes = _join(_caption_clothes(outfit, mentioned, random))
    bag = _caption_item(outfit.bag, outfit.bag_colour, random) if outfit.bag != NONE and "bag" in mentioned else ""
    action = _action(view, random)
    pronoun = {"man": "He", "woman": "She"}[identity.gender]
    return random.choice(CAPTION_FRAMES)(subject, features, clothes, bag, action, pronoun)


def _one_sentence(subject: str, features: str, clothes: str, bag: str, action: str, pronoun: str) -> str:
    carrying = f", carrying {bag}" if bag else ""
    return _sentence(f"{subject}{_with(features)} {action} in {clothes}{carrying}")


def _clothes_first(subject: str, features: str, clothes: str, bag: str, action: str, pronoun: str) -> str:
    carrying = f" while carrying {bag}" if bag else ""
    return _sentence(f"dressed in {clothes}{carrying}, {subject}{_with(features)} {action}")


def _face_last(subject: str, features: str, clothes: str, bag: str, action: str, pronoun: str) -> str:
    carries = f" and carries {bag}" if bag else ""
    second = f"{pronoun} has {features} and {action}" if features else f"{pronoun} {action}"
    return f"{_sentence(f'{subject} is wearing {clothes}{carries}')} {_sentence(second)}"


def _clothes_last(subject: str, features: str, clothes: str, bag: str, action: str, pronoun: str) -> str:
    carries = f" and has {bag}" if bag else ""
    return f"{_sentence(f'{subject}{_with(features)} {action}')} {_sentence(f'{pronoun} wears {clothes}{carries}')}"


CAPTION_FRAMES = (_one_sentence, _clothes_first, _face_last, _clothes_last)


def write_identity_description(identity: Identity, random: Random) -> str:
    """A description of all attributes of the identity, in one or two sentences."""
    possible_traits = [
        random.choice(DESCRIPTION_BUILD[identity.build]),
        _hair(identity, DESCRIPTION_HAIR, DESCRIPTION_HAIR_COLOR, random),
        random.choice(DESCRIPTION_SKIN[identity.skin_tone]),
        random.choice(DESCRIPTION_GLASSES[identity.glasses]),
    ]
    if identity.gender == "man":
        possible_traits.append(random.choice(DESCRIPTION_BEARD[identity.beard]))
    traits = random.sample(possible_traits, len(possible_traits))
    age = random.choice(DESCRIPTION_AGE[identity.age])
    noun = random.choice(DESCRIPTION_GENDER[identity.gender])
    stature = random.choice(DESCRIPTION_HEIGHT[identity.height])
    subject = f"{noun} of {stature} {age}" if age.startswith("in ") else f"{age} {noun} of {stature}"
    return random.choice(IDENTITY_FRAMES)(_article(subject), traits)


def _traits_in_one(subject: str, traits: list[str]) -> str:
    return _sentence(f"this is {subject} showing {_join(traits)}")


def _traits_apart(subject: str, traits: list[str]) -> str:
    return f"{_sentence(f'the image depicts {subject}')} {_sentence(f'distinguishing traits include {_join(traits)}')}"


def _traits_split(subject: str, traits: list[str]) -> str:
    opening = _sentence(f"{subject} appears, displaying {_join(traits[:2])}")
    return f"{opening} {_sentence(f'also visible: {_join(traits[2:])}')}"


def _traits_first(subject: str, traits: list[str]) -> str:
    return _sentence(f"{_join(traits)} characterise {subject}")


IDENTITY_FRAMES = (_traits_in_one, _traits_apart, _traits_split, _traits_first)


def write_clothing_description(outfit: Outfit, random: Random) -> str:
    """A description of all garments and accessories, and of absent accessories, in two sentences."""
    upper = _described(outfit.upper, outfit.upper_colour, random, outfit.pattern, outfit.pattern_colour)
    lower = _described(outfit.lower, outfit.lower_colour, random)
    shoes = _described(outfit.shoes, outfit.shoes_colour, random)
    extras = [
        _described(item, color, random)
        for item, color in (
            (outfit.hat, outfit.hat_colour),
            (outfit.scarf, outfit.scarf_colour),
            (outfit.bag, outfit.bag_colour),
        )
        if item != NONE
    ]
    absent = [
        name for name, item in (("hat", outfit.hat), ("scarf", outfit.scarf), ("bag", outfit.bag)) if item == NONE
    ]
    random.shuffle(extras)
    accessories = random.choice(ACCESSORY_FRAMES)(extras, absent)
    return f"{random.choice(CLOTHING_FRAMES)(upper, lower, shoes)} {accessories}"


def _outfit_combines(upper: str, lower: str, shoes: str) -> str:
    return _sentence(f"the outfit combines {upper}, {lower} and {shoes}")


def _top_and_bottom(upper: str, lower: str, shoes: str) -> str:
    return _sentence(f"the top is {upper}, paired below with {lower}, while the footwear is {shoes}")


def _from_the_ground(upper: str, lower: str, shoes: str) -> str:
    return _sentence(f"from bottom to top, the attire comprises {shoes}, {lower} and {upper}")


def _main_garment(upper: str, lower: str, shoes: str) -> str:
    return _sentence(f"{upper} forms the main garment, matched by {lower} plus {shoes}")


CLOTHING_FRAMES = (_outfit_combines, _top_and_bottom, _from_the_ground, _main_garment)


def _accessories_listed(extras: list[str], absent: list[str]) -> str:
    missing = f"no {_join(absent, 'or')}"
    if not extras:
        return _sentence(f"there is {missing}")
    return _sentence(f"accessories include {_join(extras)}" + (f", but {missing}" if absent else ""))


def _accessories_added(extras: list[str], absent: list[str]) -> str:
    missing = f"without any {_join(absent, 'or')}"
    if not extras:
        return _sentence(f"the look remains {missing}")
    return _sentence(f"the look is completed by {_join(extras)}" + (f", {missing}" if absent else ""))


ACCESSORY_FRAMES = (_accessories_listed, _accessories_added)


def _caption_subject(identity: Identity, mentioned: set[str], random: Random) -> str:
    """The person with adjectives, build and age: "a tall young woman of medium build"."""
    possessive = {"man": "his", "woman": "her"}[identity.gender]
    figure = [
        random.choice(table[getattr(identity, name)])
        for name, table in (("height", CAPTION_HEIGHT), ("build", CAPTION_BUILD))
        if name in mentioned
    ]
    age = random.choice(CAPTION_AGE[identity.age]).format(possessive=possessive) if "age" in mentioned else ""
    qualities = _join([phrase.removeprefix("of ") for phrase in figure if phrase.startswith("of ")])
    # "A tall, slim young man": a comma between adjectives of the same kind, none before the age.
    adjectives = ", ".join(phrase for phrase in figure if not phrase.startswith("of "))
    noun = random.choice(CAPTION_GENDER[identity.gender])
    age_before, age_after = ("", age) if age.startswith("in ") else (age, "")
    person = _article(" ".join(filter(None, [adjectives, age_before, noun])))
    return " ".join(filter(None, [person, qualities and f"of {qualities}", age_after]))


def _caption_features(identity: Identity, view: View, mentioned: set[str], random: Random) -> list[str]:
    features = []
    if "hair" in mentioned:
        features.append(_hair(identity, CAPTION_HAIR, CAPTION_HAIR_COLOR, random))
    if "skin_tone" in mentioned:
        features.append(random.choice(CAPTION_SKIN[identity.skin_tone]))
    if not view.viewpoint.startswith("back"):
        if identity.beard != NONE and "beard" in mentioned:
            features.append(random.choice(CAPTION_BEARD[identity.beard]))
        if identity.glasses != NONE and "glasses" in mentioned:
            features.append(random.choice(CAPTION_GLASSES[identity.glasses]))
    random.shuffle(features)
    return features


def _caption_clothes(outfit: Outfit, mentioned: set[str], random: Random) -> list[str]:
    upper = _caption_item(outfit.upper, outfit.upper_colour, random, outfit.pattern, outfit.pattern_colour)
    rest = [
        _caption_item(item, color, random)
        for name, item, color in (
            ("lower", outfit.lower, outfit.lower_colour),
            ("shoes", outfit.shoes, outfit.shoes_colour),
            ("hat", outfit.hat, outfit.hat_colour),
            ("scarf", outfit.scarf, outfit.scarf_colour),
        )
        if item != NONE and name in mentioned
    ]
    if random.random() < 0.3:
        random.shuffle(rest)
    return [upper, *rest]


def _caption_item(item: str, color: str, random: Random, pattern: str = NONE, second: str = NONE) -> str:
    return _garment(CAPTION_PATTERNS, item, color, random, pattern, second)


def _described(item: str, color: str, random: Random, pattern: str = NONE, second: str = NONE) -> str:
    return _garment(DESCRIPTION_PATTERNS, item, color, random, pattern, second)


def _garment(patterns: Phrases, item: str, color: str, random: Random, pattern: str, second: str) -> str:
    garment = random.choice(GARMENTS[item])
    phrase = random.choice(patterns[pattern]).format(garment=garment, color=color, second=second)
    return phrase if item in PLURALS else _article(phrase)


def _hair(identity: Identity, styles: Phrases, colors: Phrases, random: Random) -> str:
    """A phrase for style and color of the hair; the article, where there is one, follows the color."""
    style = random.choice(styles[identity.hair_style])
    if identity.hair_colour == NONE:
        return style
    phrase = style.format(color=random.choice(colors[identity.hair_colour]))
    return _article(phrase.removeprefix("a ")) if phrase.startswith("a ") else phrase


def _action(view: View, random: Random) -> str:
    if view.viewpoint.startswith("front"):
        actions = SEEN_FROM_FRONT
    elif view.viewpoint.startswith("back"):
        actions = SEEN_FROM_BACK
    else:
        actions = SEEN_FROM_SIDE
    walking, standing = random.choice(actions)
    action = walking if view.is_walking else standing
    return f"{action} {random.choice(PLACES[view.scene])}" if random.random() < 0.25 else action


def _with(features: str) -> str:
    return f" with {features}" if features else ""


def _join(phrases: list[str], conjunction: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} {conjunction} {phrases[-1]}"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
