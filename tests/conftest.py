import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import cached_assets_path
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401
from tiny import SENTENCES, TEXT
from transformers import ViTImageProcessorPil

from bdam import cli
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding import extraction
from bdam.retrieval import reranking
from bdam.training.building import learn_tokenizer
from processing_bdam import BDAMProcessor


@pytest.fixture(scope="session")
def processor() -> BDAMProcessor:
    return BDAMProcessor(
        image_processor=ViTImageProcessorPil(size={"height": 32, "width": 16}, do_convert_rgb=True),
        tokenizer=learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"]),
    )


@pytest.fixture(autouse=True, scope="session")
def no_trace(tmp_path_factory) -> Iterator[None]:
    """What is embedded or answered in tests is not kept beyond them."""
    kept = partial(cached_assets_path, assets_dir=tmp_path_factory.mktemp("assets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "cached_assets_path", kept)
        patch.setattr(reranking, "cached_assets_path", kept)
        yield


@pytest.fixture
def bdam(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs the `bdam` command: its exit code, and its output with every white space a blank."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bdam", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return stop.value.code or 0, " ".join((output.out + output.err).split())

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The folder of a few generated pedestrians, small enough for `tiny.TINY_RUN`."""
    folder = tmp_path_factory.mktemp("data")
    generate_pedestrians(8, 4, 5, image_size=(32, 16)).save_to_disk(folder)
    return folder
