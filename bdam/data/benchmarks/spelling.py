"""Ids that are different to a program, and may be the same to who wrote them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Context, Decimal


# Keeps all digits of any number that an id can be.
EXACT = Context(prec=100_000)


def find_lookalikes(ids: Iterable[int | str]) -> list[list[int | str]]:
    """
    Groups of ids that differ only in how they are spelled: the same number (`0123` and `123`, `12.0` and `12`), or the
    same letters but for case, Unicode form, spaces at the ends and what cannot be seen.

    Example:

    ```python
    >>> from bdam.data.benchmarks.spelling import find_lookalikes
    >>> find_lookalikes(["Ann", "ann ", 7, "007", "Bob"])
    [['Ann', 'ann '], [7, '007']]
    ```
    """
    groups: dict[Decimal | str, list[int | str]] = defaultdict(list)
    for one in dict.fromkeys(ids):
        groups[_likeness(one)].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _likeness(one: int | str) -> Decimal | str:
    folded = unicodedata.normalize("NFKC", str(one)).casefold()
    text = "".join(letter for letter in unicodedata.normalize("NFKC", folded) if letter.isprintable()).strip()
    try:
        number = Decimal(text)
        return number.normalize(EXACT) if number.is_finite() else text
    except ArithmeticError:
        return text
