import pytest
from tiny import SENTENCES, TEXT
from transformers import ViTImageProcessorPil

from bdam.training.building import learn_tokenizer
from processing_bdam import BDAMProcessor


@pytest.fixture(scope="session")
def processor() -> BDAMProcessor:
    return BDAMProcessor(
        image_processor=ViTImageProcessorPil(size={"height": 32, "width": 16}, do_convert_rgb=True),
        tokenizer=learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"]),
    )
