"""Exports the image and query encoders of BDAM as two ONNX files, and loads these as an encoder."""

import ast
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import nn
from torch._higher_order_ops.scan import scan
from transformers import BatchFeature

from bdam.encoding.encoders import (
    EXPORTED_WEIGHTS,
    IMAGE_ENCODER,
    QUERY_ENCODER,
    BDAMEncoder,
    Encoder,
    load_encoder,
    weights_of,
)
from configuration_bdam import BDAMConfig
from mamba_bdam import BDAMSelectiveScan
from processing_bdam import BDAMProcessor


try:
    import onnxruntime
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxruntime.quantization import quantize_dynamic
except ImportError as error:
    raise ImportError("ONNX files need their tools: pip install bdam[onnx]") from error


AGREES_TO = 1e-4
# The parts that process every token, which takes most of the time. The parts after them process one vector per image:
# in int8 they would save no time, and cause most of the error.
QUANTIZED = {"model.vision_model", "model.text_model", "model.decoupler"}
# Two of each, of different sizes, to trace and compare the encoders.
IMAGES = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB").resize((60, 120))]
SENTENCES = ["A tall man.", "A young woman with glasses, in a red coat and black boots, carries a blue handbag."]


def export_onnx(checkpoint: str, folder: Path, quantize: bool = False) -> None:
    """
    Writes a BDAM as ONNX files to a new folder, completely or not at all.

    - `image_encoder.onnx`: from `pixel_values` of any number of images to `image` and `clothing`, without descriptions
    - `query_encoder.onnx`: from `input_ids` and `attention_mask` of any number and length of sentences to `identity`
      and `clothing`
    - `config.json` and the files of the processor
    - `exported_weights.txt`: the fingerprint of the weights, whose galleries the export can search

    Embeddings are (B, D), L2-normalized. A model without a clothing stream has no `clothing`.

    Args:
        checkpoint: a BDAM in a folder or on the Hub.
        folder: the folder to write.
        quantize: whether the matrix products of the encoders and the decoupler are in int8; by default not.
            Activations are quantized per batch, so that an embedding depends slightly on the other items of its batch.

    Raises:
        FileExistsError: if the folder exists.
        ValueError: if the checkpoint is no BDAM or cannot be exported, or the export gives other embeddings.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: remove it, or give another folder.")
    encoder = load_encoder(checkpoint)
    if not isinstance(encoder, BDAMEncoder):
        raise ValueError(f"{checkpoint} is no checkpoint of a BDAM: nothing else can be exported.")
    encoder.model.float()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        aside = Path(temporary) / folder.name
        encoder.processor.save_pretrained(aside)
        encoder.model.config.to_json_file(aside / "config.json")
        (aside / EXPORTED_WEIGHTS).write_text(f"{weights_of(checkpoint)}\n", encoding="utf-8")
        nodes = _export(encoder, aside)
        _check_agreement(encoder, OnnxEncoder(aside))
        if quantize:
            for file, names in nodes.items():
                _quantize(aside / file, names)
        aside.rename(folder)


class OnnxModel(nn.Module):
    """
    Two ONNX files, run on the CPU with PyTorch's number of threads. It is a module without parameters, so that code
    which moves models or sets their mode accepts it.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path):
        super().__init__()
        self.config = BDAMConfig.from_pretrained(folder)
        self.image_encoder, self.query_encoder = map(open_onnx, (folder / IMAGE_ENCODER, folder / QUERY_ENCODER))


class OnnxEncoder(Encoder):
    """
    The encoder of a folder that [`export_onnx`] wrote. It embeds images without their descriptions.

    Args:
        folder: the folder.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is broken.
    """

    def __init__(self, folder: Path):
        for name in (IMAGE_ENCODER, QUERY_ENCODER, "config.json", "processor_config.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is no whole export, there is no {name}: `bdam export` it again.")
        self.model = OnnxModel(folder)
        self.processor = BDAMProcessor.from_pretrained(folder)

    def prepare_images(self, rows: list[dict], use_descriptions: bool) -> BatchFeature:
        return self.processor(images=[row["image"] for row in rows], return_tensors="pt")

    def embed_images(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return run_onnx(self.model.image_encoder, inputs)

    def prepare_sentences(self, sentences: list[str]) -> BatchFeature:
        return self.processor(text=sentences, return_tensors="pt")

    def embed_sentences(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return run_onnx(self.model.query_encoder, inputs)


def open_onnx(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ValueError(f"{path} is broken: `bdam export` it again. ({error})") from error


def run_onnx(session: onnxruntime.InferenceSession, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs by name."""
    values = session.run(None, {field.name: inputs[field.name].numpy() for field in session.get_inputs()})
    return {field.name: torch.from_numpy(value) for field, value in zip(session.get_outputs(), values, strict=True)}


class _Embedding(nn.Module):
    """One of the two functions of an encoder, as a module that can be traced."""

    def __init__(self, model: nn.Module, embed: Callable):
        super().__init__()
        self.model = model
        self.embed = embed

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.embed(inputs)


@torch.no_grad()
def _export(encoder: BDAMEncoder, folder: Path) -> dict[str, list[str]]:
    """Writes both files to the folder; returns the nodes to quantize in each."""
    images, sentences = _prepare(encoder, [0, 1])
    embed_images = _Embedding(encoder.model, encoder.embed_images)
    embed_sentences = _Embedding(encoder.model, encoder.embed_sentences)
    try:
        return {
            IMAGE_ENCODER: write_onnx(folder / IMAGE_ENCODER, embed_images, images, ["batch"]),
            QUERY_ENCODER: write_onnx(folder / QUERY_ENCODER, embed_sentences, sentences, ["batch", "length"]),
        }
    except RuntimeError as error:
        config = encoder.model.config
        raise ValueError(
            f"torch {torch.__version__} cannot export this model, of {config.vision_config.model_type} and "
            f"{config.text_config.model_type}: {str(error).splitlines()[0]}"
        ) from error


def write_onnx(path: Path, module: nn.Module, inputs: dict[str, torch.Tensor], dynamic_axes: list[str]) -> list[str]:
    """
    Writes a module as an ONNX file, with `dynamic_axes` as the names of its first axes, whose sizes are free. Returns
    the names of the nodes to quantize.
    """
    axes = {name: dict(enumerate(dynamic_axes)) for name in inputs}
    shapes = {name: dict.fromkeys(of_input, torch.export.Dim.DYNAMIC) for name, of_input in axes.items()}
    with patch.object(BDAMSelectiveScan, "apply", _selective_scan), _quiet():
        # Traced here, because the exporter would fix the size of an axis rather than raise an error.
        program = torch.export.export(module.eval(), (inputs,), dynamic_shapes=(shapes,), strict=False)
        exported: Any = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(module(inputs)),
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    nodes = [node.name for node in exported.model.graph if QUANTIZED & set(_scopes(node))]
    ClearMetadataAndDocStringPass()(exported.model)  # where each node comes from, with the paths of this machine
    exported.save(path)
    return nodes


def _scopes(node: Any) -> list[str]:
    """The modules that a node comes from, from the outermost to the innermost."""
    return ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))


def _selective_scan(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> torch.Tensor:
    """[`selective_scan`] as one loop node; the Python loop would be unrolled."""

    def step(state: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        u, delta, B, C = inputs
        state = torch.exp(delta[:, :, None] * A) * state + (delta * u)[:, :, None] * B[:, None]
        return state, (state @ C[:, :, None])[:, :, 0]

    steps = tuple(tensor.transpose(0, 1) for tensor in (u, delta, B, C))
    _, y = scan(step, u.new_zeros(u.shape[0], *A.shape), steps)
    return y.transpose(0, 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without warnings of the exporter that need no action."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)


def _prepare(encoder: BDAMEncoder, rows: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    images = encoder.prepare_images([{"image": IMAGES[row]} for row in rows], use_descriptions=False)
    return dict(images), dict(encoder.prepare_sentences([SENTENCES[row] for row in rows]))


@torch.no_grad()
def _check_agreement(encoder: BDAMEncoder, exported: OnnxEncoder) -> None:
    """Compares both encoders on other batch sizes and text lengths than those that were traced."""
    for rows in ([0], [1, 0, 1]):
        images, sentences = _prepare(encoder, rows)
        _compare(IMAGE_ENCODER, encoder.embed_images(images), exported.embed_images(images))
        _compare(QUERY_ENCODER, encoder.embed_sentences(sentences), exported.embed_sentences(sentences))


def _compare(file: str, expected: dict[str, torch.Tensor], embeddings: dict[str, torch.Tensor]) -> None:
    for name, embeds in expected.items():
        difference = (embeddings[name] - embeds).abs().max().item()
        if not difference <= AGREES_TO:  # NaN is no agreement
            raise ValueError(
                f"{file} would not agree with the model: `{name}` differs by {difference:.1e}, more than "
                f"{AGREES_TO:.0e}. Try other versions of torch and onnxscript."
            )


def _quantize(path: Path, nodes: list[str]) -> None:
    aside = path.with_suffix(".int8.onnx")
    with _quiet():
        quantize_dynamic(path, aside, op_types_to_quantize=["MatMul", "Gemm"], nodes_to_quantize=nodes)
    for part in path.parent.glob(f"{path.name}*"):  # a large model has its weights in files next to it
        part.unlink()
    aside.rename(path)
