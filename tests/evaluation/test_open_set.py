"""The open-set metrics against plain implementations, and a split whose answers are known."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from test_protocols import features
from tiny import tiny_model

from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.evaluation.calibration import Calibration
from bdam.evaluation.metrics import best_scores
from bdam.evaluation.open_set import area_under_roc, detection_rate, evaluate_open_set
from bdam.recipes.recipe import Recipe


def random_scores(*sizes: int) -> list[torch.Tensor]:
    """Scores with many ties."""
    random = torch.Generator().manual_seed(0)
    return [torch.randint(12, (size,), generator=random) / 8 for size in sizes]


def test_the_area_is_that_of_scikit_learn():
    positives, negatives = random_scores(70, 90)
    labels = [1] * len(positives) + [0] * len(negatives)
    expected = roc_auc_score(labels, torch.cat([positives + 0.25, negatives]))
    assert area_under_roc(positives + 0.25, negatives) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("far", [0.0, 0.01, 0.1, 0.5])
def test_detection_agrees_with_a_plain_implementation(far):
    right, wrong, absent = random_scores(60, 60, 150)
    right = right + 0.5
    # The lowest threshold that no more than this share of the absent exceeds.
    threshold = min(t for t in absent.tolist() if np.mean(absent.numpy() > t) <= far)
    detected = [r > w and r > threshold for r, w in zip(right.tolist(), wrong.tolist(), strict=True)]
    assert 0 < np.mean(detected) < 1
    assert detection_rate(right, wrong, absent, far) == np.mean(detected)


def test_best_scores_agree_with_a_plain_implementation():
    random = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randint(-3, 4, (size, 3), generator=random).double() for size in (30, 40))
    persons, shown = (torch.randint(6, (size,), generator=random) for size in (30, 40))
    cameras, taken_by = (torch.randint(3, (size,), generator=random) for size in (30, 40))
    persons[0], shown[3] = 7, 8  # who is searched for and not there, and the other way round
    ids = {"query_camera_ids": cameras, "gallery_camera_ids": taken_by}
    right, wrong, within = best_scores(queries, gallery, persons, shown, margins=(0.0, 4.0), chunk_size=7, **ids)
    for query in range(30):
        scores = [float(queries[query] @ image) for image in gallery]
        rights = [
            score
            for score, person, camera in zip(scores, shown, taken_by, strict=True)
            if person == persons[query] and camera != cameras[query]
        ]
        wrongs = [score for score, person in zip(scores, shown, strict=True) if person != persons[query]]
        assert right[query] == max(rights, default=-float("inf")) and wrong[query] == max(wrongs)
        best = max(rights + wrongs)
        assert within[query].tolist() == [sum(s >= best - m for s in rights + wrongs) for m in (0, 4)]


def test_a_model_that_sees_finds_those_who_are_there_and_only_them():
    for score in evaluate_open_set(features(), None, (0.0, 0.5)):
        assert (score.r1, score.dir_1, score.dir_10, score.auroc) == (100, 100, 100, 100)
        assert score.num_gallery == 2 and score.calibration is None


def test_a_blind_model_finds_nobody():
    blind = features(galleries={"image": torch.ones(4, 1)}, queries={"caption": torch.ones(4, 1)}, clothing=None)
    (score,) = evaluate_open_set(blind, None, (0.0,))
    assert (score.r1, score.dir_10, score.auroc) == (100, 0, 50)  # one person is in the gallery: nobody is wrong


def test_it_takes_two_persons():
    alone = features(person_ids=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="takes two persons or more"):
        evaluate_open_set(alone, None, (0.0,))


def test_a_checkpoint_is_calibrated_and_checked(tmp_path, processor, bdam):
    data, model, output = tmp_path / "people", tmp_path / "model", tmp_path / "open.json"
    generate_pedestrians(1, 24, 12, image_size=(32, 16)).save_to_disk(data)
    save_model(model, tiny_model(clothing_weight=0.3), processor, Recipe(data=str(data), output_dir="run"))
    code, told = bdam("evaluate", model, "--data", data, "--open-set", "--output", output)
    assert code == 0 and "DIR at FAR" in told and "calibration" not in told
    assert [record["calibration"] for record in json.loads(output.read_text())] == [None] * 3

    code, told = bdam("calibrate", model, "--data", data, "--split", "test")
    assert code == 1 and "error: The split cannot tell what scores mean" in told
    code, told = bdam("calibrate", model, "--data", data)
    assert code == 0 and "calibrated by 24 persons in 96 images" in told
    assert set(Calibration.load(model).queries) == {"caption", "identity_description"}

    code, told = bdam("evaluate", model, "--data", data, "--open-set", "--output", output)
    assert code == 0 and "What the calibration states there" in told
    records = json.loads(output.read_text())
    assert [(record["query"], record["clothing_weight"]) for record in records] == [
        *(("caption", 0.0), ("caption", 0.3), ("identity_description", 0.0))
    ]
    for record in records:
        check = record["calibration"]
        assert record["num_gallery"] == 24 and record["dir_1"] <= record["dir_10"] <= record["r1"]
        assert check["coverage_80"] <= check["coverage_90"] and 1 <= check["size_80"] <= check["size_90"] <= 24

    code, told = bdam("calibrate", tmp_path / "nothing", "--data", data)
    assert code == 1 and "nothing is no folder: a calibration is kept with its model" in told
