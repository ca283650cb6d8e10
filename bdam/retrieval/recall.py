"""How much of an exact search the index of a store finds."""

import torch

from bdam.retrieval.stores.base import Store


# Vectors that are compared with all queries at once.
VECTORS_AT_ONCE = 65_536


def measure_recall(store: Store, queries: torch.Tensor, k: int = 10) -> float:
    """The share of the k nearest vectors of a store that its search finds for the queries (Q, D), on average."""
    exact = _exact_search(store, queries, k)
    found = [{image.image_id for image in store.search(query, k, {})} for query in queries]
    shared = (len(right & names) for right, names in zip(exact, found, strict=True))
    return sum(shared) / (len(queries) * min(k, len(store)))


@torch.inference_mode()
def _exact_search(store: Store, queries: torch.Tensor, k: int) -> list[set[str]]:
    """The names of the k nearest of all vectors, for each query."""
    names: list[str] = []
    scores, rows = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for names_of_chunk, chunk in store.vectors():
        numbers = torch.arange(len(names), len(names) + len(chunk))
        names += names_of_chunk
        for part, of_part in zip(chunk.split(VECTORS_AT_ONCE), numbers.split(VECTORS_AT_ONCE), strict=True):
            scores = torch.cat([scores, queries @ part.T], dim=1)
            rows = torch.cat([rows, of_part.expand(len(queries), -1)], dim=1)
            scores, best = scores.topk(min(k, scores.shape[1]))
            rows = rows.gather(1, best)
    return [{names[row] for row in of_query} for of_query in rows.tolist()]
