"""
How far one recipe of a study is ahead of others, with intervals.

    python benchmarks/ablations.py STUDY DATA RECIPE OTHER [OTHER …]

STUDY is a folder of `bdam study`, and each RECIPE a folder in it. R-1 on the split `test` of DATA, images alone, by
captions, with the clothing weight that validation chose for each run, and by identity descriptions under changed
clothes. What a query finds is its mean over the seeds of a recipe, and the intervals are 95 % by a paired bootstrap
over persons: they say what other persons would change, not what other seeds would. A quarter of a minute for each run.
"""

import json
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from bdam.data.loading import load_split
from bdam.encoding.encoders import load_encoder
from bdam.evaluation.features import extract_features, query_sentences
from bdam.evaluation.intervals import interval
from bdam.evaluation.protocols import rank
from bdam.evaluation.results import RESULTS


PROTOCOLS = {"caption": "standard", "identity_description": "clothes-changed"}


def find(model: Path, dataset: Dataset) -> dict[str, np.ndarray]:
    """
    For each kind of query, (Q,): 1 if the best image shows the person, 0 if not, NaN for a query that has no positive.
    """
    encoder = load_encoder(str(model))
    features = extract_features(encoder, dataset)
    weights = {"caption": encoder.model.config.clothing_weight, "identity_description": 0.0}
    ranks = {query: rank(features, PROTOCOLS[query], "image", query, weights[query]) for query in PROTOCOLS}
    return {query: of_query.is_first_right.numpy() for query, of_query in ranks.items()}


def main() -> None:
    study, data, *recipes = sys.argv[1:]
    dataset = load_split(data, "test")
    people = np.array(dataset["person_id"][:])
    runs = [
        (recipe, results) for recipe in recipes for results in sorted(Path(study, recipe).glob(f"seed-*/{RESULTS}"))
    ]
    found: dict[str, list[dict[str, np.ndarray]]] = {recipe: [] for recipe in recipes}
    for recipe, results in tqdm(runs, desc="Evaluating", unit="run"):
        found[recipe].append(find(results.with_name("model"), dataset))
    if unfinished := [recipe for recipe, of_seeds in found.items() if not of_seeds]:
        raise ValueError(f"{study} has no finished run of {unfinished}: name folders in it, or train them first.")
    figures, (first, *others) = {}, recipes
    for query, pairs in query_sentences(dataset).items():
        persons = people[[row for row, _ in pairs]]
        right = {recipe: np.mean([run[query] for run in of_seeds], axis=0) for recipe, of_seeds in found.items()}
        r1 = {recipe: round(100 * float(np.nanmean(of_recipe)), 1) for recipe, of_recipe in right.items()}
        ahead = {other: str(interval(right[first] - right[other], persons)) for other in others}
        figures[f"{PROTOCOLS[query]}, {query}"] = {"r1": r1, "ahead": ahead}
        print(f"{PROTOCOLS[query]}, {query}: {r1}, {first} is ahead of {ahead}")
    seeds = {recipe: len(of_seeds) for recipe, of_seeds in found.items()}
    print(json.dumps({"benchmark": "ablations", "seeds": seeds, **figures}))


if __name__ == "__main__":
    main()
