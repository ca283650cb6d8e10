"""Recall of the index of a store, compared with an exact search."""

import torch

from bdam.retrieval.stores.base import Store


# Number of vectors that are compared with all queries at once; bounds the memory.
VECTORS_AT_ONCE = 65_536


def measure_recall(store: Store, queries: torch.Tensor, k: int = 10) -> float:
    """
    Recall@k: the share of the k nearest vectors of a store that its search finds, on average over the queries.

    Args:
        store: to search.
        queries: (Q, D), float32.
        k: number of nearest vectors.

    Returns:
        In [0, 1].
    """
    exact = _exact_search(store, queries, k)
    found = [{image.image_id for image in store.search(query, k, {})} for query in queries]
    shared = (len(nearest & image_ids) for nearest, image_ids in zip(exact, found, strict=True))
    return sum(shared) / (len(queries) * min(k, len(store)))


@torch.inference_mode()
def _exact_search(store: Store, queries: torch.Tensor, k: int) -> list[set[str]]:
    """For each query, the ids of the k images of largest inner product."""
    image_ids: list[str] = []
    scores, rows = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for chunk_ids, vectors in store.vectors():
        chunk_rows = torch.arange(len(image_ids), len(image_ids) + len(vectors))
        image_ids += chunk_ids
        for part, part_rows in zip(vectors.split(VECTORS_AT_ONCE), chunk_rows.split(VECTORS_AT_ONCE), strict=True):
            scores = torch.cat([scores, queries @ part.T], dim=1)
            rows = torch.cat([rows, part_rows.expand(len(queries), -1)], dim=1)
            scores, best = scores.topk(min(k, scores.shape[1]))
            rows = rows.gather(1, best)
    return [{image_ids[row] for row in nearest} for nearest in rows.tolist()]
