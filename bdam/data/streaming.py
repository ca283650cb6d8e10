"""
A corpus as an endless stream of batches, in an order that depends on nothing but the seed.

A pass reads the shards in random order, and shuffles blocks of their rows. Every process and every worker reads all
rows of a pass, which is cheap, and opens images and texts of its own part alone, which is not: so a batch is the same
for any number of processes and workers, and after a run is resumed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, islice
from random import Random
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bdam.data.corpora import Corpus, Row


# Rows that are shuffled with each other, besides the order of the shards.
BLOCK = 4096


class Position(NamedTuple):
    """How far a stream has come: the pass through the corpus, and the batches of it that were taken."""

    turn: int = 0
    batches: int = 0


class StreamedRows(IterableDataset):
    """
    The batches of a corpus from a position on, one pass after the other: `(position after it, rows)`. The rows have a
    `seed` each, as those of [`PersonBatchSampler`], and, where nobody knows the person, a `person_id` that no other
    row of the batch has. What is left at the end of a pass and fills no batch is dropped.

    Args:
        corpus: the corpus.
        batch_size: rows in a batch, of all processes together.
        seed: equal seeds give equal batches.
        start: where to begin.

    Raises:
        ValueError: if the corpus does not fill a batch; see also [`Corpus.read_shard`].
    """

    def __init__(self, corpus: Corpus, batch_size: int, seed: int, start: Position):
        self.corpus = corpus
        self.batch_size = batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[tuple[Position, list[Row]]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return islice(self._batches(), first, None, step)

    def _batches(self) -> Iterator[tuple[Position, list[Row]]]:
        start = self.start
        for turn in count(start.turn):
            shuffled = shuffled_rows(self.corpus, Random(f"{self.seed} {turn}"))
            rows = islice(shuffled, start.batches * self.batch_size, None)
            number = start.batches
            while len(batch := list(islice(rows, self.batch_size))) == self.batch_size:
                number += 1
                random = Random(f"{self.seed} {turn} {number}")
                yield Position(turn, number), [_draw(row, place, random) for place, row in enumerate(batch)]
            if number == 0:
                raise ValueError(
                    f"{self.corpus.source} has fewer than {self.batch_size} images: lower the batch size."
                )
            start = Position(turn + 1)


def _draw(row: Row, place: int, random: Random) -> Row:
    person = row["person_id"]
    if not isinstance(person, int):
        person = -1 - place if person is None else Random(person).getrandbits(62)
    return {**row, "person_id": person, "seed": random.getrandbits(62)}


def shuffled_rows(corpus: Corpus, random: Random) -> Iterator[Row]:
    """All rows of a corpus, once. Shards come in random order, and rows are shuffled in blocks."""
    order = random.sample(range(corpus.num_shards), corpus.num_shards)
    rows = chain.from_iterable(map(corpus.read_shard, order))
    while block := list(islice(rows, BLOCK)):
        yield from random.sample(block, len(block))


class StreamedBatches:
    """
    The batches of a stream, epoch by epoch, for one process.

    Args:
        rows: the rows, whose `start` is where a new run begins.
        collate: the rows of this process → its batch.
        part: which of how many parts of a batch is that of this process.
        steps: the number of batches that count as an epoch.
        loading: further arguments of the `DataLoader`.
    """

    def __init__(
        self,
        rows: StreamedRows,
        collate: Callable[[list[Row]], Any],
        part: tuple[int, int],
        steps: int,
        **loading: Any,
    ):
        self.rows = rows
        self.steps = steps
        self.loading = {"batch_size": None, "collate_fn": partial(_collate_part, collate, part), **loading}
        self.position = rows.start
        self._batches: Iterator[tuple[Position, Any]] | None = None

    @property
    def batch_size(self) -> int:
        return self.rows.batch_size

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from `start` on. They follow those taken last, whatever `number` is."""
        if self._batches is None:
            self.rows.start = self.position
            self._batches = iter(DataLoader(self.rows, **self.loading))
        for position, batch in islice(self._batches, self.steps - start):
            self.position = position
            yield batch

    def state_dict(self) -> dict:
        return self.position._asdict()

    def load_state_dict(self, values: dict) -> None:
        self.position = Position(**values)


def _collate_part(
    collate: Callable[[list[Row]], Any], part: tuple[int, int], drawn: tuple[Position, list[Row]]
) -> tuple[Position, Any]:
    (index, parts), (position, rows) = part, drawn
    size = len(rows) // parts
    return position, collate(rows[index * size : (index + 1) * size])
