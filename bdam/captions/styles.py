"""The styles that people write in: captions without what they say of the person, in clusters (§III-C of the paper)."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import numpy as np
import torch
from accelerate import PartialState
from pydantic import BaseModel, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer, BatchEncoding

from bdam.captions.lexicon import GARMENTS, mentions
from bdam.data.writing import write_json
from bdam.encoding.encoders import Encoder, load_encoder
from bdam.encoding.extraction import embed_in_batches
from modeling_bdam import masked_mean


try:
    from sklearn.cluster import DBSCAN, KMeans
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors
except ImportError as error:
    raise ImportError("Finding styles needs scikit-learn: pip install bdam[captions]") from error


# §IV-A.3 of the paper.
ENCODER = "openai/clip-vit-base-patch32"
# What a style has at least, unless said otherwise: this share of the captions, and this many.
MIN_SHARE, MIN_SIZE = 0.05, 5
# What grows with the square of its points looks at no more than these.
MAX_POINTS = 2000

Method = Literal["dbscan", "kmeans", "random"]
METHODS: tuple[Method, ...] = get_args(Method)

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

# What a style is told by, where most of its captions have it; of the verb forms, the most frequent.
MANNERS = {"in the first person": r"\b(?:I|[Ww]e|[Mm]y|[Oo]ur)\b", "as a question": r"\?"}
_PRESENT = "wears|has|carries|holds|walks|stands|sits|comes|heads|waits"
VERB_FORMS = {
    'in the continuous form, as in "is wearing"': r"\b(?:is|are) \w+ing\b",
    'in the simple present, as in "wears"': rf"\b(?:{_PRESENT})\b",
    'in the past tense, as in "wore"': r"\b(?:wore|was|were|had|carried|held|walked|stood)\b",
    "in phrases without a verb": rf"^(?!.*\b(?:is|are|was|were|have|had|can|wore|{_PRESENT}|\w+ing)\b)",
}
TONES = {15: "terse", 30: "plain", 45: "detailed"}


@dataclass
class Clusters:
    """
    Which of K clusters each of U wordings is in, the largest being 0.

    Args:
        method: how they were found.
        labels: (U,) integers in [0, K).
        eps: the cosine distance within which DBSCAN looked for neighbours; None for the other methods.
        noise_share: the share of captions that DBSCAN left over, before each went to the nearest cluster.
    """

    method: Method
    labels: np.ndarray
    eps: float | None = None
    noise_share: float = 0.0

    @property
    def num_clusters(self) -> int:
        return int(self.labels.max()) + 1


class Style(BaseModel):
    """
    Args:
        id: 0 for the most frequent style, and so on.
        size: how many captions are written in it, and `share` of them all.
        sentence: what to tell a language model that is to write in it.
        example: the generalised caption in its middle.
    """

    id: int
    size: int
    share: float
    sentence: str
    example: str


class Comparison(BaseModel):
    """
    What a method makes of the captions.

    Args:
        noise_share: what it left over at first.
        silhouette: mean silhouette (Rousseeuw, 1987) by cosine distance, of at most `MAX_POINTS` captions; None if
            there is but one cluster, or each caption is one. Equal captions are together and at distance 0 by any
            method, so even random clusters may have more than 0: compare methods on the same captions only.
        diversity: mean cosine distance between the middles (medoids) of two clusters; 0 if there is but one.
    """

    method: Method
    num_clusters: int
    sizes: list[int]
    noise_share: float
    silhouette: float | None
    diversity: float


class Styles(BaseModel):
    """The styles of a data set, most frequent first, how they were found, and what other methods would have found."""

    styles: list[Style]
    settings: dict[str, Any]
    comparison: list[Comparison]

    def draw(self, image_id: str, seed: int = 0) -> Style:
        """A style for an image, as frequent as among the captions. Equal ids and seeds draw equal styles."""
        weights = [style.share for style in self.styles]
        return random.Random(f"{seed} {image_id}").choices(self.styles, weights)[0]

    def save(self, path: Path) -> None:
        """Writes the styles as JSON, whole or not at all."""
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> "Styles":
        """
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold styles.
        """
        if not path.is_file():
            raise FileNotFoundError(f"No styles at {path}: find some with `bdam caption styles DATA --output DIR`.")
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "file"
            raise ValueError(f"{path} holds no styles: {place}: {problem['msg']}. Find them anew.") from None


@dataclass
class Wordings:
    """
    The U distinct generalised captions: how many captions each stands for (U,), their embeddings (U, D),
    L2-normalised, and their clusters by each method.
    """

    texts: list[str]
    counts: np.ndarray
    embeddings: np.ndarray
    clusters: dict[Method, Clusters]


class TextEncoder:
    """Any text encoder of transformers, such as BERT or MiniLM: the mean of the last states of a sentence's tokens."""

    def __init__(self, model, tokenizer):
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))

    def prepare_sentences(self, sentences: list[str]) -> BatchEncoding:
        options: dict[str, Any] = {"padding": True, "truncation": True, "max_length": self.max_length}
        return self.tokenizer(sentences, **options, return_tensors="pt")

    def embed_sentences(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        states = self.model(**inputs).last_hidden_state
        return {"identity": normalize(masked_mean(states, inputs["attention_mask"]), dim=-1)}


def generalize(captions: list[str]) -> list[str]:
    """
    Puts slots for all that captions say of a person, so that what remains is how they say it. A language model may do
    this instead: whatever returns as many texts, in the same order.

    Example:

    ```python
    >>> from bdam.captions.styles import generalize
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


def embed_texts(model_name_or_path: str, texts: list[str], batch_size: int = 64) -> np.ndarray:
    """
    Embeddings (N, D) of N texts, float32, L2-normalised, by a model of a folder or of the Hub: the text half of a dual
    encoder such as CLIP, or any text encoder, by the mean of its last states.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    encoder = _load_text_encoder(model_name_or_path)
    encoder.model.to(PartialState().device)
    options: dict[str, Any] = {"label": "captions", "batch_size": batch_size}
    embeds = embed_in_batches(encoder.model, encoder.prepare_sentences, encoder.embed_sentences, texts, **options)
    return embeds["identity"].numpy()


def _load_text_encoder(checkpoint: str) -> Encoder | TextEncoder:
    try:
        config = AutoConfig.from_pretrained(checkpoint)
        if not hasattr(config, "vision_config"):
            return TextEncoder(AutoModel.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"No text encoder at {checkpoint}: give a folder, or a name on the Hub, such as {ENCODER}."
        ) from error
    return load_encoder(checkpoint)


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
    Clusters wordings that stand for one or more captions each. The clusters are those of all the captions, found at
    the cost of the distinct ones: DBSCAN (Ester et al., 1996) and K-means weigh a wording by its captions.

    DBSCAN calls dense where `min_size` captions lie within `eps`. What is left over as noise then goes to the nearest
    cluster, and what is smaller than `min_size` is merged into the nearest, by their centers. If nothing is dense, all
    is one cluster. Random clusters have as many wordings each, give or take one.

    Args:
        embeddings: (U, D), L2-normalised.
        counts: (U,), how many captions each wording stands for; one by default.
        eps: cosine distance; by default that of [`choose_eps`].
        min_size: captions; by default 5 %, and no less than 5.
        num_clusters: how many K-means and random clusters there shall be; DBSCAN finds out by itself.

    Raises:
        ValueError: if the number of clusters is missing, or is more than that of the wordings; if `eps` or `min_size`
            is not positive; if the method is unknown.
    """
    _check(method)
    counts = np.ones(len(embeddings), int) if counts is None else counts
    if method == "dbscan":
        return _dbscan(embeddings, counts, eps, min_size, seed)
    if num_clusters is None or not 1 <= num_clusters <= len(embeddings):
        raise ValueError(
            f"`num_clusters` must lie in [1, {len(embeddings)}], the number of distinct generalised captions, "
            f"got {num_clusters}."
        )
    if method == "kmeans":
        found = KMeans(num_clusters, n_init=10, random_state=seed).fit(embeddings, sample_weight=counts)
        return Clusters(method, _by_size(found.labels_, counts))
    labels = np.random.default_rng(seed).permutation(len(embeddings)) % num_clusters
    return Clusters(method, _by_size(labels, counts))


def _check(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")


def _dbscan(
    embeddings: np.ndarray, counts: np.ndarray, eps: float | None, min_size: int | None, seed: int
) -> Clusters:
    min_size = _default_min_size(counts) if min_size is None else min_size
    if min_size < 1:
        raise ValueError(f"`min_size` must be at least 1, got {min_size}.")
    eps = choose_eps(embeddings, counts, min_size, seed) if eps is None else eps
    if eps <= 0:
        raise ValueError(f"`eps` is a cosine distance and must be positive, got {eps}.")
    labels = DBSCAN(eps=eps, min_samples=min_size, metric="cosine").fit(embeddings, sample_weight=counts).labels_
    noise_share = float(counts[labels < 0].sum() / counts.sum())
    labels = merge_small(assign_noise(labels, embeddings, counts), embeddings, counts, min_size)
    return Clusters("dbscan", _by_size(labels, counts), eps, noise_share)


def _default_min_size(counts: np.ndarray) -> int:
    return max(MIN_SIZE, round(MIN_SHARE * counts.sum()))


def choose_eps(embeddings: np.ndarray, counts: np.ndarray, min_size: int, seed: int = 0) -> float:
    """
    The cosine distance at the knee of the k-distance curve (Ester et al., 1996): where the distances within which
    captions have `min_size` captions, themselves included, bend upwards most, by [`find_knee`]. A wording that many
    captions share has them at distance 0, so the curve is that of captions, of at most `MAX_POINTS`.
    """
    asked, place = np.unique(_sample_captions(counts, seed), return_inverse=True)
    neighbours = NearestNeighbors(n_neighbors=min(min_size, len(counts)), metric="cosine").fit(embeddings)
    distances, rows = neighbours.kneighbors(embeddings[asked])
    reached = counts[rows].cumsum(axis=1) >= min(min_size, counts.sum())
    curve = np.sort(distances[np.arange(len(asked)), reached.argmax(axis=1)][place])
    # Rounding tells equal embeddings apart by less than this.
    return max(float(curve[find_knee(curve)]), 1e-5)


def _sample_captions(counts: np.ndarray, seed: int) -> np.ndarray:
    """The wordings of captions drawn at random, of at most `MAX_POINTS`."""
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


def _middles(clusters: Clusters, wordings: Wordings) -> list[int]:
    """The wording in the middle of each cluster, nearest to its center."""
    centers = _centers(clusters.labels, wordings.embeddings, wordings.counts)
    nearness = np.where(clusters.labels == np.arange(len(centers))[:, None], centers @ wordings.embeddings.T, -np.inf)
    return nearness.argmax(axis=1).tolist()


def find_styles(
    captions: list[str],
    embed: Callable[[list[str]], np.ndarray],
    method: Method = "dbscan",
    generalizer: Callable[[list[str]], list[str]] = generalize,
    *,
    eps: float | None = None,
    min_size: int | None = None,
    num_clusters: int | None = None,
    seed: int = 0,
    **origin,
) -> tuple[Styles, Wordings]:
    """
    Finds the styles that captions are written in, and compares the methods.

    Args:
        captions: what people wrote; blank ones are left out.
        embed: texts → embeddings (N, D), L2-normalised, such as [`embed_texts`] with a model.
        method: what finds the styles. The others stand beside it, with as many clusters.
        generalizer: captions → as many texts, in which the person is left out.
        eps, min_size, seed: as for [`cluster`].
        num_clusters: as for [`cluster`]; by default as many as DBSCAN finds.
        origin: where the captions come from, to be written with the settings.

    Raises:
        ValueError: if there are no captions, or the generalizer does not return a text for each; besides, as for
            [`cluster`].
    """
    _check(method)
    captions = [caption for caption in captions if caption.strip()]
    if not captions:
        raise ValueError("There are no captions to find styles in: give data whose images have some.")
    texts = generalizer(captions)
    if len(texts) != len(captions) or not all(text.strip() for text in texts):
        raise ValueError(
            f"The generalizer must return a text for each of {len(captions)} captions, got "
            f"{sum(bool(text.strip()) for text in texts)}."
        )
    names, wording_of, counts = np.unique(texts, return_inverse=True, return_counts=True)
    embeddings = embed(names.tolist())
    dbscan = cluster(embeddings, counts=counts, eps=eps, min_size=min_size, seed=seed)
    alike: dict[str, Any] = {"counts": counts, "num_clusters": num_clusters or dbscan.num_clusters, "seed": seed}
    found: dict[Method, Clusters] = {"dbscan": dbscan}
    found |= {name: cluster(embeddings, name, **alike) for name in METHODS if name != "dbscan"}
    wordings = Wordings(names.tolist(), counts, embeddings, found)

    settings = {
        **{"method": method, "eps": dbscan.eps, "min_size": min_size or _default_min_size(counts), "seed": seed},
        **{"num_captions": len(captions), "num_wordings": len(names), **origin},
    }
    styles = []
    for label, middle in enumerate(_middles(found[method], wordings)):
        members = np.flatnonzero(found[method].labels[wording_of] == label)
        example, share = wordings.texts[middle], len(members) / len(captions)
        sentence = describe([captions[row] for row in members], [texts[row] for row in members], example)
        styles.append(Style(id=label, size=len(members), share=share, sentence=sentence, example=example))
    comparison = [_compare(name, wordings, seed) for name in METHODS]
    return Styles(styles=styles, settings=settings, comparison=comparison), wordings


def describe(captions: list[str], texts: list[str], example: str) -> str:
    """How to write as in these captions, told to a language model; `texts` are the same, generalised."""
    num_words = round(median(len(caption.split()) for caption in captions))
    num_sentences = round(median(len(re.findall(r"[^.!?]*\w[^.!?]*", caption)) for caption in captions))
    sentences = {0: "one sentence", 1: "one sentence", 2: "two sentences"}.get(
        num_sentences, f"{num_sentences} sentences"
    )
    tone = next((tone for most, tone in TONES.items() if num_words < most), "very detailed, descriptive")

    def share(pattern: str) -> float:
        return sum(bool(re.search(pattern, caption)) for caption in captions) / len(captions)

    verb_form = max(VERB_FORMS, key=lambda name: share(VERB_FORMS[name]))
    manners = [name for name, pattern in {**MANNERS, verb_form: VERB_FORMS[verb_form]}.items() if share(pattern) > 0.5]
    opening, count = Counter(" ".join(text.split()[:3]) for text in texts).most_common(1)[0]
    if count > len(texts) / 2:
        manners.append(f'beginning like "{opening} …"')
    how = ", ".join([f"{sentences} of about {num_words} words in all", f"in a {tone} style", *manners])
    return f'Write {how}. An example, where words in brackets stand for what you see: "{example}"'


def _compare(method: Method, wordings: Wordings, seed: int) -> Comparison:
    clusters, embeddings = wordings.clusters[method], wordings.embeddings
    captions = _sample_captions(wordings.counts, seed)
    labels = clusters.labels[captions]
    is_defined = 1 < len(np.unique(labels)) < len(labels)
    silhouette = float(silhouette_score(embeddings[captions], labels, metric="cosine")) if is_defined else None
    middles = embeddings[_middles(clusters, wordings)]
    num_pairs = max(1, len(middles) * (len(middles) - 1))
    return Comparison(
        method=method,
        num_clusters=clusters.num_clusters,
        sizes=np.bincount(clusters.labels, wordings.counts).astype(int).tolist(),
        noise_share=clusters.noise_share,
        silhouette=silhouette,
        diversity=float((1 - middles @ middles.T).sum() / num_pairs),
    )


def map_wordings(wordings: Wordings, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    t-SNE (van der Maaten and Hinton, 2008) of the most frequent wordings, at most `MAX_POINTS`: which they are (P,),
    and their places (P, 2).

    Raises:
        ValueError: if there are fewer than three.
    """
    rows = (-wordings.counts).argsort(kind="stable")[:MAX_POINTS]
    if len(rows) < 3:
        raise ValueError(f"A map needs at least three distinct generalised captions, got {len(rows)}.")
    tsne = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=seed)
    return rows, tsne.fit_transform(wordings.embeddings[rows])


def styles_tables(styles: Styles) -> Group:
    """The methods and the styles for a terminal."""
    columns = ("method", "styles", "largest", "smallest", "noise", "silhouette", "diversity")
    methods = Table(*columns, title="Styles of writing, by method", box=SIMPLE_HEAD, pad_edge=False)
    for found in styles.comparison:
        silhouette = "–" if found.silhouette is None else f"{found.silhouette:.3f}"
        noise = f"{found.noise_share:.1%}" if found.method == "dbscan" else "–"
        sizes = (str(size) for size in (found.num_clusters, found.sizes[0], found.sizes[-1]))
        methods.add_row(found.method, *sizes, noise, silhouette, f"{found.diversity:.3f}")
    drawn = Table("style", "share", "example", title=f"Styles by {styles.settings['method']}", box=SIMPLE_HEAD)
    for style in styles.styles:
        drawn.add_row(str(style.id), f"{style.share:.1%}", Text(style.example))
    return Group(methods, drawn)
