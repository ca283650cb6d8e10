"""Training by recipes with `dual_encoder`, on small dual encoders that are saved on disk."""

import json
from pathlib import Path

import pytest
from tiny import TEXT, save_dual_encoder

from bdam.data.loading import load_data
from bdam.data.pedestrians import generate_pedestrians
from bdam.encoding.models import load_model
from bdam.recipes.recipe import load_recipe
from bdam.training.building import learn_tokenizer
from bdam.training.loop import train


ROOT = Path(__file__).parents[2]
TINY_DUAL_RUN = [
    "image_size=[32, 16]",
    "model.num_branch_layers=1",
    "model.num_branch_heads=2",
    "persons_per_batch=4",
    "num_epochs=1",
    "log_every=1",
    "num_workers=0",
]


@pytest.mark.parametrize(
    ("recipe", "dual_encoder"), [("clip", "CLIP"), ("siglip", "Siglip"), ("multilingual", "MetaClip2")]
)
def test_recipes_of_dual_encoders_train(recipe, dual_encoder, tmp_path):
    data, dual = tmp_path / "data", tmp_path / "dual"
    generate_pedestrians(4, 2, 2, image_size=(32, 16)).save_to_disk(data)
    texts = [text for captions in load_data(data)["train"]["captions"] for text in captions]
    save_dual_encoder(dual_encoder, learn_tokenizer(texts, max_length=32, vocab_size=TEXT["vocab_size"]), dual)
    overrides = [f"data={data}", f"dual_encoder={dual}", f"output_dir={tmp_path}", *TINY_DUAL_RUN]
    assert train(load_recipe(ROOT / f"recipes/{recipe}.yaml", *overrides)) == 0
    step, *_ = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert step["weight/sdm_loss"] == 1 and step["sdm_loss"] > 0 and step["alignment_loss"] > 0
    model, _ = load_model(tmp_path / "model")
    assert model.config.use_pooled_image and model.config.text_pooling == "pooler"
