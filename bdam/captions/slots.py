"""A list of words replaces the words about the person in captions by slots (§III-C of the paper)."""

import re

from bdam.captions.lexicon import GARMENTS, mentions


SLOTS = {
    **{part: "[garment]" for part in GARMENTS if part not in ("bag", "outfit")},
    **{"colour": "[colour]", "bag": "[bag]", "gender": "[person]", "person": "[person]", "age": "[age]"},
    **{"build": "[build]", "height": "[build]", "hair": "[features]", "skin": "[features]", "face": "[features]"},
    "posture": "[action]",
}
PRONOUNS = {
    **dict.fromkeys(("he", "she", "they"), "[they]"),
    **dict.fromkeys(("him", "them", "himself", "herself"), "[them]"),
    **dict.fromkeys(("his", "her", "hers", "their"), "[their]"),
}
_BETWEEN = r"(?:[\s,&/-]|\b(?:and|or|an?)\b)+"
# Makes alike what differs only in how much there is to say of a person, in this order.
_MERGERS = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b(?:very|rather|quite|fairly|no) (?=\[)", ""),
        (r"(?:\[(?:age|build|features)\](?:[\s,-]|\band\b)+)+(?=\[person\])", ""),
        (r"(?<=\[person\])(?:,? (?:of|in|and) (?:\[their\] )?\[(?:build|age)\])+", ""),
        (r"(?:\[colour\](?:[\s,&/-]|\band\b)+|\[garment\][ -])+(?=\[(?:garment|bag)\])", ""),
        (r"\ban?(?: pair of)? (?=\[(?!person))", ""),
        (r"\b(a)n (?=\[)", r"\1 "),
        (r"(?<=\[features\])(?: (?:cut|worn|tied|put|pulled|back|up|down|short|long|in(?= \[features\])))+", ""),
        (r"(?<=\[action\])(?: (?:away|past|by|closer|off|(?:(?:towards?|from) )?the camera))+", ""),
        (rf"(\[\w+\])(?:{_BETWEEN}\1)+", r"\1"),
        (r"\[their\](?=$|[.,;?!]| (?:on|in|at|and|or|with|to|from|by|near|is|was)\b)", "[them]"),
    )
]


def generalize(captions: list[str]) -> list[str]:
    """
    Captions with slots in place of all that they say of a person, so that what remains is how they say it. A
    [`Generalizer`] lets a language model do the same.

    Args:
        captions: what people wrote.

    Returns:
        A text for each caption, in the same order.

    Example:

    ```python
    >>> from bdam.captions.slots import generalize
    >>> generalize(["The man in a black shirt has short hair.", "The tall woman in a red coat has long brown hair."])
    ['The [person] in [garment] has [features].', 'The [person] in [garment] has [features].']
    ```
    """
    return [_generalize(caption) for caption in captions]


def _generalize(caption: str) -> str:
    parts, end = [], 0
    for mention in mentions(caption):
        slot = PRONOUNS.get(mention.term) or SLOTS.get(mention.attribute)
        if slot is not None:
            parts += [caption[end : mention.start], slot]
            end = mention.end
    text = " ".join("".join([*parts, caption[end:]]).split())
    for pattern, replacement in _MERGERS:
        text = pattern.sub(replacement, text)
    return text
