"""Finds ids that differ only in spelling, and may mean the same."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Context, Decimal


# Keeps all digits of an id.
EXACT = Context(prec=100_000)


def find_similar_ids(ids: Iterable[int | str]) -> list[list[int | str]]:
    """
    Groups of ids that differ only in spelling: equal numbers (`0123` and `123`, `12.0` and `12`), or equal letters but
    for case, Unicode form, spaces at the ends and invisible characters.

    Example:

    ```python
    >>> from bdam.data.benchmarks.spelling import find_similar_ids
    >>> find_similar_ids(["Ann", "ann ", 7, "007", "Bob"])
    [['Ann', 'ann '], [7, '007']]
    ```
    """
    groups: dict[Decimal | str, list[int | str]] = defaultdict(list)
    for identifier in dict.fromkeys(ids):
        groups[_fold(identifier)].append(identifier)
    return [group for group in groups.values() if len(group) > 1]


def _fold(identifier: int | str) -> Decimal | str:
    folded = unicodedata.normalize("NFKC", str(identifier)).casefold()
    text = "".join(letter for letter in unicodedata.normalize("NFKC", folded) if letter.isprintable()).strip()
    try:
        number = Decimal(text)
        return number.normalize(EXACT) if number.is_finite() else text
    except ArithmeticError:
        return text
