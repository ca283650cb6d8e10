"""
Whether fusion is ahead of the image alone and of the description alone, with intervals.

    python benchmarks/galleries.py MODEL DATA

R-1 on the split `test` of DATA, identity alone, and how far images fused with their descriptions are ahead of images
and of descriptions: 95 % intervals by a paired bootstrap over persons, whose queries depend on each other.
"""

import json
import sys

import numpy as np

from bdam.data.loading import load_split
from bdam.encoding.encoders import load_encoder
from bdam.encoding.extraction import feature_store
from bdam.evaluation.features import extract_features
from bdam.evaluation.intervals import interval
from bdam.evaluation.protocols import rank


SETTINGS = (
    ("standard", "caption"),
    ("clothes-changed", "caption"),
    ("standard", "identity_description"),
    ("clothes-changed", "identity_description"),
)
FUSED = "image+description"


def main() -> None:
    model, data = sys.argv[1:]
    dataset = load_split(data, "test")
    store = feature_store(model, dataset, batch_size=64, mixed_precision="no")
    features = extract_features(load_encoder(model), dataset, store=store)
    figures = {}
    for protocol, query in SETTINGS:
        persons = features.person_ids[features.query_images[query]].numpy()
        ranks = {gallery: rank(features, protocol, gallery, query, 0.0) for gallery in features.galleries}
        found = {gallery: of_gallery.is_first_right.numpy() for gallery, of_gallery in ranks.items()}
        r1 = {gallery: round(100 * float(np.nanmean(right)), 2) for gallery, right in found.items()}
        ahead = {
            other: [round(value, 2) for value in interval(found[FUSED] - found[other], persons)]
            for other in found
            if other != FUSED
        }
        figures[f"{protocol}, {query}"] = {"r1": r1, "fused_ahead_of": ahead}
        print(f"{protocol}, {query}: {r1}, fused ahead of {ahead}")
    print(json.dumps({"benchmark": "galleries", **figures}))


if __name__ == "__main__":
    main()
