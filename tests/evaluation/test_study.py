"""Studies: what they report, what they run and do not run again, and what they refuse."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import stdev

import psutil
import pytest
from datasets import DatasetDict
from processes import heed_signals, still_run
from tiny import TINY_RUN

from bdam import cli
from bdam.encoding.models import read_effort
from bdam.evaluation import study
from bdam.evaluation.figures import study_figure
from bdam.evaluation.published import ABLATION_TABLES
from bdam.evaluation.report import study_table, write_study
from bdam.evaluation.results import Result, Results
from bdam.evaluation.study import aggregate, describe, plan_study, run_study


ROOT = Path(__file__).parents[2]
DEMO, ABLATIONS = ROOT / "recipes/demo.yaml", ROOT / "recipes/ablations"
BASELINE, FULL = ABLATIONS / "baseline.yaml", ABLATIONS / "full.yaml"
SMALL = [*TINY_RUN, "num_epochs=1"]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """The folder of a study of two recipes with two seeds each."""
    output = tmp_path_factory.mktemp("study")
    runs = plan_study([BASELINE, FULL], [*SMALL, f"data={data}"], [DEMO], [0, 1], output)
    with pytest.MonkeyPatch.context() as monkeypatch:
        # The training process is to find this checkout, whichever is installed.
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        assert run_study(runs, ["--num_cpu_threads_per_process", "1"]) == []
    return output


@pytest.fixture
def bdam(monkeypatch, capsys, data):
    """Gives exit code and output of a small `bdam study` on the demo recipe."""

    def command(output, *arguments) -> tuple[int, str]:
        options = [f"data={data}", "--base", DEMO, "--output", output]
        monkeypatch.setattr(sys, "argv", ["bdam", "study", *map(str, [*SMALL, *options, *arguments])])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, " ".join((printed.out + printed.err).split())

    return command


def result(recipe, seed, r1, clothing_weight=0.0, **setting) -> Result:
    metrics = {"r1": r1, "r5": 2 * r1, "r10": 3 * r1, "map": r1 / 2, "minp": 0.0, "chance": 5.0}
    settings = {"protocol": "standard", "gallery": "image", "query": "caption", **setting}
    sizes = {"clothing_weight": clothing_weight, "num_queries": 8, "num_gallery": 4}
    origin = {"split": "test", "checkpoint": "model", "weights": "0", "data": "people", "commit": "1"}
    origin |= {"recipe": recipe, "seed": seed, "seconds": 60.0 * (1 + seed), "mixed_precision": "no"}
    return Result(**settings, **metrics, **sizes, **origin)


def test_mean_and_deviation_over_the_seeds():
    results = [
        result("full", 0, 10.0),
        result("full", 0, 40.0, clothing_weight=0.6),
        # This run chose to leave clothing out: both of its results are of weight 0.
        result("full", 1, 14.0),
        result("full", 1, 14.0),
        result("full", 2, 12.0),
        result("full", 2, 30.0, clothing_weight=0.3),
        result("other", 0, 7.0, query="identity_description"),
    ]
    alone, mix, other = aggregate(results)
    assert (alone.recipe, alone.clothing, alone.clothing_weight) == ("full", "identity alone", 0)
    assert alone.seeds == (0, 1, 2) and alone.minutes == pytest.approx(2)
    assert (alone.r1, alone.r1_std) == (12, 2)
    assert (alone.map, alone.map_std, alone.r5, alone.chance) == (6, 1, 24, 5)
    assert (mix.clothing, mix.clothing_weight, mix.r1) == ("mix", pytest.approx(0.3), 28)
    assert mix.r1_std == pytest.approx(((12**2 + 14**2 + 2**2) / 2) ** 0.5)
    assert (mix.published_r1, mix.published_map) == (79.93, 72.61)
    assert (other.r1, other.r1_std, other.seeds, other.published_r1) == (7, None, (0,), None)


def test_every_published_row_has_a_recipe():
    assert ABLATION_TABLES.keys() <= {path.stem for path in ABLATIONS.glob("*.yaml")}


def test_a_study_reports_every_recipe_and_seed(finished, bdam, monkeypatch):
    monkeypatch.setattr(study, "_train", lambda *_: pytest.fail("a finished run was trained again"))
    code, output = bdam(finished, BASELINE, FULL, "--seeds", "0,1")
    assert code == 0 and re.search(r"baseline 0, 1 0\.\d –", output) and "failed" not in output

    assert not list(finished.rglob("checkpoints"))
    runs = [finished / name / f"seed-{seed}" for name in ("baseline", "full") for seed in (0, 1)]
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    assert [{(one["recipe"], one["seed"]) for one in records} for records in results] == [
        {("baseline", 0)},
        {("baseline", 1)},
        {("full", 0)},
        {("full", 1)},
    ]
    with (finished / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(json.loads((finished / "report.json").read_text())["rows"])
    assert {row["clothing"] for row in rows if row["recipe"] == "full"} == {"identity alone", "mix"}
    assert {row["clothing"] for row in rows if row["recipe"] == "baseline"} == {"identity alone"}
    first_map = [records[0]["map"] for records in results[2:]]
    row = next(row for row in rows if row["recipe"] == "full")
    assert float(row["map"]) == pytest.approx(sum(first_map) / 2)
    assert float(row["map_std"]) == pytest.approx(stdev(first_map))

    report = (finished / "report.md").read_text()
    for line in (
        "`bdam study",
        "seeds**: 0; 1",
        "gallery of 20 images",
        "CPU cores, torch",
        "on the validation split",
    ):
        assert line in report
    assert "| full | 0, 1 | 0." in report and "| 79.93 |" in report and "| chance |" in report
    assert (finished / "report.png").stat().st_size > 10_000


def test_a_failed_run_is_named_and_costs_no_other(finished, bdam, monkeypatch, tmp_path):
    def train(run, launch, log):
        if run.recipe.seed == broken:
            raise RuntimeError("the machine caught fire")
        (run.folder / "checkpoints").mkdir()
        shutil.copytree(finished / run.folder.relative_to(tmp_path) / "model", run.folder / "model")

    monkeypatch.setattr(study, "_train", train)
    broken = 0
    code, output = bdam(tmp_path, FULL, "--seeds", "0,1")
    log = tmp_path / "full/seed-0/train.log"
    assert code == 1 and "failed: full, seed 0: see" in output and re.search(r"full 1 0\.\d", output)
    assert "the machine caught fire" in log.read_text()
    assert "missing**: full seed 0" in (tmp_path / "report.md").read_text()

    broken = None
    code, output = bdam(tmp_path, FULL, "--seeds", "0,1")
    assert code == 0 and "full 0, 1" in output
    assert "missing" not in (tmp_path / "report.md").read_text()


def test_a_training_process_that_fails_leaves_its_words_in_the_log(data, tmp_path):
    runs = plan_study([FULL], [*SMALL, f"data={data}"], [DEMO], [0], tmp_path)
    assert run_study(runs, ["--mixed_precision", "fp4"]) == runs
    assert "invalid choice: 'fp4'" in runs[0].log.read_text()
    assert not runs[0].results.exists()


def start_study(data, output, launch: str) -> subprocess.Popen:
    options = ["--base", DEMO, "--seeds", "0", "--output", output, "--launch", launch]
    changes = [*SMALL, "num_epochs=10", "eval_every=10", "log_every=1", "num_workers=1", f"data={data}"]
    return subprocess.Popen(
        [sys.executable, "-m", "bdam.cli", "study", *map(str, [FULL, *changes, *options])],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


ONE, TWO = "--num_cpu_threads_per_process 1", "--num_cpu_threads_per_process 1 --multi_gpu --num_processes 2"


@pytest.mark.parametrize("number, launch", [(signal.SIGTERM, ONE), (signal.SIGHUP, TWO)])
def test_a_study_that_is_stopped_leaves_no_process_and_goes_on(data, tmp_path, number, launch):
    run = tmp_path / "full/seed-0"
    logged = run / "log.jsonl"
    study = start_study(data, tmp_path, launch)
    while study.poll() is None and not (logged.is_file() and logged.read_text()):
        time.sleep(0.02)
    processes = psutil.Process(study.pid).children(recursive=True)
    assert len(processes) >= (3 if launch == ONE else 5)  # the launcher, training, and what loads its data
    study.send_signal(number)
    _, errors = study.communicate(timeout=120)
    assert study.returncode == 128 + number, errors + (run / "train.log").read_text()
    assert f"Stopped by signal {number.value}; the same command resumes the study." in errors
    assert still_run(processes) == []
    (checkpoint,) = (run / "checkpoints").glob("step_*")
    num_steps = int(checkpoint.name.removeprefix("step_"))
    so_far = read_effort(run / "checkpoints")
    assert "--resume continues" in (run / "train.log").read_text() and not (run / "results.json").exists()

    study = start_study(data, tmp_path, launch)
    _, errors = study.communicate(timeout=300)
    assert study.returncode == 0, errors + (run / "train.log").read_text()
    assert (run / "results.json").is_file()
    steps = [json.loads(line)["step"] for line in logged.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > num_steps
    hardware = f"{'1 process' if launch == ONE else '2 processes'} on {os.cpu_count()} CPU cores"
    assert 0 < so_far[hardware] < read_effort(run / "model")[hardware]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([FULL, "learning_rat=1"], "unknown key `learning_rat`"),
        (["nowhere.yaml"], "No recipe at nowhere.yaml"),
        ([FULL, "--base", "nowhere.yaml"], "No recipe at nowhere.yaml"),
        ([FULL, "data=nowhere"], "No data set at nowhere"),
        ([FULL, FULL], "several are called ['full']: rename them"),
        ([], "A study needs a recipe at least"),
        ([FULL, "--seeds", "zero"], "--seeds must be whole numbers between commas, such as 0,1,2, got 'zero'"),
        ([FULL, "--seeds", "0,"], "--seeds must be whole numbers"),
        ([FULL, "--seeds", "3,1,3"], "[3] are given more than once"),
        ([FULL, "--seeds", "-1"], "`seed`: Input should be greater than or equal to 0, got -1"),
        ([FULL, "seed=3"], "The study sets `output_dir` and `seed`, got seed=3"),
    ],
)
def test_mistakes_are_named_before_anything_runs(bdam, tmp_path, arguments, message):
    code, output = bdam(tmp_path / "study", *arguments)
    assert code == 1 and output.startswith("error:") and message in output
    assert not (tmp_path / "study").exists()


def test_recipes_share_their_data_and_it_has_every_split(data, bdam, tmp_path):
    whole = DatasetDict.load_from_disk(data)
    for splits, message in [
        ({"train": whole["train"], "test": whole["test"]}, "the split 'validation' is missing or empty"),
        ({**whole, "test": whole["test"].select([])}, "has a split without any rows"),
    ]:
        folder = tmp_path / message
        DatasetDict(splits).save_to_disk(folder)
        code, output = bdam(tmp_path / "study", FULL, f"data={folder}")
        assert code == 1 and message in output

    (tmp_path / "elsewhere.yaml").write_text("data: elsewhere")
    with pytest.raises(ValueError, match="compares recipes on the same `data`, got .*'elsewhere'"):
        plan_study([DEMO, tmp_path / "elsewhere.yaml"], [], [write(tmp_path, f"data: {data}")], [0], tmp_path)


def test_a_folder_of_another_study_is_refused(finished, bdam, tmp_path):
    code, output = bdam(finished, FULL, "--seeds", "0", "learning_rate=0.1", "num_epochs=2")
    assert code == 1 and "was trained with another `num_epochs`, `learning_rate`: remove it" in output

    results = tmp_path / "full/seed-0/results.json"
    results.parent.mkdir(parents=True)
    for text in ('[{"r1": 3}]', "[", "[]"):
        results.write_text(text)
        code, output = bdam(tmp_path, FULL, "--seeds", "0")
        assert code == 1 and "was not written by a study: remove it" in output


def test_recipes_that_differ_in_name_only_are_pointed_out(finished, data, tmp_path):
    same = ABLATIONS / "table4_without_gate_regularizer.yaml"
    runs = plan_study([FULL, same], [*SMALL, f"data={data}"], [DEMO], [0, 1], tmp_path)
    results = Results.from_json(finished / "full/seed-0/results.json")
    assert "full = table4_without_gate_regularizer" in describe(runs, results, "bdam study").values()


def test_one_seed_without_outfits_clothing_or_descriptions_still_makes_a_report(tmp_path):
    rows = aggregate([result("mine", 0, 12.0)])
    write_study(tmp_path, rows, {"command": "`bdam study`"})
    study_figure(rows, tmp_path / "report.png")
    assert "| mine | 0 | 1.0 | – | – | 12.0 | – | – |\n" in (tmp_path / "report.md").read_text()
    assert study_table(rows).row_count == 2


def write(folder: Path, text: str) -> Path:
    path = folder / "base.yaml"
    path.write_text(text)
    return path
