"""Intervals of means by a bootstrap over persons, whose queries depend on each other."""

from typing import NamedTuple

import numpy as np


RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean with its 95 % interval, from `low` to `high`; all in percent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


def interval(values: np.ndarray, persons: np.ndarray, seed: int = 0) -> Interval:
    """
    The mean of the values of queries, and its interval. The difference of two hits, 1 or 0, of the same queries gives
    the paired interval.

    Args:
        values: (Q,), float; NaN where a query does not count.
        persons: (Q,) the person of each query.
    """
    counted = ~np.isnan(values)
    _, person = np.unique(persons[counted], return_inverse=True)
    sums, counts = np.bincount(person, values[counted]), np.bincount(person)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(*(100 * float(value) for value in (sums.sum() / counts.sum(), low, high)))
