"""A saved model is complete: a stranger's process needs nothing but transformers."""

import os
import subprocess
import sys

import torch
from PIL import Image
from tiny import SENTENCES, tiny_model


STRANGER = """
import sys, torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor

directory, output, *sentences = sys.argv[1:]
try:
    import modeling_bdam
except ImportError:
    pass
else:
    sys.exit("the package must not be importable here")
config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
model = AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
assert config.model_type == model.config.model_type == "bdam"
attention = {module.config._attn_implementation for module in model.modules() if hasattr(module, "config")}
assert attention == {"sdpa"}, attention
inputs = processor(images=[Image.new("RGB", (16, 32), "red")] * 2, text=sentences, return_tensors="pt")
with torch.inference_mode():
    outputs = model(**inputs)
torch.save({name: outputs[name].clone() for name in ("image_embeds", "text_embeds", "clothing_image_embeds")}, output)
"""


def test_a_fresh_process_loads_model_and_processor_as_remote_code(processor, tmp_path):
    model = tiny_model(fusion_mode="tokens")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        # -I: no PYTHONPATH, no working directory; -S with the dependencies alone: no editable install of ours.
        [sys.executable, "-I", "-S", "-c", without_this_package(STRANGER)]
        + [str(tmp_path / "model"), str(tmp_path / "embeds.pt"), *SENTENCES[:2]],
        cwd=elsewhere,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
        check=True,
        timeout=120,
    )
    inputs = processor(images=[Image.new("RGB", (16, 32), "red")] * 2, text=SENTENCES[:2], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs)
    for name, embeds in torch.load(tmp_path / "embeds.pt").items():
        assert torch.equal(embeds, expected[name]), name


def without_this_package(code: str) -> str:
    """Puts the folder of the installed dependencies on the path without running its .pth files, such as ours."""
    site_packages = os.path.dirname(os.path.dirname(torch.__file__))
    return f"import sys; sys.path.append({site_packages!r})\n{code}"
