"""Clusters of texts by their embeddings, where each text stands for one or more captions."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np


try:
    from sklearn.cluster import DBSCAN, KMeans
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors
except ImportError as error:
    raise ImportError("Finding styles needs scikit-learn: pip install bdam[captions]") from error


# What a cluster of DBSCAN has at least, unless said otherwise: this share of the captions, and this many.
MIN_SHARE, MIN_SIZE = 0.05, 5
# The most points for computations whose cost grows with the square of their number.
MAX_POINTS = 2000

Method = Literal["dbscan", "kmeans", "random"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass
class Clusters:
    """
    Which of K clusters each of U texts is in, the largest being 0.

    Args:
        method: how they were found.
        labels: (U,) integers in [0, K).
        eps: the cosine distance within which DBSCAN looked for neighbors; None for the other methods.
        noise_share: the share of captions that DBSCAN left over, before each went to the nearest cluster.
    """

    method: Method
    labels: np.ndarray
    eps: float | None = None
    noise_share: float = 0.0

    @property
    def num_clusters(self) -> int:
        return int(self.labels.max()) + 1


def cluster(
    embeddings: np.ndarray,
    method: Method = "dbscan",
    *,
    counts: np.ndarray | None = None,
    eps: float | None = None,
    min_size: int | None = None,
    num_clusters: int | None = None,
    seed: int = 0,
) -> Clusters:
    """
    Clusters texts that stand for one or more captions each. The clusters are those of all the captions, found at
    the cost of the distinct ones: DBSCAN (Ester et al., 1996) and K-means weigh a text by its captions.

    DBSCAN calls dense where `min_size` captions lie within `eps`. What is left over as noise then goes to the nearest
    cluster, and what is smaller than `min_size` is merged into the nearest, by their centers. If nothing is dense, all
    is one cluster. Random clusters have as many texts each, give or take one.

    Args:
        embeddings: (U, D), L2-normalized.
        counts: (U,), how many captions each text stands for; one by default.
        eps: cosine distance; by default that of [`choose_eps`].
        min_size: captions; by default 5 %, and no less than 5.
        num_clusters: how many K-means and random clusters there shall be; DBSCAN finds out by itself.

    Raises:
        ValueError: if the number of clusters is missing, or is more than that of the texts; if `eps` or `min_size`
            is not positive; if the method is unknown.
    """
    check_method(method)
    counts = np.ones(len(embeddings), int) if counts is None else counts
    if method == "dbscan":
        return _dbscan(embeddings, counts, eps, min_size, seed)
    if num_clusters is None or not 1 <= num_clusters <= len(embeddings):
        raise ValueError(
            f"`num_clusters` must lie in [1, {len(embeddings)}], the number of distinct generalized captions, "
            f"got {num_clusters}."
        )
    if method == "kmeans":
        found = KMeans(num_clusters, n_init=10, random_state=seed).fit(embeddings, sample_weight=counts)
        return Clusters(method, _by_size(found.labels_, counts))
    labels = np.random.default_rng(seed).permutation(len(embeddings)) % num_clusters
    return Clusters(method, _by_size(labels, counts))


def check_method(method: str) -> None:
    """
    Raises:
        ValueError: if there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")


def _dbscan(
    embeddings: np.ndarray, counts: np.ndarray, eps: float | None, min_size: int | None, seed: int
) -> Clusters:
    min_size = default_min_size(counts) if min_size is None else min_size
    if min_size < 1:
        raise ValueError(f"`min_size` must be at least 1, got {min_size}.")
    eps = choose_eps(embeddings, counts, min_size, seed) if eps is None else eps
    if eps <= 0:
        raise ValueError(f"`eps` is a cosine distance and must be positive, got {eps}.")
    labels = DBSCAN(eps=eps, min_samples=min_size, metric="cosine").fit(embeddings, sample_weight=counts).labels_
    noise_share = float(counts[labels < 0].sum() / counts.sum())
    labels = merge_small(assign_noise(labels, embeddings, counts), embeddings, counts, min_size)
    return Clusters("dbscan", _by_size(labels, counts), eps, noise_share)


def default_min_size(counts: np.ndarray) -> int:
    """The default of `min_size`, from the number of captions of each text."""
    return max(MIN_SIZE, round(MIN_SHARE * counts.sum()))


def choose_eps(embeddings: np.ndarray, counts: np.ndarray, min_size: int, seed: int = 0) -> float:
    """
    The cosine distance at the knee of the k-distance curve (Ester et al., 1996): where the distances within which
    captions have `min_size` captions, themselves included, bend upwards most, by [`find_knee`]. A text that
    many captions share has them at distance 0, so the curve is that of captions, of at most `MAX_POINTS`.
    """
    queried, place = np.unique(_sample_captions(counts, seed), return_inverse=True)
    neighbors = NearestNeighbors(n_neighbors=min(min_size, len(counts)), metric="cosine").fit(embeddings)
    distances, rows = neighbors.kneighbors(embeddings[queried])
    reached = counts[rows].cumsum(axis=1) >= min(min_size, counts.sum())
    curve = np.sort(distances[np.arange(len(queried)), reached.argmax(axis=1)][place])
    # Rounding puts equal embeddings less than this apart.
    return max(float(curve[find_knee(curve)]), 1e-5)


def _sample_captions(counts: np.ndarray, seed: int) -> np.ndarray:
    """The texts of captions drawn at random, of at most `MAX_POINTS`."""
    captions = np.repeat(np.arange(len(counts)), counts)
    if len(captions) <= MAX_POINTS:
        return captions
    return np.random.default_rng(seed).choice(captions, MAX_POINTS, replace=False)


def find_knee(curve: np.ndarray) -> int:
    """The place in an ascending curve that lies farthest below the chord from its first to its last point."""
    chord = np.linspace(curve[0], curve[-1], len(curve))
    return int((chord - curve).argmax())


def assign_noise(labels: np.ndarray, embeddings: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same labels, where -1 has become the cluster with the nearest center; 0 if there are no clusters."""
    is_noise = labels < 0
    if is_noise.all():
        return np.zeros_like(labels)
    labels = labels.copy()
    labels[is_noise] = (embeddings[is_noise] @ _centers(labels, embeddings, counts).T).argmax(axis=1)
    return labels


def merge_small(labels: np.ndarray, embeddings: np.ndarray, counts: np.ndarray, min_size: int) -> np.ndarray:
    """Labels without clusters of fewer than `min_size` captions: one by one, the smallest joins the nearest."""
    while True:
        labels = _by_size(labels, counts)
        smallest = labels.max()
        if smallest == 0 or counts[labels == smallest].sum() >= min_size:
            return labels
        centers = _centers(labels, embeddings, counts)
        labels[labels == smallest] = (centers[:-1] @ centers[-1]).argmax()


def _centers(labels: np.ndarray, embeddings: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The directions (K, D) of the clusters' captions; those of label -1 are in none."""
    members = (labels == np.arange(labels.max() + 1)[:, None]) * counts
    centers = members @ embeddings
    return centers / np.linalg.norm(centers, axis=1, keepdims=True)


def _by_size(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Equal labels stay equal, and become 0 where there are most captions, then 1, and so on."""
    _, labels = np.unique(labels, return_inverse=True)
    sizes = np.bincount(labels, counts)
    return (-sizes).argsort(kind="stable").argsort()[labels]


def find_medoids(labels: np.ndarray, embeddings: np.ndarray, counts: np.ndarray) -> list[int]:
    """
    The text of each cluster that is nearest to its center.

    Args:
        labels: (U,) integers in [0, K).
        embeddings: (U, D), L2-normalized.
        counts: (U,), how many captions each text stands for.

    Returns:
        K places of texts.
    """
    centers = _centers(labels, embeddings, counts)
    similarity = np.where(labels == np.arange(len(centers))[:, None], centers @ embeddings.T, -np.inf)
    return similarity.argmax(axis=1).tolist()


def silhouette(labels: np.ndarray, embeddings: np.ndarray, counts: np.ndarray, seed: int = 0) -> float | None:
    """
    The mean silhouette (Rousseeuw, 1987) by cosine distance, of at most `MAX_POINTS` captions; None if they are in one
    cluster, or each in its own. Arguments are those of [`find_medoids`].
    """
    captions = _sample_captions(counts, seed)
    num_clusters = len(np.unique(labels[captions]))
    if not 1 < num_clusters < len(captions):
        return None
    return float(silhouette_score(embeddings[captions], labels[captions], metric="cosine"))


def map_texts(embeddings: np.ndarray, counts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Draws a map by t-SNE (van der Maaten and Hinton, 2008) of the most frequent texts, at most `MAX_POINTS`.

    Args:
        embeddings: (U, D), L2-normalized.
        counts: (U,), how many captions each text stands for.
        seed: equal seeds give equal maps.

    Returns:
        Which texts are on the map (P,), and their points (P, 2).

    Raises:
        ValueError: if there are fewer than three texts.
    """
    rows = (-counts).argsort(kind="stable")[:MAX_POINTS]
    if len(rows) < 3:
        raise ValueError(f"A map needs at least three distinct generalized captions, got {len(rows)}.")
    tsne = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=seed)
    return rows, tsne.fit_transform(embeddings[rows])
