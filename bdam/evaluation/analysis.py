"""The analysis of a trained model: its gates, what its features encode, and where it succeeds and fails."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset

from bdam.data.images import read_column
from bdam.data.loading import load_split
from bdam.encoding.encoders import BDAMEncoder
from bdam.encoding.extraction import embed_in_batches
from bdam.encoding.models import fingerprint, load_model, training_seed
from bdam.evaluation import figures
from bdam.evaluation.features import Features, extract_features
from bdam.evaluation.figures import ImageMaps, RankedQuery
from bdam.evaluation.metrics import rank_queries
from bdam.evaluation.protocols import mix
from bdam.evaluation.results import ANALYSIS, Analysis, GateStatistics, GroupRecall, MeanStd, Probes
from bdam.recipes.recipe import RECIPE, load_recipe
from losses_bdam import LOSSES


try:
    from sklearn.linear_model import RidgeCV
    from sklearn.manifold import TSNE
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise ImportError("The analysis needs scikit-learn: pip install bdam[analysis]") from error


# §IV-B of the paper, which does not say which of its two fusion weights is the image's.
PAPER = {
    "gates": {"identity": MeanStd(mean=0.61, std=0.17), "clothing": MeanStd(mean=0.38)},
    "fusion_weights": {"image": MeanStd(mean=0.52), "description": MeanStd(mean=0.48)},
}
# Quantities of a training log, each with the prefix of its keys, which end in the name of a task.
LOGGED = {
    "task losses": "",
    "loss weights": "weight/",
    "gradient norms": "gradient_norm/",
    "loss ratios": "loss_ratio/",
}
# Attributes whose values a model may serve unequally.
GROUPS = ("gender", "age", "skin_tone")
RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def analyze_run(
    run: Path, data: str | None = None, split: str = "test", output: Path | None = None, seed: int = 0
) -> Analysis:
    """
    The analysis of a training run's model, which is also written as `analysis.json` with figures. It runs on the
    accelerator, if there is one.

    Args:
        run: folder with `model/` and `log.jsonl`.
        data: the data set, see [`load_data`]; by default, the one that the model was trained on.
        split: `train`, `validation` or `test` (default).
        output: folder to write; by default, `run/analysis`.
        seed: the seed of the examples, maps and probes.

    Raises:
        FileNotFoundError: if the model, the log or the data does not exist.
        ValueError: if the log is not JSON.
    """
    model, processor = load_model(run / "model")
    encoder = BDAMEncoder(model.to(PartialState().device), processor)
    curves = read_curves(run / "log.jsonl")
    data = data or load_recipe(run / "model" / RECIPE).data
    dataset = load_split(data, split)
    features = extract_features(encoder, dataset)
    parts = image_parts(encoder, dataset)
    gates = gate_values(parts)
    ranked = examples(features, dataset, model.config.clothing_weight, seed)
    drawings: dict[str, tuple[Callable, Any]] = {
        "gates.png": (figures.gate_histograms, gates if any(gates.values()) else None),
        "embeddings.png": (figures.embedding_maps, image_maps(features, seed)),
        "weights.png": (figures.training_curves, curves),
        "successes.png": (figures.ranked_grid, ranked["successes"]),
        "failures.png": (figures.ranked_grid, ranked["failures"]),
    }
    analysis = Analysis(
        run=str(run),
        seed=training_seed(run / "model"),
        sampling_seed=seed,
        weights=fingerprint(run / "model"),
        clothing_weight=model.config.clothing_weight,
        data=data,
        split=split,
        num_images=len(dataset),
        **gate_statistics(parts),
        probes=disentanglement(parts, dataset, seed),
        groups=recall_by_group(features, dataset, model.config.clothing_weight),
        logged=list(curves),
        figures={name: bool(content) for name, (_, content) in drawings.items()},
    )
    output = output or run / "analysis"
    for name, (draw, content) in drawings.items():
        (output / name).unlink(missing_ok=True)
        if content:
            draw(content, output / name)
    analysis.to_json(output / ANALYSIS)
    return analysis


def image_parts(encoder: BDAMEncoder, dataset: Dataset, batch_size: int = 64) -> dict[str, torch.Tensor]:
    """
    Internal features of N images, by name, float32 on the CPU.

    Args:
        encoder: the model.
        dataset: rows of the N images.
        batch_size: images per forward pass.

    Returns:
        `f_id` and, with BDAM, `f_clo` and `gate`, all (N, hidden_size); with fusion, `fusion_weights` (M, 2) of image
        and description, for the M images that have a description.
    """
    model = encoder.model
    described = torch.tensor([bool(text) for text in read_column(dataset, "identity_description")])
    is_fused = model.config.use_fusion and bool(described.any())

    def embed(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = model(**inputs)
        image = outputs.image_output
        parts = {"f_id": image.identity_features, "f_clo": image.clothing_features, "gate": image.gate}
        if is_fused:
            parts["fusion_weights"] = outputs.fusion_weights
        return {name: part for name, part in parts.items() if part is not None}

    prepare = partial(encoder.prepare_images, use_descriptions=is_fused)
    parts = embed_in_batches(model, prepare, embed, dataset, "images", batch_size)
    if is_fused:
        parts["fusion_weights"] = parts["fusion_weights"][described]
    return parts


def gate_values(parts: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """All `gates`, by `identity` (g) and `clothing` (1 - g), and all `fusion_weights`; empty without such parts."""
    values: dict[str, dict[str, torch.Tensor]] = {"gates": {}, "fusion_weights": {}}
    if "gate" in parts:
        gate = parts["gate"].flatten()
        values["gates"] = {"identity": gate, "clothing": 1 - gate}
    if "fusion_weights" in parts:
        image, description = parts["fusion_weights"].T
        values["fusion_weights"] = {"image": image, "description": description}
    return values


def gate_statistics(parts: dict[str, torch.Tensor]) -> dict[str, dict[str, GateStatistics]]:
    """Mean and standard deviation of the [`gate_values`], with those of the paper (§IV-B)."""
    return {
        kind: {
            name: GateStatistics(mean=value.mean().item(), std=value.std(correction=0).item(), paper=PAPER[kind][name])
            for name, value in values.items()
        }
        for kind, values in gate_values(parts).items()
    }


def disentanglement(parts: dict[str, torch.Tensor], dataset: Dataset, seed: int = 0) -> dict[str, Probes]:
    """
    How well linear probes read identity and clothing from `f_id` and from `f_clo`.

    A probe predicts a term of the image: an attribute, if the data set has attributes, or a word of its description.
    Probes are fitted on the images of one half of the persons and scored on the other half. A feature without
    information about a term has an area under the ROC curve of 0.5, so a disentangled model has high areas for terms
    of a feature's own kind and 0.5 for the others. Compare areas on the same images only: more persons fit better
    probes, and with 120 persons a feature of pure noise gets 0.50 ± 0.02.

    Args:
        parts: `f_id` and `f_clo`, (N, hidden_size); see [`image_parts`].
        dataset: rows of the N images.
        seed: the seed that splits the persons in halves.

    Returns:
        Probes by kind, `identity` and `clothing`; without kinds that have no terms, and features that the model does
        not have.
    """
    descriptions = {kind: list(dataset[f"{kind}_description"]) for kind in ("identity", "clothing")}
    described = [row for row, texts in enumerate(zip(*descriptions.values(), strict=True)) if all(texts)]
    images = dataset.select(described)
    terms_by_kind = {kind: _terms(images, kind) for kind in descriptions}
    person_ids, outfit_ids = (np.array(list(dataset[name]))[described] for name in ("person_id", "outfit_id"))
    subjects = {"identity": person_ids, "clothing": person_ids if None in outfit_ids else outfit_ids}
    is_fitted = np.isin(person_ids, np.random.default_rng(seed).permutation(np.unique(person_ids))[::2])
    results = {}
    for kind, other in (("identity", "clothing"), ("clothing", "identity")):
        terms, presence = distinctive_terms(terms_by_kind[kind], terms_by_kind[other], subjects[kind])
        halves = presence[is_fitted], presence[~is_fitted]
        varying = np.flatnonzero(np.all([half.any(axis=0) & ~half.all(axis=0) for half in halves], axis=0))
        if not len(varying):
            continue
        areas: dict[str, list[float]] = {
            name: probe_areas(parts[name][described].numpy(), presence[:, varying], is_fitted)
            for name in ("f_id", "f_clo")
            if name in parts
        }
        columns: dict[str, list] = {"term": [terms[index] for index in varying], **areas}
        results[kind] = Probes(
            areas={name: float(np.mean(term_areas)) for name, term_areas in areas.items()},
            terms=[dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        )
    return results


def _terms(dataset: Dataset, kind: str) -> list[set[str]]:
    """The terms of each image: its attributes if the data set has them, otherwise the words of its description."""
    if f"{kind}_attributes" in dataset.column_names:
        return [{f"{name} {value}" for name, value in row.items()} for row in dataset[f"{kind}_attributes"]]
    return [set(re.findall(r"[^\W\d_]+", (text or "").lower())) for text in dataset[f"{kind}_description"]]


def distinctive_terms(
    tokens: list[set[str]], other_tokens: list[set[str]], subjects: np.ndarray, agreement: float = 0.2
) -> tuple[list[str], np.ndarray]:
    """
    The T terms that distinguish subjects, and which of the N images have which, (N, T) of bool.

    Such a term occurs in 5 to 95 % of the images, and in less than 1 % of the descriptions of the other kind. The
    descriptions of one subject agree on it beyond chance, by a kappa above `agreement` (slight, according to Landis
    and Koch, 1977), which excludes words such as "depicts" that depend on the writer.

    Args:
        tokens: the terms of each image, of one kind.
        other_tokens: the terms of each image, of the other kind.
        subjects: (N,) the person or outfit in each image.
        agreement: the lowest kappa.
    """
    counts, other_counts = (Counter(term for image in images for term in image) for images in (tokens, other_tokens))
    terms = [
        term
        for term, count in sorted(counts.items())
        if 0.05 <= count / len(tokens) <= 0.95 and other_counts[term] < 0.01 * len(tokens)
    ]
    presence = np.zeros((len(tokens), len(terms)), bool)
    for row, image in enumerate(tokens):
        presence[row] = [term in image for term in terms]

    _, subject, sizes = np.unique(subjects, return_inverse=True, return_counts=True)
    num_present = np.zeros((len(sizes), len(terms)))
    np.add.at(num_present, subject, presence)
    num_pairs = max(1, (sizes * (sizes - 1)).sum())
    rate = ((sizes - 1) @ num_present) / num_pairs
    both = (num_present * (num_present - 1)).sum(axis=0) / num_pairs
    agrees = both - rate**2 > agreement * (rate - rate**2)
    return [term for term, is_kept in zip(terms, agrees, strict=True) if is_kept], presence[:, agrees]


def probe_areas(features: np.ndarray, presence: np.ndarray, is_fitted: np.ndarray) -> list[float]:
    """
    The T areas under the ROC curves of ridge probes from features to terms. The penalty of each term is chosen on the
    fitted images, by leave-one-out.

    Args:
        features: (N, D) of the images.
        presence: (N, T) bool, which images have which terms.
        is_fitted: (N,) bool, the images that the probes are fitted on; they are scored on the others.
    """
    probes = make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES, alpha_per_target=True))
    probes.fit(features[is_fitted], presence[is_fitted].astype(float))
    truth = presence[~is_fitted]
    scores = probes.predict(features[~is_fitted]).reshape(truth.shape)
    return [float(roc_auc_score(*columns)) for columns in zip(truth.T, scores.T, strict=True)]


def image_maps(features: Features, seed: int = 0, max_images: int = 1000) -> ImageMaps:
    """
    t-SNE (van der Maaten and Hinton, 2008) of the identity and, if there are any, clothing embeddings of at most
    `max_images` images: all images of a person, then of the next one, in random order.
    """
    persons, person = features.person_ids[features.gallery_images].unique(return_inverse=True)
    order = torch.randperm(len(persons), generator=torch.Generator().manual_seed(seed))
    entries = order[person].argsort(stable=True)[:max_images]
    images = features.gallery_images[entries]
    embeds = {"identity": features.galleries["image"], "clothing": features.clothing}
    tsne = TSNE(perplexity=min(30, (len(entries) - 1) / 3), init="pca", random_state=seed)
    return ImageMaps(
        {name: tsne.fit_transform(rows[entries].numpy()) for name, rows in embeds.items() if rows is not None},
        features.person_ids[images],
        None if features.outfit_ids is None else features.outfit_ids[images],
    )


def examples(
    features: Features, dataset: Dataset, clothing_weight: float, seed: int = 0, count: int = 4, k: int = 8
) -> dict[str, list[RankedQuery]]:
    """
    Searches by caption in the gallery of images: random `successes`, whose best image is right, and the `failures`
    whose first right image has the highest rank; it is shown as the last of the k images. Both are empty without
    captions.

    Args:
        features: the embedded split.
        dataset: its rows.
        clothing_weight: how much clothing counts, c.
        seed: the seed of the random successes.
        count: the largest number of successes and of failures, each of different persons.
        k: images per search.
    """
    if "caption" not in features.queries:
        return {"successes": [], "failures": []}
    query_embeds, gallery_embeds = mix(features, "image", "caption", clothing_weight)
    captions = [caption for texts in read_column(dataset, "captions") for caption in texts]
    persons, searched = _caption_and_gallery_persons(features)
    first_rank = rank_queries(query_embeds, gallery_embeds, persons, searched).first_rank
    shuffled = torch.randperm(len(captions), generator=torch.Generator().manual_seed(seed))
    successes = shuffled[first_rank[shuffled] == 1]
    failures = shuffled[first_rank[shuffled].argsort(descending=True, stable=True)]
    failures = failures[first_rank[failures] > 1]

    def rank(query: int) -> RankedQuery:
        scores, order = (gallery_embeds @ query_embeds[query]).sort(descending=True, stable=True)
        right = searched[order] == persons[query]
        shown = list(range(min(k, len(order))))
        if not right[shown].any():
            shown[-1] = int(right.nonzero()[0])
        return RankedQuery(
            captions[query],
            [dataset[int(features.gallery_images[order[index]])]["image"] for index in shown],
            scores[shown].tolist(),
            right[shown].tolist(),
            [index + 1 for index in shown],
        )

    def first_of_each_person(queries: torch.Tensor) -> list[int]:
        chosen: dict[int, int] = {}
        for query in queries.tolist():
            chosen.setdefault(int(persons[query]), query)
        return list(chosen.values())[:count]

    return {
        name: [rank(query) for query in first_of_each_person(queries)]
        for name, queries in (("successes", successes), ("failures", failures))
    }


def recall_by_group(features: Features, dataset: Dataset, clothing_weight: float) -> dict[str, dict[str, GroupRecall]]:
    """
    R-1 of searches by caption in the gallery of images, by attribute and value of the person; empty without attributes
    or captions.

    Args:
        features: the embedded split.
        dataset: its rows.
        clothing_weight: how much clothing counts, c.
    """
    if "caption" not in features.queries or "identity_attributes" not in dataset.column_names:
        return {}
    is_found = rank_queries(
        *mix(features, "image", "caption", clothing_weight), *_caption_and_gallery_persons(features)
    ).first_rank.eq(1)
    attributes = read_column(dataset, "identity_attributes")
    groups: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in GROUPS}
    for image, found in zip(features.query_images["caption"].tolist(), is_found.tolist(), strict=True):
        for name in GROUPS:
            groups[name][attributes[image][name]].append(found)
    return {
        name: {
            value: GroupRecall(r1=100 * sum(found) / len(found), num_queries=len(found))
            for value, found in sorted(values.items())
        }
        for name, values in groups.items()
    }


def _caption_and_gallery_persons(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """The person of each caption, and of each gallery entry."""
    return features.person_ids[features.query_images["caption"]], features.person_ids[features.gallery_images]


def read_curves(path: Path) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """
    Curves `(steps, values)` of a training log, by quantity and task. The quantities are `task losses`, `loss weights`,
    `gradient norms` and `loss ratios`, as far as they were logged.

    Raises:
        FileNotFoundError: if there is no log at `path`.
        ValueError: if a line of it is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No training log at {path}: give the folder that training wrote, with its log.jsonl.")
    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error}): remove the line.") from None
        for quantity, prefix in LOGGED.items():
            for task in LOSSES:
                if prefix + task in values:
                    steps, curve = panels.setdefault(quantity, {}).setdefault(task, ([], []))
                    steps.append(values["step"])
                    curve.append(values[prefix + task])
    return panels
