"""The attributes of generated pedestrians: those of the identity and those of the outfit, with their vocabularies.

Every value is a string; `NONE` stands for what a person does not have. Outfits are drawn independently of identities.
"""

from dataclasses import dataclass
from math import prod
from random import Random


NONE = "none"

GENDERS = ("man", "woman")
AGES = ("young", "middle-aged", "elderly")
BUILDS = ("slim", "average", "heavy")
HEIGHTS = ("short", "average", "tall")
HAIR_STYLES = {
    "man": ("bald", "short", "curly", "long", "ponytail"),
    "woman": ("short", "curly", "long", "ponytail", "bun"),
}
HAIR_COLORS = ("black", "brown", "blond", "red", "grey")
SKIN_TONES = ("light", "tan", "brown", "dark")
GLASSES = (NONE, "glasses")
BEARDS = {"man": (NONE, "moustache", "beard"), "woman": (NONE,)}

LIGHT_COLORS = ("white", "beige", "yellow", "orange", "pink")
DARK_COLORS = ("black", "grey", "brown", "red", "green", "blue", "navy", "purple")
COLORS = LIGHT_COLORS + DARK_COLORS

PATTERNS = {
    "t-shirt": ("plain", "striped", "checked", "dotted"),
    "shirt": ("plain", "striped", "checked", "dotted"),
    "hoodie": ("plain", "striped"),
    "jacket": ("plain", "checked"),
    "coat": ("plain", "checked"),
    "dress": ("plain", "striped", "checked", "dotted"),
}
UPPERS = tuple(PATTERNS)
LOWER_COLORS = {
    "trousers": COLORS,
    "jeans": ("blue", "navy", "black", "grey"),
    "shorts": COLORS,
    "skirt": COLORS,
    "leggings": COLORS,
}
LONG_LOWERS = ("trousers", "jeans")
# What shows below the hem of each upper garment.
LOWERS = {
    "t-shirt": (*LONG_LOWERS, "shorts", "skirt"),
    "shirt": (*LONG_LOWERS, "shorts", "skirt"),
    "hoodie": (*LONG_LOWERS, "shorts", "skirt"),
    "jacket": (*LONG_LOWERS, "shorts", "skirt"),
    "coat": LONG_LOWERS,
    "dress": ("leggings",),
}
SHOES = ("trainers", "boots", "shoes")
BAGS = (NONE, "backpack", "handbag", "shoulder bag")
HATS = (NONE, NONE, NONE, "cap", "beanie")
SCARVES = (NONE, NONE, NONE, NONE, "scarf")


@dataclass(frozen=True)
class Identity:
    """The attributes of a person. `hair_colour` is `NONE` for the bald, and `beard` for women."""

    gender: str
    age: str
    build: str
    height: str
    hair_style: str
    hair_colour: str
    skin_tone: str
    glasses: str
    beard: str


@dataclass(frozen=True)
class Outfit:
    """What a person wears and carries. The color of what is absent, and of the pattern when plain, is `NONE`."""

    upper: str
    upper_colour: str
    pattern: str
    pattern_colour: str
    lower: str
    lower_colour: str
    shoes: str
    shoes_colour: str
    bag: str
    bag_colour: str
    hat: str
    hat_colour: str
    scarf: str
    scarf_colour: str


def draw_identity(random: Random) -> Identity:
    """A random person."""
    gender = random.choice(GENDERS)
    hair_style = random.choice(HAIR_STYLES[gender])
    return Identity(
        gender=gender,
        age=random.choice(AGES),
        build=random.choice(BUILDS),
        height=random.choice(HEIGHTS),
        hair_style=hair_style,
        hair_colour=NONE if hair_style == "bald" else random.choice(HAIR_COLORS),
        skin_tone=random.choice(SKIN_TONES),
        glasses=random.choice(GLASSES),
        beard=random.choice(BEARDS[gender]),
    )


def count_identities() -> int:
    """The number of distinct persons that `draw_identity` can return."""
    common = prod(map(len, (AGES, BUILDS, HEIGHTS, SKIN_TONES, GLASSES)))
    heads = {
        gender: sum(1 if style == "bald" else len(HAIR_COLORS) for style in HAIR_STYLES[gender]) for gender in GENDERS
    }
    return common * sum(heads[gender] * len(BEARDS[gender]) for gender in GENDERS)


def draw_outfit(random: Random) -> Outfit:
    """A random outfit."""
    upper = random.choice(UPPERS)
    upper_colour = random.choice(COLORS)
    pattern = random.choice(PATTERNS[upper])
    lower = random.choice(LOWERS[upper])
    bag, hat, scarf = (random.choice(vocabulary) for vocabulary in (BAGS, HATS, SCARVES))
    return Outfit(
        upper=upper,
        upper_colour=upper_colour,
        pattern=pattern,
        pattern_colour=NONE if pattern == "plain" else _contrasting_color(upper_colour, random),
        lower=lower,
        lower_colour=random.choice(LOWER_COLORS[lower]),
        shoes=random.choice(SHOES),
        shoes_colour=random.choice(COLORS),
        bag=bag,
        bag_colour=_color_of(bag, random),
        hat=hat,
        hat_colour=_color_of(hat, random),
        scarf=scarf,
        scarf_colour=_color_of(scarf, random),
    )


def _contrasting_color(color: str, random: Random) -> str:
    return random.choice(DARK_COLORS if color in LIGHT_COLORS else LIGHT_COLORS)


def _color_of(item: str, random: Random) -> str:
    return NONE if item == NONE else random.choice(COLORS)
