"""The words for people and for what they wear, and who of the two a sentence speaks of.

Many words serve both: hair is brown and so are boots, a woman is slim and so are jeans. Such an adjective belongs to
the noun that it stands before, or else to the one that it comes after.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product, zip_longest
from typing import NamedTuple

from bdam.data.descriptions import Kind


def _terms(text: str) -> frozenset[str]:
    return frozenset(" ".join(term.split()) for term in text.split(","))


# Terms are British and in the singular where they have one; plurals, American spelling, and hyphens, blanks or nothing
# between the parts are understood.

SHADES = _terms("light, dark, pale, bright, deep, fair, medium, vivid, pastel, faded, neon")
PLAIN_COLOURS = _terms(
    "black, white, grey, red, orange, yellow, green, blue, purple, pink, brown, beige, navy, tan, khaki, cream,"
    "camel, ivory, olive, teal, turquoise, cyan, aqua, indigo, violet, lilac, lavender, mauve, magenta, fuchsia,"
    "maroon, burgundy, crimson, scarlet, coral, peach, salmon, rust, copper, bronze, bronzed, gold, golden, silver,"
    "silvery, mustard, mint, lime, emerald, charcoal, ebony, jet, raven, chestnut, hazel, auburn, ginger, flaxen,"
    "umber, sienna, rose, wine red, off white, baby blue, baby pink, sky blue, royal blue, army green, blackish,"
    "whitish, greyish, reddish, bluish, greenish, brownish, yellowish, multicoloured, colourful"
)
COLOURS = PLAIN_COLOURS | {f"{shade} {hue}" for shade, hue in product(SHADES, PLAIN_COLOURS | {"coloured"})}

GARMENTS = {
    "upper": _terms(
        "t-shirt, tee, shirt, dress shirt, polo, polo shirt, tank top, crop top, top, blouse, tunic, camisole,"
        "singlet, jersey, vest, waistcoat, gilet, body warmer, sweater, jumper, pullover, cardigan, sweatshirt,"
        "hoodie, hoody, jacket, suit jacket, down jacket, puffer, windbreaker, windcheater, anorak, parka, blazer,"
        "coat, trench coat, overcoat, raincoat, poncho, cape, apron, turtleneck, button down, shirtless, topless,"
        "sleeveless"
    ),
    "lower": _terms(
        "trousers, pants, dress pants, slacks, jeans, shorts, boy shorts, skirt, skort, leggings, tights, joggers,"
        "sweatpants, chinos, capris, culottes, kilt, bottoms, boyfriend jeans, mom jeans, dad jeans, trouser leg"
    ),
    "whole": _terms(
        "dress, shirt dress, sundress, gown, frock, suit, tracksuit, jumpsuit, playsuit, romper, overalls, dungarees,"
        "boiler suit, bodysuit, swimsuit, robe, bathrobe, sari, kimono, abaya, uniform, costume, pyjamas"
    ),
    "shoes": _terms(
        "shoe, dress shoe, sneaker, trainers, boot, sandal, slipper, loafer, heels, high heels, high heeled, heeled,"
        "flats, flip flop, pumps, oxfords, moccasin, clogs, stiletto, wedges, brogues, footwear, barefoot,"
        "barefooted, bare feet, shoeless, dad shoes"
    ),
    "bag": _terms(
        "bag, man bag, backpack, rucksack, knapsack, handbag, purse, shoulder bag, crossbody bag, crossbody, tote,"
        "waist bag, satchel, briefcase, suitcase, luggage, duffel, duffle, holdall, pouch, fanny pack, bum bag,"
        "clutch, baby carrier"
    ),
    "hat": _terms(
        "hat, cap, dad cap, dad hat, baseball cap, beanie, bobble hat, helmet, beret, bonnet, fedora, visor, turban,"
        "headscarf, hijab, headwear, headgear, bareheaded, hatless"
    ),
    "accessory": _terms(
        "scarf, shawl, belt, necktie, tie, bow tie, glove, mitten, watch, wristwatch, bracelet, necklace, earring,"
        "ring, jewellery, brooch, sunglasses, sun glasses, dark glasses, goggles, mask, face mask, headphones,"
        "earphones, umbrella, parasol, sock, stocking, hairband, headband, hair tie, hair clip, hairpin, hair slide,"
        "hair accessory, scrunchie, ribbon, bandana, veil, lanyard, accessory"
    ),
    "outfit": _terms(
        "clothes, clothing, outfit, attire, apparel, garment, ensemble, wardrobe, dressed, clad, sportswear,"
        "casual wear, formal wear, workwear, knitwear, outerwear, activewear, swimwear, underwear, menswear,"
        "womenswear, streetwear"
    ),
    "detail": _terms(
        "sleeve, sleeved, collar, neckline, v-neck, crew neck, round neck, hem, hood, hooded, zip, zipper, pocket,"
        "button, cuff, lapel, logo, strap, shoelace, lace, brim, waistband, lining"
    ),
    "pattern": _terms(
        "stripe, striped, check pattern, checked, chequered, plaid, tartan, floral, flowered, polka dot, dotted, dot,"
        "spotted, camouflage, camo, print, printed, pattern, patterned, paisley, animal print, leopard print,"
        "leopard skin, snake skin, houndstooth, argyle, tie dye"
    ),
    "material": _terms(
        "denim, leather, cotton, wool, woollen, silk, linen, satin, velvet, suede, corduroy, fleece, nylon, fur,"
        "furry, knit, knitted, quilted, mesh, canvas, camel hair, tweed, flannel, polyester"
    ),
}
# Adjectives of garments that would mislead, were they read as any other.
CUTS = frozenset(
    f"{width} {cut}"
    for width, cut in product(
        _terms(
            "slim, skinny, loose, tight, regular, relaxed, form, close, well, snug, straight, classic, athletic,"
            "wide, full"
        ),
        _terms("fit, fitted, fitting, cut, leg, legged"),
    )
) | _terms(
    "flat, tight, loose, baggy, cropped, fitted, flared, plain, ripped, padded, puffy, oversized, casual, formal,"
    "fit and flare, skin tight, skin coloured, skin toned, old fashioned, old school, high waisted, knee length,"
    "ankle length, zip up, button up, belted"
)

BODY = {
    "gender": _terms(
        "man, male, guy, boy, gentleman, lad, fellow, bloke, father, grandfather, husband, woman, female, lady, girl,"
        "gal, mother, grandmother, wife, he, him, his, himself, she, her, hers, herself"
    ),
    "age": _terms(
        "adult, teenager, teen, child, children, kid, toddler, baby, infant, youth, youngster, pensioner, adulthood,"
        "midlife, middle age, teens, twenties, thirties, forties, fifties, sixties, seventies, eighties, # year old,"
        "#s, aged #, age"
    ),
    "build": _terms(
        "build, physique, frame, body shape, body type, bodied, broad shoulders, broad shouldered, wide shoulders,"
        "narrow shoulders, narrow shouldered"
    ),
    "height": _terms("height, stature"),
    "hair": _terms(
        "hair, haired, hairstyle, haircut, hairdo, bald, balding, baldness, hairless, shaved head, bald head,"
        "hairless head, scalp, ponytail, pony tail, pigtail, bun, chignon, topknot, braid, plait, dreadlocks, afro,"
        "mohawk, quiff, curls, ringlet, locks, tresses, mop, bangs, buzz cut, crew cut, bob cut, bobbed, pixie cut,"
        "brunette, redhead"
    ),
    "skin": _terms("skin, skinned, complexion, tattoo, tattooed, asian, caucasian, african, hispanic, latino, latina"),
    "face": _terms(
        "beard, bearded, moustache, moustached, goatee, stubble, whiskers, sideburns, facial hair, clean shaven,"
        "unshaven, glasses, eyeglasses, spectacles, eyewear, bespectacled, corrective lenses, lenses, eyes, eyed,"
        "freckles, wrinkles, make up, lipstick, round face, oval face, long face, square jaw, round faced"
    ),
    "posture": _terms(
        "posture, stance, gait, pose, waits, waiting, comes closer, coming closer, heads off, heading off,"
        "approaches, approaching, stands, standing, walks, walking, strolls, strolling, strides, striding, sits,"
        "sitting, seated, runs, running, jogs, jogging, rides, riding, cycling, crouches, crouching, kneels,"
        "kneeling, leans, leaning, bends, bending, posing, faces, facing, looking, turning, sideways, in profile,"
        "from behind, side view, rear view, front view, seen from behind, hunched, stooped, upright,"
        "in pockets, his pocket, his pockets, her pocket, her pockets, their pocket, their pockets"
    ),
}
# Adjectives of the person, unless what follows is a garment.
FIGURE = {
    "age": _terms("young, younger, elderly, older, senior, mature, youthful, middle aged, teenage, aged"),
    "build": _terms(
        "slim, slender, skinny, petite, lean, heavy set, stocky, stout, plump, chubby, overweight, obese, fat,"
        "corpulent, burly, curvy, muscular, well built, thickset, bony, lanky"
    ),
    "height": _terms("tall, taller, short, shorter, towering"),
    "hair": _terms("blond, blonde, curly, wavy, frizzy, shaggy, braided, fringe"),
    "skin": _terms("tanned"),
}
# Adjectives that speak of the person only where they qualify a word for one.
SHARED = {
    "age": _terms("old"),
    "build": _terms(
        "thin, heavy, large, big, broad, wide, narrow, compact, full, fit, bulky, athletic, sturdy, slight, thick,"
        "average, medium, normal, solid, strong, ample, balanced"
    ),
    "hair": _terms("long, longer, straight, spiky, neat, messy"),
}
PEOPLE = _terms("person, people, individual, pedestrian, someone, somebody, figure, subject, they, them, their")
# Phrases in which a term is none.
IDIOMS = _terms(
    "on top, on the top, at the top, to top, to the top, top of, top bun, stands out, standing out, running down,"
    "running along, running around, running across, running up, runs down, runs along, runs around, runs across,"
    "new balance, north face, knee height, ankle height, waist height, calf height, hip height, frame glasses,"
    "good looking,"
    "looking for, looks for, sits close, sits low, sits high, sits just, sits snugly, sits at the waist,"
    "sits at the hip, sits at the hips, sits on the hip, sits on the hips"
)

PLURAL_ENDINGS = (("", "s"), ("", "es"), ("y", "ies"), ("f", "ves"), ("man", "men"))
# What is a verb, or of something else, in the plural.
NO_PLURALS = _terms("frame, tie, watch, button, print, pattern, knit, ring, mask, polka dot, fit")
# American and older spellings of the parts of terms.
SPELLINGS = {
    "gray": "grey",
    "grayish": "greyish",
    "colored": "coloured",
    "multicolored": "multicoloured",
    "colorful": "colourful",
    "checkered": "chequered",
    "jewelry": "jewellery",
    "mustache": "moustache",
    "mustached": "moustached",
    "mustaches": "moustaches",
    "pajamas": "pyjamas",
    "woolen": "woollen",
}

ATTRIBUTES: dict[Kind, tuple[str, ...]] = {
    "identity": tuple(BODY),
    "clothing": ("colour", *(part for part in GARMENTS if part != "whole")),
}


class Mention(NamedTuple):
    """Where a text speaks of an attribute, `text[start:end]`, and the term for it: British, singular, lower case."""

    start: int
    end: int
    attribute: str
    term: str


class _Term(NamedTuple):
    """
    Args:
        name: how the term is normalized.
        attribute: what it speaks of, if nothing else decides; empty for idioms.
        role: "noun"; "lone" if no adjective stands before it; "pose" for posture; else the kind of adjective, which is
            "colour", "shade", "figure", "shared" or "cut".
    """

    name: str
    attribute: str
    role: str

    @property
    def is_of_figure(self) -> bool:
        return self.role in ("figure", "shared")


class _Found(NamedTuple):
    start: int
    end: int
    term: _Term


_HEAD = ("hair", "skin", "face")
_STATURE = ("build", "height")
_PERSON = ("gender", "age", "person")
# What no adjective stands before.
_LONE = _terms(
    "he, him, his, himself, she, her, hers, herself, they, them, their, dressed, clad, barefoot, barefooted,"
    "shirtless, topless, sleeveless, bareheaded, hatless, shoeless"
)
_NOUNS = ("noun", "lone", "pose")
_LENGTHS = ("short", "shorter")

_LONGEST_TERM = 4
# A word, and what belongs to it without being part of it: "man" and "'s".
_WORD = re.compile(r"([^\W_]+)(?:['’][^\W_]+)?")
# What may stand between an adjective and the next term of its phrase: up to three words that do not end a phrase.
_WITHIN_PHRASE = re.compile(r"[\s,/&-]*(?:[^\W\d_]+[\s,/&-]+){0,3}")
_BLANKS = re.compile(r"[\s,/&-]+")
_NEXT_WORD = re.compile(r"[ -]+([^\W\d_]+)")
_ENDS_PHRASE = _terms(
    "a, an, the, this, that, these, those, its, my, your, some, any, no, each, both, in, on, at, of, with, without,"
    "for, from, to, into, onto, over, under, by, near, behind, beside, between, but, while, as, who, which, whose,"
    "is, are, was, were, be, been, being, has, have, had, wear, wears, wearing, wore, worn, carry, carries, carrying,"
    "hold, holds, holding, show, shows, showing, display, displays, displaying, include, includes, including,"
    "feature, features, featuring, appears, looks, seems, than, not, down, up, along, across, away, past, towards,"
    "toward, around, through, against, paired, matched, plus, also, then, there, visible, characterise, characterize,"
    "depicts, combines, comprises, forms, completed"
)
_COPULA = r"(?:is|are|was|were|be|being|looks?|appears?|seems?)"
_DEGREE = r"(?:(?:very|quite|rather|fairly|relatively|slightly|somewhat|a bit|also|all|both)\s+)?"
_PREDICATE_BEGINS = re.compile(rf"(?:\b{_COPULA}|,)\s+{_DEGREE}$", re.IGNORECASE)
_IS = re.compile(rf"\s+(?:(?:that|which|who)\s+)?{_COPULA}\s+{_DEGREE}", re.IGNORECASE)
_IS_OR_COMMA = re.compile(rf"{_IS.pattern}|,\s+{_DEGREE}", re.IGNORECASE)
_ENDS_IN_IN = re.compile(r"\bin\s+(?:all\s+)?$", re.IGNORECASE)
_CLOTHES_BEGIN = re.compile(r"\b(?:wear|dress|clad)", re.IGNORECASE)
_SEPARATES = re.compile(r"[^\w\s'’-]|\s{2}|\n")
_SENTENCE_ENDS = re.compile(r"[.!?;\n]")


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def mentions(text: str) -> list[Mention]:
    """
    Finds all that a text says of a person's body and clothes, in its order and without overlaps. The attributes are
    those of `ATTRIBUTES`, `whole` for a garment from top to bottom, and `person` for words such as "pedestrian".
    """
    return list(_Reader(text).read())


def attributes(kind: Kind, text: str) -> dict[str, str]:
    """
    The attributes of identity or of clothing that a text speaks of, with the first term for each. Asked of the other
    kind, it finds what an identity description should not say of clothes, and the reverse.

    Example:

    ```python
    >>> from bdam.captions.lexicon import attributes
    >>> attributes("identity", "A young man with brown hair in a brown coat and skinny jeans.")
    {'gender': 'man', 'age': 'young', 'hair': 'brown hair'}
    >>> attributes("clothing", "A young man with brown hair in a brown coat and skinny jeans.")
    {'colour': 'brown', 'upper': 'coat', 'lower': 'jeans'}
    ```
    """
    return attributes_of(kind, mentions(text))


def attributes_of(kind: Kind, text_mentions: Iterable[Mention]) -> dict[str, str]:
    """The same as [`attributes`], of a text that was read already."""
    found: dict[str, str] = {}
    for mention in text_mentions:
        found.setdefault(mention.attribute, mention.term)
    if "whole" in found:
        found = {"upper": found["whole"], "lower": found["whole"], **found}
    return {name: found[name] for name in ATTRIBUTES[kind] if name in found}


class _Reader:
    """Reads a text from left to right, and settles what its adjectives belong to."""

    def __init__(self, text: str):
        self.text = text
        # The last noun, and the adjectives since then.
        self.noun: _Found | None = None
        self.adjectives: list[_Found] = []

    def read(self) -> Iterator[Mention]:
        found = list(_find_terms(self.text))
        for word, following in zip_longest(found, found[1:]):
            if self.adjectives and not self._goes_on_with(word):
                yield from self._without_noun(word.start)
            if word.term.role not in _NOUNS or self._is_half_a_name(word, following):
                self.adjectives.append(word)
            else:
                yield from self._with_noun(word)
        if self.adjectives:
            yield from self._without_noun(len(self.text))

    def _goes_on_with(self, word: _Found) -> bool:
        """Whether the phrase that the adjectives began goes on with this word."""
        first, last = self.adjectives[0], self.adjectives[-1]
        gap = self.text[last.end : word.start]
        if word.term.role in ("lone", "pose") or not _WITHIN_PHRASE.fullmatch(gap):
            return False
        if not _ENDS_PHRASE.isdisjoint(_BLANKS.split(gap.lower())):
            return False
        # "A tall, black boot", but "he is tall, black hair".
        if "," in gap and _PREDICATE_BEGINS.search(self.text[: first.start]):
            return word.term.role != "noun" and word.term.is_of_figure == last.term.is_of_figure
        return True

    def _is_half_a_name(self, word: _Found, following: _Found | None) -> bool:
        """Whether a word of the body names no more than the garment after it, as in "walking shoes", "hair scarf"."""
        if following is None or following.term.attribute not in GARMENTS or following.term.role != "noun":
            return False
        is_of_body = word.term.role == "pose" or word.term.attribute == "hair"
        return is_of_body and self.text[word.end : following.start] in (" ", "-")

    def _with_noun(self, noun: _Found) -> Iterator[Mention]:
        """What the adjectives before a noun say of it, and the noun."""
        if noun.term.role == "pose":
            # Coats walk with someone in them, but a cap that "sits" on a head does not sit down.
            part, gap = self._noun_before(noun.start)
            if not (part in GARMENTS and gap.isspace() and not noun.term.name.endswith("ing")):
                yield Mention(noun.start, noun.end, noun.term.attribute, noun.term.name)
            return
        self.noun, adjectives, absorbed = noun, self.adjectives, [noun]
        self.adjectives = []
        while adjectives and self._is_absorbed(adjectives[-1], absorbed[0], noun.term):
            absorbed.insert(0, adjectives.pop())
        for start, end, term in adjectives:
            if attribute := _attribute_with_noun(term, noun.term):
                yield Mention(start, end, attribute, noun.term.name if attribute in GARMENTS else term.name)
        yield Mention(absorbed[0].start, noun.end, noun.term.attribute, " ".join(word.term.name for word in absorbed))

    def _is_absorbed(self, word: _Found, following: _Found, noun: _Term) -> bool:
        """Whether an adjective and its noun are one mention, as in "short black hair" and "slim build"."""
        if noun.attribute in _STATURE:
            is_of_figure = word.term.role == "shade" or word.term.attribute in _STATURE
            return is_of_figure and "," not in self.text[word.end : following.start]
        is_of_person = word.term.role == "figure" and word.term.attribute not in _HEAD
        return noun.attribute in _HEAD and (not is_of_person or word.term.name in _LENGTHS)

    def _without_noun(self, until: int) -> Iterator[Mention]:
        """What adjectives say that stand before no noun that we know."""
        adjectives, self.adjectives = self.adjectives, []
        part, gap = self._noun_before(adjectives[0].start)
        following = _NEXT_WORD.match(self.text, adjectives[-1].end, until)
        is_taken = following is not None and following[1].lower() not in _ENDS_PHRASE | {"and", "or"}
        for start, end, term in adjectives:
            if attribute := _attribute_without_noun(term, part, gap, is_taken):
                yield Mention(start, end, attribute, term.name)

    def _noun_before(self, start: int) -> tuple[str, str]:
        """The attribute of the last noun, empty if there is none in the sentence, and what stands since then."""
        gap = self.text[self.noun.end if self.noun else 0 : start]
        return ("" if self.noun is None or _SENTENCE_ENDS.search(gap) else self.noun.term.attribute), gap


def _attribute_with_noun(adjective: _Term, noun: _Term) -> str | None:
    """What an adjective speaks of that stands before a noun of ours; None if of nothing."""
    has_hue = adjective.role in ("colour", "shade")
    if noun.attribute in GARMENTS:
        return "colour" if has_hue else noun.attribute
    if noun.attribute in _PERSON and has_hue:
        return "skin"
    is_shared = adjective.attribute != "hair" and noun.attribute in (*_PERSON, *_STATURE)
    return adjective.attribute if adjective.role == "figure" or is_shared else None


def _attribute_without_noun(adjective: _Term, part: str, gap: str, is_taken: bool) -> str | None:
    """
    What an adjective speaks of that stands before no noun of ours; None if of nothing.

    Args:
        part: the attribute of the noun before it, and `gap`, what stands between.
        is_taken: whether a word stands after it that we do not know.
    """
    if adjective.role in ("colour", "shade"):
        is_of_clothes = _ENDS_IN_IN.search(gap) or _CLOTHES_BEGIN.search(gap)
        if is_taken:
            return None
        if part in _HEAD and not is_of_clothes:
            return part
        return "colour" if adjective.role == "colour" or part in GARMENTS else None
    if part in _STATURE and adjective.attribute in _STATURE:
        return part
    if part in GARMENTS and (_IS.fullmatch(gap) or adjective.attribute == "hair"):
        return None
    if part == "hair" and (adjective.attribute == "hair" or adjective.name in _LENGTHS):
        return "hair"
    if adjective.role == "figure":
        is_vague = adjective.attribute == "hair" or adjective.name in _LENGTHS
        return None if is_taken and is_vague else adjective.attribute
    is_of_person = part in _PERSON and adjective.role == "shared" and adjective.attribute != "hair"
    return adjective.attribute if is_of_person and _IS_OR_COMMA.fullmatch(gap) else None


def _find_terms(text: str) -> Iterator[_Found]:
    """The terms in a text, the longest at each place, idioms left out."""
    words = [(match.start(), match.end(1), _normalize(match[0])) for match in _WORD.finditer(text)]
    place = 0
    while place < len(words):
        start, key, found, step = words[place][0], "", None, 1
        for length, (_, end, word) in enumerate(words[place : place + _LONGEST_TERM], 1):
            key += word
            if key not in _BEGINNINGS:
                break
            if key in _TERMS and (length == 1 or not _SEPARATES.search(text, start, end)):
                found, step = _Found(start, end, _TERMS[key]), length
        if found is not None and found.term.role != "idiom":
            yield found
        place += step


@lru_cache(maxsize=10_000)
def _normalize(word: str) -> str:
    """A word as it stands in the keys of `_TERMS`: "Men's" → "mens", "20's" → "#s", "gray" → "grey"."""
    word = re.sub(r"\d+", "#", word.lower().replace("'", "").replace("’", ""))
    return SPELLINGS.get(word, word)


def _all_terms() -> dict[str, _Term]:
    """All terms by what is left of them without blanks and hyphens, plurals included; what comes later counts."""
    kinds: list[tuple[frozenset[str], str, str]] = [
        (SHADES, "colour", "shade"),
        (COLOURS, "colour", "colour"),
        *((terms, part, "noun") for part, terms in GARMENTS.items()),
        (CUTS, "", "cut"),
        *((terms, part, "pose" if part == "posture" else "noun") for part, terms in BODY.items()),
        *((terms, part, "figure") for part, terms in FIGURE.items()),
        *((terms, part, "shared") for part, terms in SHARED.items()),
        (PEOPLE, "person", "noun"),
        (IDIOMS, "", "idiom"),
    ]
    found: dict[str, _Term] = {}
    for names, attribute, role in kinds:
        for name in sorted(names):
            term = _Term(name, attribute, "lone" if name in _LONE else role)
            forms = [name]
            if role == "noun" and name not in NO_PLURALS:
                forms += [name.removesuffix(end) + plural for end, plural in PLURAL_ENDINGS if name.endswith(end)]
            found |= {re.sub(r"[ -]", "", form): term for form in forms}
    return found


_TERMS = _all_terms()
_BEGINNINGS = frozenset(key[:end] for key in _TERMS for end in range(1, len(key) + 1))
