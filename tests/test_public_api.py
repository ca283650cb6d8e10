"""`import bdam` is enough, and imports little until a name is used; for its types see `public_api.py`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_model

import bdam


ROOT = Path(__file__).parents[1]
FIRST_IMPORT = """
import sys
import bdam
heavy = {"torch", "transformers", "datasets", "numpy", "PIL", "pydantic", "rich", "typer"} & sys.modules.keys()
assert not heavy, heavy
assert len([name for name in sys.modules if name.startswith("bdam")]) == 2, sys.modules.keys()
"""
LOADED_BY_AUTO_CLASSES = """
import sys
from transformers import AutoConfig, AutoModel, AutoProcessor
folder = sys.argv[1]
for auto_class, module in ((AutoModel, "modeling_bdam"), (AutoConfig, "configuration_bdam"),
                           (AutoProcessor, "processing_bdam")):
    assert type(auto_class.from_pretrained(folder)).__module__ == module
"""


def test_the_package_imports_nothing_heavy():
    subprocess.run([sys.executable, "-c", FIRST_IMPORT], cwd=ROOT, check=True, timeout=120)


def test_its_names_are_listed():
    assert dir(bdam) == sorted([*bdam.__all__, "__version__"])
    assert bdam.__all__ == sorted(bdam.__all__)
    with pytest.raises(AttributeError, match="module 'bdam' has no attribute 'BDAMPipe'"):
        bdam.BDAMPipe  # noqa: B018


@pytest.mark.parametrize("name", bdam.__all__)
def test_a_public_name_is_there_and_shows_an_example(name):
    documentation = getattr(bdam, name).__doc__
    assert "Example:" in documentation and ">>> " in documentation


def test_type_checkers_see_the_same_names_in_the_same_modules():
    tree = ast.parse((ROOT / "bdam/__init__.py").read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [(node.module, alias) for node in checked.body for alias in node.names]
    assert {alias.asname or alias.name: f"{module}:{alias.name}" for module, alias in imports} == bdam._DEFINED_AT
    assert sorted(bdam._DEFINED_AT) == bdam.__all__


@pytest.mark.parametrize(
    "first",
    [
        "import bdam",
        "from transformers import AutoModel, AutoProcessor; import bdam",
        "import modeling_bdam, processing_bdam, bdam",
        "import bdam; bdam.BDAMProcessor; bdam.BDAMModel",
    ],
)
def test_auto_classes_load_the_installed_code_in_whatever_order_it_is_imported(first, processor, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    command = [sys.executable, "-c", f"{first}\n{LOADED_BY_AUTO_CLASSES}", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, stdin=subprocess.DEVNULL)
