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
    """By kind of query: whether each of them (Q,) finds its person first; NaN where it has nobody to find."""
    encoder = load_encoder(str(model))
    features = extract_features(encoder, dataset)
    weights = {"caption": encoder.model.config.clothing_weight, "identity_description": 0.0}
    ranks = {query: rank(features, PROTOCOLS[query], "image", query, weights[query]) for query in PROTOCOLS}
    return {query: of_query.is_first_right.numpy() for query, of_query in ranks.items()}


def main() -> None:
    study, data, *recipes = sys.argv[1:]
    dataset = load_split(data, "test")
    people = dataset["person_id"][:]
    finished = {recipe: sorted(Path(study, recipe).glob(f"seed-*/{RESULTS}")) for recipe in recipes}
    models = {recipe: [results.with_name("model") for results in of_seeds] for recipe, of_seeds in finished.items()}
    progress = tqdm(total=sum(map(len, models.values())), desc="Evaluating", unit="run")
    found: dict[str, dict[str, np.ndarray]] = {}
    for recipe, of_seeds in models.items():
        runs = [find(model, dataset) for model in of_seeds]
        progress.update(len(runs))
        found[recipe] = {query: np.mean([run[query] for run in runs], axis=0) for query in PROTOCOLS}
    figures = {}
    for query, pairs in query_sentences(dataset).items():
        persons = np.array([people[row] for row, _ in pairs])
        r1 = {recipe: round(100 * float(np.nanmean(right[query])), 1) for recipe, right in found.items()}
        first, *others = recipes
        ahead = {other: str(interval(found[first][query] - found[other][query], persons)) for other in others}
        figures[f"{PROTOCOLS[query]}, {query}"] = {"r1": r1, "ahead": ahead}
        print(f"{PROTOCOLS[query]}, {query}: {r1}, {first} is ahead of {ahead}")
    seeds = {recipe: len(of_seeds) for recipe, of_seeds in models.items()}
    print(json.dumps({"benchmark": "ablations", "seeds": seeds, **figures}))


if __name__ == "__main__":
    main()
