"""Checkpoints as people have them: whatever `AutoModel` reads, and one clear error for the rest."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, TEXT, save_dual_encoder, tiny_model
from transformers import AutoConfig, AutoModel

from bdam.encoding.models import fingerprint, load_model, weight_files
from bdam.training.building import learn_tokenizer
from encoders_bdam import text_capacity


SAFE, PLAIN = "model.safetensors", "pytorch_model.bin"


@pytest.fixture(scope="module", params=["bdam", "CLIP"])
def whole(request, processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    if request.param == "bdam":
        tiny_model().save_pretrained(folder)
        processor.save_pretrained(folder)
    else:
        tokenizer = learn_tokenizer(SENTENCES, max_length=32, vocab_size=TEXT["vocab_size"])
        save_dual_encoder(request.param, tokenizer, folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def take_weights(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_file(folder / SAFE)
    (folder / SAFE).unlink()
    return weights


def in_shards(folder: Path) -> None:
    model, _ = load_model(folder)
    (folder / SAFE).unlink()
    model.save_pretrained(folder, max_shard_size="50KB")


def in_plain_file(folder: Path) -> None:
    torch.save(take_weights(folder), folder / PLAIN)


def in_plain_shards(folder: Path) -> None:
    weights = list(take_weights(folder).items())
    shards = {"pytorch_model-00001-of-00002.bin": weights[:9], "pytorch_model-00002-of-00002.bin": weights[9:]}
    for name, shard in shards.items():
        torch.save(dict(shard), folder / name)
    places = {key: name for name, shard in shards.items() for key, _ in shard}
    (folder / f"{PLAIN}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def in_one_variant(folder: Path) -> None:
    (folder / SAFE).rename(folder / "model.fp16.safetensors")


def in_plain_variant(folder: Path) -> None:
    in_plain_file(folder)
    (folder / PLAIN).rename(folder / "pytorch_model.fp16.bin")


def beside_a_variant(folder: Path) -> None:
    weights = {name: values.half() for name, values in load_file(folder / SAFE).items()}
    save_file(weights, folder / "model.fp16.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "rewrite", [in_shards, in_plain_file, in_plain_shards, in_one_variant, in_plain_variant, beside_a_variant]
)
def test_what_automodel_reads_is_read(whole, folder, rewrite):
    expected, _ = load_model(whole)
    rewrite(folder)
    model, _ = load_model(folder)
    for name, parameter in expected.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    before = fingerprint(folder)
    with weight_files(folder)[-1].open("ab") as file:
        file.write(b" ")
    assert before and before != fingerprint(folder)


def test_half_precision_is_loaded_as_what_the_cpu_computes_in(folder):
    model, _ = load_model(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    assert {parameter.dtype for parameter in load_model(folder)[0].parameters()} == {torch.float32}


def rewritten(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str):
    def halve(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return halve


def broken_plain(content: bytes | None = None):
    def break_it(folder: Path) -> None:
        in_plain_file(folder)
        cut(PLAIN)(folder) if content is None else (folder / PLAIN).write_bytes(content)

    return break_it


def lose_a_shard(folder: Path) -> None:
    in_shards(folder)
    next(folder.glob("model-00002*")).unlink()


def lose_a_layer(folder: Path) -> None:
    weights = {name: values for name, values in take_weights(folder).items() if "layers.1" not in name}
    save_file(weights, folder / SAFE, metadata={"format": "pt"})


def widen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "projection_dim": 20}))


def make_two_variants(folder: Path) -> None:
    shutil.copyfile(folder / SAFE, folder / "model.bf16.safetensors")
    in_one_variant(folder)


def remove(pattern: str):
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
ODD = {
    "no config": (remove("config.json"), "holds no model: there is no config.json"),
    "empty config": (rewritten("config.json", b""), "model cannot be loaded: .*config.json' is not a valid JSON file"),
    "config of nothing": (rewritten("config.json", b"{}"), "model cannot be loaded: Unrecognized model"),
    "unknown model": (rewritten("config.json", b'{"model_type": "none"}'), "model cannot be loaded: .*`none`"),
    "no weights": (remove(SAFE), "holds no weights: there is no model.safetensors nor pytorch_model.bin"),
    "half of the weights": (cut(SAFE), "model.safetensors cannot be loaded: .* Save or download it again"),
    "empty weights": (rewritten(SAFE, b""), "model.safetensors cannot be loaded: .* Save or download it again"),
    "a pointer": (rewritten(SAFE, POINTER), "model.safetensors only points to weights .* run `git lfs pull`"),
    "half of a plain file": (broken_plain(), "pytorch_model.bin cannot be loaded"),
    "an empty plain file": (broken_plain(b""), "pytorch_model.bin cannot be loaded: EOFError"),
    "a plain pointer": (broken_plain(POINTER), "pytorch_model.bin only points to weights"),
    "code in a plain file": (broken_plain(pickle.dumps(print)), "pytorch_model.bin cannot be loaded"),
    "a shard less": (lose_a_shard, "model cannot be loaded: .*model-00002-of-"),
    "a layer less": (lose_a_layer, r"lacks weights: .*layers\.1\..* and \d+ more. Save or download it again"),
    "other shapes": (widen, r"weights of another shape than its config.json says: .* in place of \(20, \d+\)"),
    "two variants": (make_two_variants, r"holds variants alone, \['bf16', 'fp16'\]"),
    "no image processor": (remove("*processor_config.json"), "model cannot be loaded: .*image processor"),
    "no tokenizer": (remove("tokenizer*"), "cannot be loaded: .*tokenizer|The tokenizer of .* knows no word"),
    "half of the tokenizer": (cut("tokenizer.json"), "model cannot be loaded"),
}


@pytest.mark.parametrize("state", ODD)
def test_an_odd_folder_gets_one_clear_error(folder, state):
    break_it, message = ODD[state]
    break_it(folder)
    with pytest.raises((ValueError, OSError), match=message) as error:
        load_model(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        *((kind, 40) for kind in ("bert", "distilbert", "electra", "albert", "deberta-v2", "clip_text_model", "bart")),
        *((kind, 38) for kind in ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")),
        *((kind, 40) for kind in ("gpt2", "nystromformer", "roformer")),
        ("t5", None),
    ],
)
@torch.no_grad()
def test_a_text_encoder_takes_so_many_tokens_and_not_one_more(model_type, expected):
    sizes = {**TEXT, "model_type": model_type, "max_position_embeddings": 40, "n_positions": 40}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    extra = {"longformer": {"attention_window": 4}, "bart": heads}.get(model_type, {})
    if model_type == "t5":
        del sizes["max_position_embeddings"]
    model = AutoModel.from_config(AutoConfig.for_model(**sizes, **extra)).eval()
    assert text_capacity(model) == expected
    decoder = {"decoder_input_ids": torch.tensor([[5]])} if model.config.is_encoder_decoder else {}
    tokens = torch.full((1, expected or 600), 7)
    assert model(tokens, **decoder).last_hidden_state.isfinite().all()
    if expected:
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(torch.full((1, expected + 1), 7), **decoder)
