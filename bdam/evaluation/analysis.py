"""What goes on inside a trained model: its gates, what its features tell, and where it succeeds and fails."""

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


# §IV-B of the paper; of its balanced fusion weights it does not say which is the image's.
PAPER = {
    "gates": {"identity": MeanStd(mean=0.61, std=0.17), "clothing": MeanStd(mean=0.38)},
    "fusion_weights": {"image": MeanStd(mean=0.52), "description": MeanStd(mean=0.48)},
}
# Quantities of a training log, with the prefix that they put before the name of a task.
LOGGED = {
    "task losses": "",
    "loss weights": "weight/",
    "gradient norms": "gradient_norm/",
    "loss ratios": "loss_ratio/",
}
# Attributes of people whom a model may find more or less reliably.
GROUPS = ("gender", "age", "skin_tone")
RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def analyze_run(
    run: Path, data: str | None = None, split: str = "test", output: Path | None = None, seed: int = 0
) -> Analysis:
    """
    Analyzes the model of a training run, on the accelerator where there is one, and writes `analysis.json` and
    figures.

    Args:
        run: folder with `model/` and `log.jsonl`.
        data: what to analyze it on, as for [`bdam.evaluation.evaluate.evaluate_checkpoint`]; by default, what it was
            trained on.
        split: `train`, `validation` or `test`.
        output: folder to write; by default, `run/analysis`.
        seed: what examples, maps and probes are drawn with.

    Raises:
        FileNotFoundError: if the model, the log or the data is not there.
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
    What the model makes of N images inside: `f_id` and, with BDAM, `f_clo` and `gate`, all (N, hidden_size); with
    fusion, `fusion_weights` (M, 2) of image and description, for the M images that have a description.
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
    """All `gates` of identity (g) and of clothing (1 - g), and all `fusion_weights`; none where there are none."""
    values: dict[str, dict[str, torch.Tensor]] = {"gates": {}, "fusion_weights": {}}
    if "gate" in parts:
        gate = parts["gate"].flatten()
        values["gates"] = {"identity": gate, "clothing": 1 - gate}
    if "fusion_weights" in parts:
        image, description = parts["fusion_weights"].T
        values["fusion_weights"] = {"image": image, "description": description}
    return values


def gate_statistics(parts: dict[str, torch.Tensor]) -> dict[str, dict[str, GateStatistics]]:
    """Mean and standard deviation of each of the [`gate_values`], with the paper's beside them."""
    return {
        kind: {
            name: GateStatistics(mean=value.mean().item(), std=value.std(correction=0).item(), paper=PAPER[kind][name])
            for name, value in of_kind.items()
        }
        for kind, of_kind in gate_values(parts).items()
    }


def disentanglement(parts: dict[str, torch.Tensor], dataset: Dataset, seed: int = 0) -> dict[str, Probes]:
    """
    How well linear probes read identity and clothing from `f_id` and from `f_clo`.

    The probes answer yes-or-no questions about the image: whether it has an attribute, where the data set knows
    attributes, or whether a word stands in its description. They are fitted on the images of one half of the
    persons and scored on the other half. A feature that says nothing about a term has an area under the ROC curve of
    0.5, so a disentangled model has high areas for its own terms and 0.5 for the other's. Compare areas
    on the same images only: more persons fit better probes, and with 120 persons a feature of pure noise gets
    0.50 ± 0.02.

    Returns:
        Probes by kind, `identity` and `clothing`. A kind without any term to ask for is left out, and so is a feature
        that the model does not have.
    """
    descriptions = {kind: list(dataset[f"{kind}_description"]) for kind in ("identity", "clothing")}
    described = [row for row, of_image in enumerate(zip(*descriptions.values(), strict=True)) if all(of_image)]
    images = dataset.select(described)
    said = {kind: _terms(images, kind) for kind in descriptions}
    person_ids, outfit_ids = (np.array(list(dataset[name]))[described] for name in ("person_id", "outfit_id"))
    subjects = {"identity": person_ids, "clothing": person_ids if None in outfit_ids else outfit_ids}
    is_fitted = np.isin(person_ids, np.random.default_rng(seed).permutation(np.unique(person_ids))[::2])
    results = {}
    for kind, other in (("identity", "clothing"), ("clothing", "identity")):
        terms, presence = telling_terms(said[kind], said[other], subjects[kind])
        halves = presence[is_fitted], presence[~is_fitted]
        asked = np.flatnonzero(np.all([half.any(axis=0) & ~half.all(axis=0) for half in halves], axis=0))
        if not len(asked):
            continue
        areas: dict[str, list[float]] = {
            name: probe_areas(parts[name][described].numpy(), presence[:, asked], is_fitted)
            for name in ("f_id", "f_clo")
            if name in parts
        }
        columns: dict[str, list] = {"term": [terms[index] for index in asked], **areas}
        results[kind] = Probes(
            areas={name: float(np.mean(of_terms)) for name, of_terms in areas.items()},
            terms=[dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        )
    return results


def _terms(dataset: Dataset, kind: str) -> list[set[str]]:
    """What is said of each image: its attributes if the data set has them, else the words of its description."""
    if f"{kind}_attributes" in dataset.column_names:
        return [{f"{name} {value}" for name, value in row.items()} for row in dataset[f"{kind}_attributes"]]
    return [set(re.findall(r"[^\W\d_]+", (text or "").lower())) for text in dataset[f"{kind}_description"]]


def telling_terms(
    tokens: list[set[str]], other_tokens: list[set[str]], subjects: np.ndarray, agreement: float = 0.2
) -> tuple[list[str], np.ndarray]:
    """
    Terms T that tell the N described subjects apart, and which subject has which: (N, T) of bool.

    They are said of 5 to 95 % of the subjects, and in less than 1 % of the other kind of description. And they speak
    of the subject rather than of the writer's mood, as "depicts" does: between the descriptions of one subject, they
    agree beyond chance, by a kappa over `agreement` (slight, according to Landis and Koch, 1977).
    """
    counts, other_counts = (Counter(term for of_image in of for term in of_image) for of in (tokens, other_tokens))
    terms = [
        term
        for term, count in sorted(counts.items())
        if 0.05 <= count / len(tokens) <= 0.95 and other_counts[term] < 0.01 * len(tokens)
    ]
    presence = np.zeros((len(tokens), len(terms)), bool)
    for row, of_image in enumerate(tokens):
        presence[row] = [term in of_image for term in terms]

    _, subject, sizes = np.unique(subjects, return_inverse=True, return_counts=True)
    have = np.zeros((len(sizes), len(terms)))
    np.add.at(have, subject, presence)
    num_pairs = max(1, (sizes * (sizes - 1)).sum())
    rate = ((sizes - 1) @ have) / num_pairs
    both = (have * (have - 1)).sum(axis=0) / num_pairs
    telling = both - rate**2 > agreement * (rate - rate**2)
    return [term for term, tells in zip(terms, telling, strict=True) if tells], presence[:, telling]


def probe_areas(features: np.ndarray, presence: np.ndarray, is_fitted: np.ndarray) -> list[float]:
    """
    Areas under the ROC curves of ridge probes from features (N, D) to terms (N, T), fitted where `is_fitted` and
    scored elsewhere. The penalty of each term is chosen among the fitted, by leave-one-out.
    """
    probes = make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES, alpha_per_target=True))
    probes.fit(features[is_fitted], presence[is_fitted].astype(float))
    truth = presence[~is_fitted]
    scores = probes.predict(features[~is_fitted]).reshape(truth.shape)
    return [float(roc_auc_score(*of_term)) for of_term in zip(truth.T, scores.T, strict=True)]


def image_maps(features: Features, seed: int = 0, max_images: int = 1000) -> ImageMaps:
    """
    t-SNE (van der Maaten and Hinton, 2008) of the identity and, if there are any, the clothing embeddings of images,
    person by person in random order, at most `max_images`.
    """
    persons, person = features.person_ids[features.gallery_images].unique(return_inverse=True)
    place = torch.randperm(len(persons), generator=torch.Generator().manual_seed(seed))
    entries = place[person].argsort(stable=True)[:max_images]
    images = features.gallery_images[entries]
    embeds = {"identity": features.galleries["image"], "clothing": features.clothing}
    tsne = TSNE(perplexity=min(30, (len(entries) - 1) / 3), init="pca", random_state=seed)
    return ImageMaps(
        {
            name: tsne.fit_transform(of_images[entries].numpy())
            for name, of_images in embeds.items()
            if of_images is not None
        },
        features.person_ids[images],
        None if features.outfit_ids is None else features.outfit_ids[images],
    )


def examples(
    features: Features, dataset: Dataset, clothing_weight: float, seed: int = 0, count: int = 4, k: int = 8
) -> dict[str, list[RankedQuery]]:
    """
    Captions, searched among images alone: random `successes`, whose best image is right, and the `failures` whose
    first right image comes latest; it stands as the last of the k. At most one of each per person, and none where
    nobody wrote captions.
    """
    if "caption" not in features.queries:
        return {"successes": [], "failures": []}
    query_embeds, gallery_embeds = mix(features, "image", "caption", clothing_weight)
    captions = [caption for of_image in read_column(dataset, "captions") for caption in of_image]
    persons, searched = _who_is_asked_for(features)
    first_rank = rank_queries(query_embeds, gallery_embeds, persons, searched).first_rank
    shuffled = torch.randperm(len(captions), generator=torch.Generator().manual_seed(seed))
    successes = shuffled[first_rank[shuffled] == 1]
    failures = shuffled[first_rank[shuffled].argsort(descending=True, stable=True)]
    failures = failures[first_rank[failures] > 1]

    def rank(query: int) -> RankedQuery:
        scores, order = (gallery_embeds @ query_embeds[query]).sort(descending=True, stable=True)
        right = searched[order] == persons[query]
        places = list(range(min(k, len(order))))
        if not right[places].any():
            places[-1] = int(right.nonzero()[0])
        return RankedQuery(
            captions[query],
            [dataset[int(features.gallery_images[order[place]])]["image"] for place in places],
            scores[places].tolist(),
            right[places].tolist(),
            [place + 1 for place in places],
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
    How reliably whom is found, by attribute and value that the data set says of the person: captions, searched among
    images alone. Empty where it says nothing, or has no captions.
    """
    if "caption" not in features.queries or "identity_attributes" not in dataset.column_names:
        return {}
    is_found = rank_queries(
        *mix(features, "image", "caption", clothing_weight), *_who_is_asked_for(features)
    ).first_rank.eq(1)
    attributes = read_column(dataset, "identity_attributes")
    groups: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in GROUPS}
    for image, found in zip(features.query_images["caption"].tolist(), is_found.tolist(), strict=True):
        for name in GROUPS:
            groups[name][attributes[image][name]].append(found)
    return {
        name: {
            value: GroupRecall(r1=100 * sum(found) / len(found), num_queries=len(found))
            for value, found in sorted(of_name.items())
        }
        for name, of_name in groups.items()
    }


def _who_is_asked_for(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """The persons of the captions, and those in the gallery."""
    asked = features.person_ids[features.query_images["caption"]]
    return asked, features.person_ids[features.gallery_images]


def read_curves(path: Path) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """
    Curves `(steps, values)` of a training log by quantity and task: `task losses`, `loss weights`, `gradient norms`
    and `loss ratios`; only what was logged.

    Raises:
        FileNotFoundError: if there is no log.
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
                    steps, of_task = panels.setdefault(quantity, {}).setdefault(task, ([], []))
                    steps.append(values["step"])
                    of_task.append(values[prefix + task])
    return panels
