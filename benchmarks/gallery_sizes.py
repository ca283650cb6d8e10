"""
Whether what a validation split says of scores holds in a gallery of another size, with and without the correction.

    python benchmarks/gallery_sizes.py MODEL VALIDATION DATA

For each kind of query, by the split `validation` of VALIDATION, whose persons are not in the split `test` of DATA: the
threshold that 10 % of the searches for absent persons pass, and the sets that hold the person in 80 and 90 %; then, in
percent of the searches in that test split, how many pass and how many sets hold the person. Each query is a search for
an absent person, too: the images of its person are left out.
"""

import json
import sys

import torch

from bdam.data.loading import load_split
from bdam.encoding.encoders import Encoder, load_encoder
from bdam.encoding.extraction import feature_store
from bdam.evaluation.calibration import Calibration
from bdam.evaluation.features import Features, extract_features
from bdam.evaluation.metrics import best_scores
from bdam.evaluation.open_set import COVERAGES
from bdam.evaluation.protocols import search_arguments, weights_of


def embed(model: str, encoder: Encoder, data: str, split: str) -> Features:
    dataset = load_split(data, split)
    store = feature_store(model, dataset, batch_size=64, mixed_precision="no")
    return extract_features(encoder, dataset, store=store)


def main() -> None:
    model, validation, data = sys.argv[1:]
    encoder = load_encoder(model)
    calibration = Calibration.fit(embed(model, encoder, validation, "validation"))
    features = embed(model, encoder, data, "test")
    entries = torch.arange(len(features.gallery_images))
    figures = {"validation images": calibration.num_images, "images": len(entries)}
    for query in calibration.queries:
        for weight in weights_of(features, query, (0.0, encoder.model.config.clothing_weight)):
            right, wrong, _ = best_scores(**search_arguments(features, "standard", "image", query, weight, entries))
            found = right.isfinite()
            lost = (right.maximum(wrong) - right)[found]
            setting = f"{query}, c = {weight}"
            figures[f"{setting}, R-1"] = percent(right > wrong)
            for name, size in (("plain", calibration.num_images), ("corrected", len(entries))):
                expected = calibration.expect(query, weight, size)
                covered = [percent(lost <= expected.margin(coverage)) for coverage in COVERAGES]
                pass_10 = percent(wrong > expected.wrong.quantile(0.9))
                figures[f"{setting}, {name}"] = {"pass 10 %": pass_10, "in sets 80, 90 %": covered}
    print(json.dumps(figures))


def percent(is_so: torch.Tensor) -> float:
    return round(100 * is_so.double().mean().item(), 1)


if __name__ == "__main__":
    main()
