from collections.abc import Iterator
from functools import partial

import pytest
from huggingface_hub import cached_assets_path
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401
from tiny import SENTENCES, TEXT
from transformers import ViTImageProcessorPil

from bdam.encoding import extraction
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
    """What is embedded in tests is not kept beyond them."""
    kept = partial(cached_assets_path, assets_dir=tmp_path_factory.mktemp("assets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "cached_assets_path", kept)
        yield
