"""Each number of a card stands under its own setting, and nothing on it is said that does not hold for the run."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetInfo, concatenate_datasets
from huggingface_hub import ModelCard, eval_result_entries_to_yaml, parse_eval_result_entries
from PIL import Image
from tiny import tiny_model

from bdam.encoding.models import fingerprint, save_model
from bdam.evaluation.figures import RankedQuery, ranked_grid
from bdam.evaluation.origin import data_source
from bdam.evaluation.results import Result, Results
from bdam.hub.card import build_card, figures
from bdam.hub.publishing import read_evaluation
from bdam.hub.results import leaderboard_entries, name_data, public_results
from bdam.recipes.recipe import Recipe


SEARCHES = [
    ("standard", "caption", "image", 0.0),
    ("standard", "caption", "image", 0.6),
    ("standard", "caption", "image+description", 0.6),
    ("standard", "caption", "description", 0.0),
    ("standard", "identity_description", "image", 0.0),
    ("same-clothes", "caption", "image", 0.6),
    ("clothes-changed", "caption", "image", 0.6),
    ("clothes-changed", "identity_description", "image", 0.0),
    ("clothes-changed", "identity_description", "description", 0.0),
]
METRICS = ("r1", "r5", "r10", "map", "minp")
SETTING = ("data", "split", "protocol", "query", "gallery", "clothing_weight", "mixed_precision", "seed", "commit")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    save(run, request.getfixturevalue("processor"))
    return run


def save(run: Path, processor, data: str = "/data/people", **changes) -> None:
    model = tiny_model(**{"clothing_weight": 0.6, **changes})
    save_model(run / "model", model, processor, Recipe(data=data, output_dir=str(run), seed=3))


@pytest.fixture
def record(trained):
    """Makes records of the trained weights, each with numbers of its own unless told otherwise."""
    made = []

    def make(protocol, query, gallery, clothing_weight, **changes) -> dict:
        made.append(None)
        metrics = {name: (7.31 * len(made) + 0.17 * i) % 100 for i, name in enumerate(METRICS)}
        search = {"protocol": protocol, "gallery": gallery, "query": query, "clothing_weight": clothing_weight}
        sizes = {"chance": 1.0, "num_queries": 40 + len(made), "num_gallery": 20}
        origin = {"split": "test", "checkpoint": "run/model", "weights": fingerprint(trained / "model")}
        origin |= {"data": "/data/people", "seed": 3, "commit": "abc1234", "mixed_precision": "no"}
        return {**search, **metrics, **sizes, **origin, **changes}

    return make


def as_results(records: list[dict]) -> Results:
    return Results(Result(**record) for record in records)


def load(run: Path, records: list[dict], folder: Path) -> tuple[Results, ModelCard]:
    """The results as they are published, and the card as the Hub reads it."""
    public = public_results(as_results(records), "jane/people")
    build_card(run, "jane/people", public).save(folder / "README.md")
    return public, ModelCard.load(folder / "README.md")


def measured(results: Results) -> list[str]:
    """What results say, number by number, in no order."""
    return sorted(
        repr(([getattr(result, name) for name in SETTING], metric, round(getattr(result, metric), 2)))
        for result in results
        for metric in METRICS
    )


def parsed(card: ModelCard) -> list[str]:
    """What the metadata of a card says, by the same names; the words say the same as the arguments."""
    found = []
    for result in card.data.eval_results:
        setting = {"seed": None, **result.dataset_args}
        words = (
            f"{setting['protocol']} protocol, {setting['query'].replace('_', ' ')} → {setting['gallery']}, "
            f"clothing {setting['clothing_weight']}"
        )
        assert result.dataset_config.startswith(words)
        assert result.dataset_name == f"{result.dataset_type}, {result.dataset_config}"
        source = {"data": result.dataset_type, "split": result.dataset_split}
        found.append({**setting, **source, "metric": result.metric_type, "value": result.metric_value})
    return sorted(repr(([entry[name] for name in SETTING], entry["metric"], entry["value"])) for entry in found)


def differing_searches(record) -> list[dict]:
    return [record(*search) for search in SEARCHES]


def zeros_and_equals(record) -> list[dict]:
    values = {"test": 0.0, "validation": 100}
    return [
        record(*search, split=split, **dict.fromkeys(METRICS, value))
        for split, value in values.items()
        for search in SEARCHES
    ]


def image_to_text(record) -> list[dict]:
    return [
        record("standard", *sides, weight)
        for weight in (0.0, 0.6)
        for sides in (("caption", "image"), ("image", "caption"), ("image+description", "caption"))
    ]


def whole_and_close_weights(record) -> list[dict]:
    weights = (0, 1, 0.3, 0.1 + 0.2, 1e-7)
    return [record("standard", "caption", "image", weight) for weight in weights]


def cameras_and_draws(record) -> list[dict]:
    """As PRCC and LTCC have them: means over galleries, and the cloth-changing protocols only."""
    return [
        record(*search, data=data, num_queries=35.5, num_gallery=71)
        for data in ("prcc:/data/prcc", "ltcc:/data/LTCC")
        for search in SEARCHES[5:]
    ]


def several_data_sets(record) -> list[dict]:
    sources = ("cuhk-pedes:/a", "cuhk-pedes:/a+icfg-pedes:/b", "icfg-pedes:/b, without a validation split", "/x/on")
    return [
        record(*search, data=data, split=split)
        for data in sources
        for split in ("train", "test")
        for search in SEARCHES
    ]


def several_circumstances(record) -> list[dict]:
    changes = ({}, {"mixed_precision": "bf16"}, {"commit": "def5678"}, {"seed": None}, {"recipe": "full"})
    return [record(*search, **change) for change in changes for search in SEARCHES]


def twice_the_same(record) -> list[dict]:
    """As a study writes a model whose own clothing weight is 0."""
    one = record(*SEARCHES[0])
    return [one, one, record(*SEARCHES[1]), {**one, "checkpoint": "the same by another name"}]


KINDS = [
    *(differing_searches, zeros_and_equals, image_to_text, whole_and_close_weights, cameras_and_draws),
    *(several_data_sets, several_circumstances, twice_the_same),
]


def test_scores_on_data_sets_of_the_hub_are_listed_by_protocol(record):
    sources = ("hf:jane/people", "hf:jane/people@v1/small", "/data/people", "hf:jane/a+hf:jane/b")
    records = [
        record(*search, data=data, split=split)
        for data in sources
        for search in SEARCHES
        for split in ("test", "train")
    ]
    public = public_results(as_results(records), "jane/model")
    listed = parse_eval_result_entries(eval_result_entries_to_yaml(leaderboard_entries(public, 0.6)))
    found = {(entry.dataset_id, entry.dataset_revision, entry.task_id): (entry.value, entry.notes) for entry in listed}
    assert len(found) == len(listed) == 4
    for (data, revision, task), (value, notes) in found.items():
        config, _, protocol = task.rpartition("_")
        address = f"{data}{'@' * bool(revision)}{revision or ''}{'/' * bool(config)}{config}"
        (result,) = [
            one
            for one in public
            if (one.data, one.protocol, one.split, one.gallery) == (address, protocol, "test", "image")
            and (one.query, one.clothing_weight)
            == (("caption", 0.6) if protocol == "standard" else ("identity_description", 0))
        ]
        assert value == round(result.r1, 2) and notes.startswith(f"R-1 (%), {protocol} protocol, ")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_record_is_found_once_under_its_own_setting_and_nothing_else(trained, tmp_path, record, kind):
    public, card = load(trained, kind(record), tmp_path)
    assert parsed(card) == measured(public)
    assert len(public) == (2 if kind is twice_the_same else len(kind(record)))
    entries = card.data.to_dict()["model-index"][0]["results"]
    assert len(entries) == len(public) and all(len(entry["metrics"]) == len(METRICS) for entry in entries)
    rows = [line for line in card.text.partition("## Results")[2].splitlines() if line.startswith("| ")]
    for one in public:
        cells = [one.protocol, one.query.replace("_", " "), f"{one.clothing_weight}", one.gallery]
        cells += [f"{getattr(one, name):.2f}" for name in METRICS]
        assert any(row.startswith(f"| {' | '.join(cells)} |") for row in rows)


def test_a_task_is_called_what_it_is(trained, tmp_path, record):
    _, card = load(trained, [*image_to_text(record), record(*SEARCHES[3])], tmp_path)
    tasks = {
        (result.dataset_args["query"], result.dataset_args["gallery"]): result for result in card.data.eval_results
    }
    assert tasks["caption", "image"].task_type == "text-to-image-retrieval"
    assert tasks["image", "caption"].task_type == "image-to-text-retrieval"
    assert tasks["caption", "description"].task_name == "Text-to-text person retrieval"


def test_the_top_of_the_card_has_two_numbers_of_the_test_split(trained, tmp_path, record):
    records = [*differing_searches(record), *(record(*search, split="train") for search in SEARCHES)]
    _, card = load(trained, records, tmp_path)
    top = [line for line in card.text.partition("## Use")[0].splitlines() if line.startswith("| people")]
    own, changed = records[1], records[7]
    assert top == [
        f"| people, standard protocol, caption → image, clothing 0.6 | {own['r1']:.2f} | {own['map']:.2f} |",
        "| people, clothes-changed protocol, identity description → image, clothing 0.0 | "
        f"{changed['r1']:.2f} | {changed['map']:.2f} |",
    ]
    _, card = load(trained, records[9:], tmp_path)
    assert "| people" not in card.text.partition("## Use")[0]


def test_the_numbers_of_another_model_are_not_published_as_of_this_one(trained, tmp_path, record, caplog):
    own = differing_searches(record)
    others = [{**one, "weights": weights, "checkpoint": "clip"} for one in own for weights in (None, "0" * 16)]
    run = tmp_path / "run"
    run.mkdir()
    (run / "model").symlink_to(trained / "model")
    (run / "results.json").write_text(json.dumps([*others, *own]))
    assert read_evaluation(run) == as_results(own)
    assert "records of other models are not published: clip" in caplog.text
    (run / "results.json").write_text(json.dumps(others))
    with pytest.raises(ValueError, match="are not those that .*results.json was measured on"):
        read_evaluation(run)


@pytest.mark.parametrize(
    "change",
    [{"r1": None}, {"map": "high"}, {"protocol": "own"}, {"gallery": 3}, {"weights": None, "split": None}],
)
def test_what_is_no_record_is_no_evaluation(trained, tmp_path, record, change):
    (tmp_path / "model").symlink_to(trained / "model")
    for broken in ([{**record(*SEARCHES[0]), **change}], {"rows": []}, [3], "text"):
        (tmp_path / "results.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="is not in the format of this version: run `bdam evaluate"):
            read_evaluation(tmp_path)


def test_one_setting_has_one_result_and_one_name_one_data_set(record):
    with pytest.raises(ValueError, match="2 different results of people, test, standard protocol, caption → image"):
        public_results(as_results([record(*SEARCHES[0]), record(*SEARCHES[0])]), "jane/people")
    records = [record(*SEARCHES[0], data=data) for data in ("/a/people", "/b/people", "/b/others")]
    with pytest.raises(ValueError, match="/a/people and /b/people would both be called 'people' on the card"):
        public_results(as_results(records), "jane/people")


@pytest.mark.parametrize(
    "source, name",
    [
        ("/data/people", "people"),
        ("cuhk-pedes:/data/CUHK", "cuhk-pedes"),
        (
            "icfg-pedes:/data/I, without a validation split of its own: 310 persons of train were held out",
            "icfg-pedes",
        ),
        ("cuhk-pedes:/a+icfg-pedes:/b", "cuhk-pedes + icfg-pedes"),
        ("drawn/people+cuhk-pedes:/a", "people + cuhk-pedes"),
        ("own:/data/staff", "staff"),
        ("own:/data/staff, without a validation split of its own: 3 persons", "staff"),
    ],
)
def test_data_is_named_by_all_its_parts(source, name):
    assert name_data(source) == name


def test_a_folder_may_have_a_plus_in_its_name(tmp_path):
    (tmp_path / "a+b").mkdir()
    assert name_data(str(tmp_path / "a+b")) == "a+b"


def test_a_baseline_is_not_described_as_the_whole_model(tmp_path, processor, record):
    save(tmp_path / "baseline", processor, use_bdam=False, use_fusion=False)
    _, card = load(tmp_path / "baseline", [record(*SEARCHES[0])], tmp_path)
    assert "there is no clothing stream" in card.text and "without some of its parts" in card.text
    assert not any(
        words in card.text for words in ("bidirectional", "get_clothing", "is fused", "The searcher chooses")
    )
    save(tmp_path / "whole", processor)
    _, card = load(tmp_path / "whole", [record(*SEARCHES[0])], tmp_path)
    assert "bidirectional" in card.text and "is fused" in card.text and "without some of its parts" not in card.text


LOG = [
    {"step": 5, "validation_score": 30.0, "clothing_weight": 0.6},
    {"step": 9, "validation_score": 20.0, "clothing_weight": 0.2},
]


@pytest.mark.parametrize(
    "lines, chosen, best",
    [
        (LOG, True, True),
        (LOG[:1], True, False),
        (LOG[1:], False, False),  # another model's log
        ([{"step": 1, "loss": 3.0}], False, False),
        (None, False, False),
    ],
)
def test_selection_on_validation_is_said_where_the_log_shows_it(tmp_path, processor, record, lines, chosen, best):
    run = tmp_path / "run"
    save(run, processor)
    if lines is not None:
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, card = load(run, [record(*SEARCHES[0])], tmp_path)
    assert ("which was chosen on the validation split" in card.text) == chosen
    assert ("The checkpoint is the best of 2" in card.text) == best


def test_what_a_split_is_worth_is_said(trained, tmp_path, record):
    records = [record(*SEARCHES[0], split=split) for split in ("train", "validation", "test")]
    records += [record(*SEARCHES[0], split="train", data="/data/others")]
    _, card = load(trained, records, tmp_path)
    of_split = card.text.partition("## Results")[2].split("Measured on ")[1:]
    assert [text.partition(",")[0] for text in of_split] == [
        *(f"the {split} split of people" for split in ("train", "validation", "test")),
        "the train split of others",
    ]
    assert [("how well it fits" in text, "selected on this split" in text) for text in of_split] == [
        *((True, False), (False, True), (False, False), (False, False))
    ]


def test_circumstances_are_those_of_all_numbers_or_stand_beside_each(trained, tmp_path, record):
    _, card = load(trained, differing_searches(record), tmp_path)
    assert "come from commit abc1234, a model trained with seed 3, full precision." in card.text
    records = [record(*SEARCHES[0]), record(*SEARCHES[0], mixed_precision="bf16", commit="def5678")]
    _, card = load(trained, records, tmp_path)
    assert "come from a model trained with seed 3." in card.text
    assert "| mixed precision | commit |" in card.text and "| bf16 | def5678 |" in card.text


@pytest.mark.parametrize(
    "effort, words",
    [
        ({"1 process on 2 CPU cores": 42.4}, "It took 42 seconds with 1 process on 2 CPU cores."),
        ({"8 processes on NVIDIA H100": 36_000}, "It took 10.0 hours with 8 processes on NVIDIA H100."),
        (
            {"1 process on NVIDIA H100": 600, "1 process on NVIDIA H200": 300},
            "It took 10 minutes with 1 process on NVIDIA H100, and 5 minutes with 1 process on NVIDIA H200.",
        ),
        (None, "by the recipe below.\n"),
    ],
)
def test_the_card_says_how_long_training_took_and_on_what(tmp_path, processor, record, effort, words):
    save(tmp_path / "run", processor)
    if effort is not None:
        (tmp_path / "run/model/training.json").write_text(json.dumps(effort))
    _, card = load(tmp_path / "run", [record(*SEARCHES[0])], tmp_path)
    assert words in card.text.partition("## Training")[2]
    assert ("It took" in card.text) == (effort is not None)


@pytest.mark.parametrize(
    "data, language", [("cuhk-pedes:/a", "en"), ("/data/people", None), ("own:/a+rstpreid:/b", None)]
)
def test_english_is_claimed_of_english_data_only(tmp_path, processor, record, data, language):
    save(tmp_path / "run", processor, data)
    _, card = load(tmp_path / "run", [record(*SEARCHES[0])], tmp_path)
    assert card.data.language == language and "Only English" not in card.text


def test_the_paper_is_cited_beside_its_own_setting_only(trained, tmp_path, record):
    searches = {"data": "cuhk-pedes:/a", "num_gallery": 3074}
    for changes, cited, compares in [
        ({}, True, True),
        ({"num_gallery": 20}, True, False),
        ({"split": "train"}, False, True),
        ({"data": "cuhk-pedes:/a+icfg-pedes:/b"}, False, True),
        ({"protocol": "clothes-changed"}, False, True),
    ]:
        _, card = load(trained, [{**record(*SEARCHES[0]), **searches, **changes}], tmp_path)
        assert ("the paper publishes R-1 79.93" in card.text) == cited
        assert ("the two do not compare" in " ".join(card.text.split())) == (not compares)


@pytest.mark.parametrize("vision", ["google/vit-base-patch16-224", "/data/models/vit"])
def test_a_local_encoder_is_no_model_of_the_hub(tmp_path, processor, record, vision):
    run = tmp_path / "run"
    recipe = Recipe(data="/data/people", output_dir=str(run), vision_encoder=vision)
    save_model(run / "model", tiny_model(), processor, recipe)
    _, card = load(run, [record(*SEARCHES[0])], tmp_path)
    of_hub = [name for name in (vision, "google-bert/bert-base-uncased") if not name.startswith("/")]
    assert card.data.base_model == of_hub
    assert "/data/models" not in str(card) and f"vision_encoder: {vision.removeprefix('/data/models/')}\n" in card.text


def test_figures_of_other_weights_are_not_shown(trained, tmp_path):
    weights = fingerprint(trained / "model")
    (tmp_path / "analysis").mkdir()
    for name in ("ranked.png", "analysis/gates.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    kinds: dict[str, dict] = dict.fromkeys(("gates", "fusion_weights", "probes", "groups", "figures"), {})
    analysis = {"run": "run", "seed": 3, "sampling_seed": 0, "clothing_weight": 0.6, "num_images": 20, "logged": []}
    analysis |= {"split": "validation", "data": "/data/people", **kinds}
    for noted in ({}, {"weights": "0" * 16}):
        (tmp_path / "analysis/analysis.json").write_text(json.dumps({**analysis, **noted}))
        assert figures(tmp_path, weights) == {}
    (tmp_path / "analysis/analysis.json").write_text(json.dumps({**analysis, "weights": weights}))
    assert figures(tmp_path, weights) == {
        "analysis/gates.png": "Distributions of the gates: validation split of people"
    }
    for drawn_of, is_shown in (("0" * 16, False), (weights, True)):
        ranked_grid([RankedQuery("A man.", [Image.new("RGB", (2, 2))], [0.5])], tmp_path / "ranked.png", drawn_of)
        assert ("ranked.png" in figures(tmp_path, weights)) == is_shown


def test_joined_data_is_not_taken_for_one_of_its_parts():
    def part(**info) -> Dataset:
        return Dataset.from_dict({"image_id": ["a"]}, info=DatasetInfo(**info))

    benchmark = part(dataset_name="icfg-pedes", description="icfg-pedes:/i, without a validation split of its own")
    assert data_source(benchmark, "saved/icfg") == benchmark.info.description
    assert data_source(part(description="Seen in 2020/21"), "saved/people") == "saved/people"
    for other in (part(), part(dataset_name="cuhk-pedes", description="cuhk-pedes:/c")):
        joined = concatenate_datasets([benchmark, other])
        assert data_source(joined, "icfg-pedes:/i+others") == "icfg-pedes:/i+others"
