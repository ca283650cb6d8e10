"""The files that the Hub ships import nothing of the package; for the order inside it, see pyproject.toml."""

import ast
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
ALLOWED = {*sys.stdlib_module_names, "torch", "transformers", "huggingface_hub", "mamba_ssm", "numpy", "PIL"}


@pytest.mark.parametrize(
    "file, siblings",
    [
        ("configuration_bdam", set()),
        ("encoders_bdam", {"configuration_bdam"}),
        ("losses_bdam", {"configuration_bdam"}),
        ("mamba_bdam", set()),
        ("modeling_bdam", {"configuration_bdam", "encoders_bdam", "losses_bdam", "mamba_bdam", "outputs_bdam"}),
        ("outputs_bdam", set()),
        ("processing_bdam", set()),
    ],
)
def test_what_the_hub_ships_imports_nothing_of_the_package(file, siblings):
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= ALLOWED | siblings
