"""The styles that people write in: captions without what they say of the person, in clusters (§III-C of the paper)."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

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

from bdam.captions.clustering import (
    METHODS,
    Clusters,
    Method,
    check_method,
    cluster,
    default_min_size,
    find_medoids,
    map_texts,
    silhouette,
)
from bdam.captions.slots import generalize
from bdam.data.images import read_column
from bdam.data.loading import load_split
from bdam.data.writing import write_json
from bdam.encoding.encoders import Encoder, load_encoder
from bdam.encoding.extraction import embed_in_batches
from bdam.evaluation.figures import style_maps
from modeling_bdam import masked_mean


# §IV-A.3 of the paper.
ENCODER = "openai/clip-vit-base-patch32"
# What the sentence of a style says where most of its captions match; of the verb forms, the most frequent one only.
MANNERS = {"in the first person": r"\b(?:I|[Ww]e|[Mm]y|[Oo]ur)\b", "as a question": r"\?"}
_PRESENT = "wears|has|carries|holds|walks|stands|sits|comes|heads|waits"
VERB_FORMS = {
    'in the continuous form, as in "is wearing"': r"\b(?:is|are) \w+ing\b",
    'in the simple present, as in "wears"': rf"\b(?:{_PRESENT})\b",
    'in the past tense, as in "wore"': r"\b(?:wore|was|were|had|carried|held|walked|stood)\b",
    "in phrases without a verb": rf"^(?!.*\b(?:is|are|was|were|have|had|can|wore|{_PRESENT}|\w+ing)\b)",
}
TONES = {15: "terse", 30: "plain", 45: "detailed"}


class Style(BaseModel):
    """
    A style that captions are written in.

    Args:
        id: 0 for the most frequent style, and so on.
        size: how many captions are written in it.
        share: the part of all captions that it is, in (0, 1].
        sentence: the instruction for a language model that writes in this style.
        example: the generalized caption nearest to the center of the style.
    """

    id: int
    size: int
    share: float
    sentence: str
    example: str


class Comparison(BaseModel):
    """
    The clusters that a method finds among the captions.

    Args:
        sizes: captions of each cluster, the largest first.
        noise_share: the part of the captions that DBSCAN left over at first.
        silhouette: mean silhouette (Rousseeuw, 1987) by cosine distance, of at most `MAX_POINTS` captions; None if
            there is but one cluster, or each caption is one. Equal captions are together and at distance 0 by any
            method, so even random clusters may have more than 0: compare methods on the same captions only.
        diversity: mean cosine distance between the medoids of two clusters; 0 if there is but one.
    """

    method: Method
    num_clusters: int
    sizes: list[int]
    noise_share: float
    silhouette: float | None
    diversity: float


class Styles(BaseModel):
    """The styles of a data set, most frequent first, how they were found, and what other methods would have row."""

    styles: list[Style]
    settings: dict[str, Any]
    comparison: list[Comparison]

    def draw(self, image_id: str, seed: int = 0) -> Style:
        """A random style for an image, as frequent as among the captions. Equal ids and seeds draw equal styles."""
        weights = [style.share for style in self.styles]
        return random.Random(f"{seed} {image_id}").choices(self.styles, weights)[0]

    def save(self, path: Path) -> None:
        """Writes the styles as JSON, whole or not at all."""
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> "Styles":
        """
        The styles of a file that `save` wrote.

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
    The U distinct generalized captions.

    Args:
        texts: U of them.
        counts: (U,), how many captions each stands for.
        embeddings: (U, D), L2-normalized.
        clusters: by each method.
    """

    texts: list[str]
    counts: np.ndarray
    embeddings: np.ndarray
    clusters: dict[Method, Clusters]

    def medoids(self, method: Method) -> list[int]:
        """The place of the text in the middle of each cluster."""
        return find_medoids(self.clusters[method].labels, self.embeddings, self.counts)


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


def embed_texts(model_name_or_path: str, texts: list[str], batch_size: int = 64) -> np.ndarray:
    """
    Embeddings (N, D) of N texts, float32, L2-normalized, by a model of a folder or of the Hub: the text half of a dual
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


def sample_captions(data: str, limit: int, seed: int = 0) -> list[str]:
    """
    Captions of the train split of a data set, at most `limit`, drawn at random.

    Args:
        data: as for [`load_data`].
        limit: the most captions.
        seed: equal seeds draw equal captions.

    Raises:
        FileNotFoundError, ValueError: as [`load_data`], or if there is no train split.
    """
    captions = list(chain.from_iterable(read_column(load_split(data, "train"), "captions")))
    return captions if len(captions) <= limit else random.Random(seed).sample(captions, limit)


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
        embed: texts → embeddings (N, D), L2-normalized, such as [`embed_texts`] with a model.
        method: what finds the styles. The other methods are compared with it at an equal number of clusters.
        generalizer: captions → as many texts, in which the person is left out.
        eps, min_size, seed: as for [`cluster`].
        num_clusters: as for [`cluster`]; by default as many as DBSCAN finds.
        origin: where the captions come from, to be written with the settings.

    Returns:
        The styles, and the distinct generalized captions that they were found among.

    Raises:
        ValueError: if there are no captions, or the generalizer does not return a text for each; besides, as for
            [`cluster`].
    """
    check_method(method)
    captions = [caption for caption in captions if caption.strip()]
    texts = _generalize_all(captions, generalizer)
    names, wording_of, counts = np.unique(texts, return_inverse=True, return_counts=True)
    embeddings = embed(names.tolist())
    dbscan = cluster(embeddings, counts=counts, eps=eps, min_size=min_size, seed=seed)
    alike: dict[str, Any] = {"counts": counts, "num_clusters": num_clusters or dbscan.num_clusters, "seed": seed}
    clusters: dict[Method, Clusters] = {"dbscan": dbscan}
    clusters |= {name: cluster(embeddings, name, **alike) for name in METHODS if name != "dbscan"}
    wordings = Wordings(names.tolist(), counts, embeddings, clusters)
    settings = {
        **{"method": method, "eps": dbscan.eps, "min_size": min_size or default_min_size(counts), "seed": seed},
        **{"num_captions": len(captions), "num_wordings": len(names), **origin},
    }
    styles = _list_styles(captions, texts, wordings, clusters[method].labels[wording_of], method)
    comparison = [_measure(name, wordings, seed) for name in METHODS]
    return Styles(styles=styles, settings=settings, comparison=comparison), wordings


def _generalize_all(captions: list[str], generalizer: Callable[[list[str]], list[str]]) -> list[str]:
    if not captions:
        raise ValueError("There are no captions to find styles in: give data whose images have some.")
    texts = generalizer(captions)
    if len(texts) != len(captions) or not all(text.strip() for text in texts):
        raise ValueError(
            f"The generalizer must return a text for each of {len(captions)} captions, got "
            f"{sum(bool(text.strip()) for text in texts)}."
        )
    return texts


def _list_styles(
    captions: list[str], texts: list[str], wordings: Wordings, labels: np.ndarray, method: Method
) -> list[Style]:
    """One style per cluster. `labels` (N,) gives the cluster of each caption."""
    styles = []
    for label, medoid in enumerate(wordings.medoids(method)):
        members = np.flatnonzero(labels == label)
        example = wordings.texts[medoid]
        sentence = write_instruction([captions[row] for row in members], [texts[row] for row in members], example)
        share = len(members) / len(captions)
        styles.append(Style(id=label, size=len(members), share=share, sentence=sentence, example=example))
    return styles


def write_instruction(captions: list[str], texts: list[str], example: str) -> str:
    """
    The instruction to write as in these captions, for a language model.

    Args:
        captions: those of one style.
        texts: the same, generalized.
        example: one of the texts.
    """
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
    manner = ", ".join([f"{sentences} of about {num_words} words in all", f"in a {tone} style", *manners])
    return f'Write {manner}. An example, where words in brackets stand for what you see: "{example}"'


def _measure(method: Method, wordings: Wordings, seed: int) -> Comparison:
    clusters, medoids = wordings.clusters[method], wordings.embeddings[wordings.medoids(method)]
    num_pairs = max(1, len(medoids) * (len(medoids) - 1))
    return Comparison(
        method=method,
        num_clusters=clusters.num_clusters,
        sizes=np.bincount(clusters.labels, wordings.counts).astype(int).tolist(),
        noise_share=clusters.noise_share,
        silhouette=silhouette(clusters.labels, wordings.embeddings, wordings.counts, seed),
        diversity=float((1 - medoids @ medoids.T).sum() / num_pairs),
    )


def save_styles(styles: Styles, wordings: Wordings, folder: Path, seed: int = 0) -> None:
    """
    Writes `styles.json` and, for three or more wordings, `styles.png`: their map, colored by each method.

    Args:
        folder: made if it is not there.
        seed: of the map.
    """
    folder.mkdir(parents=True, exist_ok=True)
    styles.save(folder / "styles.json")
    (folder / "styles.png").unlink(missing_ok=True)
    if len(wordings.texts) > 2:
        rows, points = map_texts(wordings.embeddings, wordings.counts, seed)
        labels = {str(method): clusters.labels[rows] for method, clusters in wordings.clusters.items()}
        style_maps(points, wordings.counts[rows], labels, folder / "styles.png")


def styles_tables(styles: Styles) -> Group:
    """Tables of the methods and of the styles, for a terminal."""
    columns = ("method", "styles", "largest", "smallest", "noise", "silhouette", "diversity")
    methods = Table(*columns, title="Styles of writing, by method", box=SIMPLE_HEAD, pad_edge=False)
    for row in styles.comparison:
        silhouette = "–" if row.silhouette is None else f"{row.silhouette:.3f}"
        noise = f"{row.noise_share:.1%}" if row.method == "dbscan" else "–"
        sizes = (str(size) for size in (row.num_clusters, row.sizes[0], row.sizes[-1]))
        methods.add_row(row.method, *sizes, noise, silhouette, f"{row.diversity:.3f}")
    by_share = Table("style", "share", "example", title=f"Styles by {styles.settings['method']}", box=SIMPLE_HEAD)
    for style in styles.styles:
        by_share.add_row(str(style.id), f"{style.share:.1%}", Text(style.example))
    return Group(methods, by_share)
