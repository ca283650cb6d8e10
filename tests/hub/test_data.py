"""Data sets go up to the Hub, and a stranger's process reads them by name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from loopback_hub import LoopbackHub, Repository, serve
from PIL import Image
from tiny import tiny_model

from bdam.data.loading import load_data
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.hub.data import push_data
from bdam.recipes.recipe import Recipe


ROOT = Path(__file__).parents[2]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
READ = """
import json, sys
from bdam import load_data
for source in sys.argv[1:]:
    try:
        data = load_data(source)
        plain = {split: rows.remove_columns("image")[:] for split, rows in data.items()}
        sizes = {split: [image.size for image in rows["image"]] for split, rows in data.items()}
        print(json.dumps({"rows": plain, "sizes": sizes}))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


# Makes the size small tiny, saves it in a folder, and runs the command on the other arguments.
TINY = """
import sys
from bdam import cli
from bdam.data.pedestrians import SIZES, Size, checksums, generate_pedestrians
numbers = {"num_train_persons": 2, "num_validation_persons": 1, "num_test_persons": 2, "outfits_per_person": 3}
numbers |= {"images_per_outfit": 1, "image_size": (32, 16), "seed": 5}
people = generate_pedestrians(**numbers)
people.save_to_disk(sys.argv.pop(1))
SIZES["small"] = Size(numbers, checksums(people))
cli.main()
"""


STREAM = """
import json, sys
from bdam.data.corpora import open_corpus
from bdam.data.images import decode_image
corpus = open_corpus(sys.argv[1])
rows = [row for shard in range(corpus.num_shards) for row in corpus.read_shard(shard)]
print(json.dumps([[row["image_id"], row["captions"], decode_image(row["image"], "").size] for row in rows]))
"""


@pytest.fixture
def hub():
    with serve() as hub:
        yield hub


def run(hub: LoopbackHub, home: Path, *command: str) -> str:
    """What a process prints that knows the Hub on loopback alone, and has an empty cache."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return done.stdout


def read(hub: LoopbackHub, home: Path, *sources: str) -> list:
    """For each source, the rows that `load_data` returns or the message of its error."""
    return [json.loads(line) for line in run(hub, home, "-c", READ, *sources).splitlines()]


def upload(hub: LoopbackHub, repo_id: str, folder: Path) -> None:
    """Puts the files of a folder into a new repository of the Hub."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repositories[f"datasets/{repo_id}"] = Repository(branches={"main": files})


def image_folder(folder: Path, **fields: list) -> Path:
    """Images of two persons, as the `imagefolder` of `datasets` has them, with `metadata.jsonl`."""
    for split, persons in {"train": ["anna", "bob"], "test": ["anna"]}.items():
        (folder / split).mkdir(parents=True)
        records = []
        for number, person in enumerate(persons):
            Image.new("RGB", (4, 8), "red").save(folder / split / f"{number}.png")
            more = {name: values[number] for name, values in fields.items()}
            records.append(
                {"file_name": f"{number}.png", "person_id": person, "caption": f"This is {person}.", **more}
            )
        (folder / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


def test_what_is_pushed_is_read_by_its_name(hub, tmp_path):
    folder = tmp_path / "people"
    generate_pedestrians(3, 1, 2, 2, 1, image_size=(32, 16)).save_to_disk(folder)
    command = ["-m", "bdam.cli", "data", "push", str(folder), "jane/people", "--license", "cc-by-4.0", "--gated"]
    assert "use it as hf:jane/people" in run(hub, tmp_path / "home", *command)
    repository = hub.repositories["datasets/jane/people"]
    assert repository.private and repository.settings == {"gated": "auto"}
    card = DatasetCard(repository.branches["main"]["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and "10 images of 6 persons" not in card.text
    assert "## Benchmark" not in card.text and "The size" not in card.text
    assert "12 images of 6 persons" in card.text and "| train | 6 | 3 | 12 | 6 |" in card.text

    (found,), expected = read(hub, tmp_path / "stranger", "hf:jane/people"), load_data(folder)
    assert found["sizes"] == {split: [[16, 32]] * len(rows) for split, rows in expected.items()}
    for split, rows in expected.items():
        assert found["rows"][split] == rows.remove_columns("image")[:]
    streamed = json.loads(run(hub, tmp_path / "stream", "-c", STREAM, "hf:jane/people").splitlines()[-1])
    assert streamed == [[row["image_id"], row["captions"], [16, 32]] for row in expected["train"]]


def test_scores_on_a_benchmark_of_the_hub_are_read_back_from_the_repository_of_the_model(hub, tmp_path, processor):
    folder, model = tmp_path / "people", tmp_path / "run/model"
    generate_pedestrians(2, 1, 4, 2, 1, image_size=(32, 16)).save_to_disk(folder)
    save_model(model, tiny_model(), processor, Recipe(data=str(folder), output_dir=str(tmp_path / "run")))
    home, results = tmp_path / "home", tmp_path / "run/results.json"
    push = ["-m", "bdam.cli", "data", "push", str(folder), "jane/people", "--license", "cc0-1.0", "--benchmark"]
    run(hub, home, *push, "--public")
    run(hub, home, "-m", "bdam.cli", "evaluate", str(model), "--data", "hf:jane/people", "--output", str(results))
    run(hub, home, str(ROOT / "push_to_hub.py"), str(tmp_path / "run"), "jane/model")

    data = hub.repositories["datasets/jane/people"].branches["main"]
    card, tasks = data["README.md"].decode(), yaml.safe_load(data["eval.yaml"])["tasks"]
    assert "## Benchmark" in card and "The size" not in card
    files = hub.repositories["jane/model"].branches["main"]
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/bdam.yaml"]))
    assert [entry.task_id for entry in entries] == [task["id"] for task in tasks] == ["standard", "clothes-changed"]
    assert {entry.dataset_id for entry in entries} == {"jane/people"}
    index = ModelCard(files["README.md"].decode()).data.eval_results
    indexed = {(one.dataset_config, one.metric_type): one.metric_value for one in index}
    for entry in entries:
        assert indexed[entry.notes.removeprefix("R-1 (%), "), "r1"] == entry.value


def test_a_size_of_the_benchmark_is_known_by_its_card_and_by_its_checksums(hub, tmp_path):
    folder, home = str(tmp_path / "people"), tmp_path / "home"
    push = ["data", "push", folder, "jane/people", "--license", "cc0-1.0", "--public", "--benchmark"]
    run(hub, home, "-c", TINY, folder, *push)
    files = hub.repositories["datasets/jane/people"].branches["main"]
    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "cc0-1.0" and len(yaml.safe_load(files["eval.yaml"])["tasks"]) == 2
    for words in (
        "bdam evaluate MODEL --data hf:jane/people",
        "- `clothes-changed`: by each identity description.",
        "## The size small of the generated pedestrians",
        "each in 3 outfits",
        "The seed is\n5.",
        "bdam data pedestrians FOLDER --size small",
    ):
        assert words in card.text
    check = ["data", "check", "hf:jane/people", "--size", "small"]
    checked = run(hub, tmp_path / "stranger", "-c", TINY, str(tmp_path / "again"), *check)
    *checksums, verdict = checked.splitlines()
    assert verdict == "fit: hf:jane/people" and len(checksums) == 3
    for checksum in checksums:
        assert f"- {checksum}" in card.text


def test_a_folder_of_images_is_read_alike_from_the_disk_and_from_the_hub(hub, tmp_path):
    folder = image_folder(tmp_path / "own", outfit_id=["summer", "winter"], note=["a", "b"])
    upload(hub, "jane/own", folder)
    from_hub, from_disk, joined = read(
        hub, tmp_path / "home", "hf:jane/own", f"own:{folder}", f"hf:jane/own+own:{folder}"
    )
    assert from_hub["rows"]["train"] == {
        "image_id": ["train/0.png", "train/1.png"],
        "person_id": [0, 1],
        "outfit_id": [0, 1],
        "captions": [["This is anna."], ["This is bob."]],
        "identity_description": [None, None],
        "clothing_description": [None, None],
        "note": ["a", "b"],
    }
    assert from_hub["rows"]["test"]["person_id"] == [0]
    for split, rows in from_disk["rows"].items():
        assert {name: from_hub["rows"][split][name] for name in rows} == rows
    assert from_hub["sizes"] == from_disk["sizes"] == {"train": [[4, 8]] * 2, "test": [[4, 8]]}
    assert joined["rows"]["train"]["person_id"] == [0, 1, 2, 3]


def test_what_the_hub_cannot_give_is_one_clear_error(hub, tmp_path):
    upload(hub, "jane/own", image_folder(tmp_path / "own"))
    (tmp_path / "own/train/metadata.jsonl").write_text('{"file_name": "0.png", "caption": "Nobody knows who."}')
    shutil.rmtree(tmp_path / "own/test")
    upload(hub, "jane/nobody", tmp_path / "own")
    upload(hub, "jane/blank", image_folder(tmp_path / "blank", person_id=["anna", " "]))
    upload(hub, "jane/broken", image_folder(tmp_path / "broken"))
    broken = {"data/train-00000-of-00001.parquet": b"PAR1, and then no more", "README.md": b"# Broken"}
    hub.repositories["datasets/jane/broken"] = Repository(branches={"main": broken})
    sources = {
        "hf:jane/nowhere": "FileNotFoundError: hf:jane/nowhere is not there, or not for you: check its name",
        "hf:jane/own@v2": "FileNotFoundError: hf:jane/own@v2 is not there, or not for you",
        "hf:jane/own/small": "hf:jane/own/small cannot be loaded: BuilderConfig 'small' not found",
        "hf:jane": "ValueError: hf:jane is no data set: give hf:USER/NAME",
        "hf:jane/nobody": "hf:jane/nobody, split 'train', has no column `person_id`, but image, caption: name it.",
        "hf:jane/blank": "hf:jane/blank, split 'train', row 2: `person_id`: must not be blank, got ' '",
        "hf:jane/broken": "ValueError: hf:jane/broken cannot be loaded: ",
    }
    for found, message in zip(read(hub, tmp_path / "home", *sources), sources.values(), strict=True):
        assert isinstance(found, str) and message in found


def test_what_cannot_be_a_benchmark_is_not_sent(tmp_path):
    generate_pedestrians(2, 0, 0, image_size=(32, 16)).save_to_disk(tmp_path / "people")
    with pytest.raises(ValueError, match="people has no split 'test': it has train"):
        push_data(str(tmp_path / "people"), "jane/people", "cc0-1.0", benchmark=True)
    with pytest.raises(ValueError, match="'people' is no repository: give USER/NAME"):
        push_data(str(tmp_path / "people"), "people", "cc0-1.0")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/metadata.jsonl").write_text('{"file_name": "gone.png", "person_id": 1, "caption": "A man."}')
    with pytest.raises(ValueError, match="own is unfit: run `bdam data check own:"):
        push_data(f"own:{tmp_path / 'own'}", "jane/own", "cc0-1.0")
