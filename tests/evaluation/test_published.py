"""The published results: whole, possible, and shown with what they cost."""

import pytest
from rich.console import Console

from bdam.evaluation.published import LATER, LATER_METHODS, METHODS, TABLE_I
from bdam.evaluation.report import published_table
from bdam.evaluation.results import Result, Results


@pytest.mark.parametrize("methods, table", [(METHODS, TABLE_I), (LATER_METHODS, LATER)])
def test_every_method_has_possible_scores_on_every_benchmark(methods, table):
    for scores in table.values():
        assert scores.keys() == methods.keys()
        for r1, r5, r10, average_precision in scores.values():
            ranks = [value for value in (r1, r5, r10) if value is not None]
            assert ranks[0] > 0 and ranks == sorted(ranks) and ranks[-1] < 100
            assert average_precision is None or average_precision < r1


def test_every_later_method_is_marked():
    assert all(method.pretraining and method.at_test_time for method in LATER_METHODS.values())
    assert not METHODS.keys() & LATER_METHODS.keys()


def test_the_table_has_measured_and_published_results_with_their_marks():
    measured = Result(
        **{"protocol": "standard", "gallery": "image", "query": "caption", "clothing_weight": 0.6},
        **{"r1": 12.5, "r5": 25.0, "r10": 50.0, "map": 20.1, "minp": 7.25, "chance": 0.8, "num_queries": 8},
        **{"num_gallery": 3074, "split": "test", "checkpoint": "model", "weights": None, "data": "cuhk-pedes"},
        **{"seed": None, "commit": "abc1234", "mixed_precision": "no"},
    )
    console = Console(width=240)
    with console.capture() as capture:
        console.print(published_table(Results([measured]), "cuhk-pedes"))
    rows = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert "model, clothing 0.6 measured 12.50 25.00 50.00 20.10" in rows
    assert "BDAM ViT published: the paper 79.93 92.95 96.47 72.61" in rows
    assert "GA-DMS CLIP-ViT published: Zheng et al. 2025 WebPerson nothing 77.60 – – –" in rows
    assert "CONQUER CLIP-ViT published: Xie 2026 none asks an MLLM 77.13 – – 68.75" in rows
