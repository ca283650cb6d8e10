"""The examples in docstrings run as they stand, and print what they show."""

import doctest
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from datasets import DatasetDict
from mllm_server import Server, serve

from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import save_model
from bdam.recipes.recipe import load_recipe
from bdam.training.building import build_model, build_processor


ROOT = Path(__file__).parents[1]
PROMPT = ">>> "
SOURCES = [
    path
    for path in sorted([*ROOT.glob("*_bdam.py"), *ROOT.glob("bdam/**/*.py")])
    if PROMPT in path.read_text(encoding="utf-8")
]
FENCE = re.compile(r"^ *```(?:python)?$", re.MULTILINE)
# Where the examples have their language model.
ENDPOINT = "http://127.0.0.1:8000/v1"


class FencedParser(doctest.DocTestParser):
    """Reads examples between the fences of Markdown, which are no output."""

    def parse(self, string: str, name: str = "<string>") -> list[str | doctest.Example]:
        return super().parse(FENCE.sub("", string), name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone of the repository after a small `make demo`, whose model is not trained, with a folder of one's own."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("docs", "recipes"):
        (folder / name).symlink_to(ROOT / name)
    demo = folder / "outputs/demo"
    people = generate_pedestrians(16, 2, 2, image_size=(128, 64))
    people.save_to_disk(demo / "pedestrians")
    recipe = load_recipe(ROOT / "recipes/demo.yaml", f"data={demo / 'pedestrians'}", f"output_dir={demo}")
    processor = build_processor(recipe, people["train"])
    save_model(demo / "model", build_model(recipe, processor), processor, recipe)
    write_folder(folder / "images", people)
    return folder


def write_folder(folder: Path, people: DatasetDict) -> None:
    """Images, and beside them `annotations.jsonl`."""
    folder.mkdir()
    with (folder / "annotations.jsonl").open("w") as file:
        for split, rows in people.items():
            for index, row in enumerate(rows):
                name = f"{split}_{index:02}.png"
                row["image"].save(folder / name)
                record = {"image": name, "person_id": row["person_id"], "caption": row["captions"][0], "split": split}
                print(json.dumps(record), file=file)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_a_module_run_and_print_what_they_show(path, clone, server, monkeypatch):
    monkeypatch.chdir(clone)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    tests = doctest.DocTestFinder(parser=FencedParser(), exclude_empty=True).find(import_module(name), name, globs={})
    examples = [example for test in tests for example in test.examples]
    assert len(examples) == path.read_text(encoding="utf-8").count(PROMPT)
    for example in examples:
        example.source = example.source.replace(ENDPOINT, server.url)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failures: list[str] = []
    for test in tests:
        runner.run(test, out=failures.append)
    assert not failures, "".join(failures)
