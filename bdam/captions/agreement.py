"""How far several descriptions agree, and which of them repeat each other."""

from collections.abc import Iterable
from itertools import chain

from bdam.captions.lexicon import attributes, split_words
from bdam.data.descriptions import Kind


def is_near_duplicate(text: str, others: Iterable[str], threshold: float = 0.9) -> bool:
    """
    Whether a text shares nearly all its word trigrams with one of the others.

    Args:
        threshold: the least Jaccard index of two near duplicates.
    """
    ours = _trigrams(text)
    return any(len(ours & theirs) >= threshold * len(ours | theirs) for theirs in map(_trigrams, others))


def agreement(kind: Kind, texts: list[str]) -> dict[str, float]:
    """
    How far several descriptions of one image agree.

    Args:
        kind: the kind of all of them.
        texts: at least one.

    Returns:
        By attribute, the share of the texts with its most frequent value, in (0, 1]; not to mention an attribute
        counts as a value. Attributes that no text mentions are left out.
    """
    found = [attributes(kind, text) for text in texts]
    columns = {name: [values.get(name) for values in found] for name in chain.from_iterable(found)}
    return {name: max(map(column.count, column)) / len(texts) for name, column in columns.items()}


def most_typical(kind: Kind, texts: list[str]) -> str:
    """The description that agrees with the others on most attributes; the first of several such."""
    if len(texts) == 1:
        return texts[0]
    found = [attributes(kind, text).items() for text in texts]
    # Without the agreement of each with itself, which grows with its length.
    scores = [sum(len(ours & theirs) for theirs in found) - len(ours) for ours in found]
    return texts[scores.index(max(scores))]


def _trigrams(text: str) -> set[tuple[str, ...]]:
    words = split_words(text)
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}
