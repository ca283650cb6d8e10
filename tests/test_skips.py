"""In CI, no test may skip because a part is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


TESTS = Path(__file__).parent
SKIPS = {
    "call": "def test(): pytest.skip('no part')",
    "import": "def test(): pytest.importorskip('no_part')",
    "module": "pytest.importorskip('no_part')\ndef test(): pass",
    "fixture": "@pytest.fixture\ndef part(): pytest.skip('no part')\ndef test(part): pass",
    "mark": "@pytest.mark.skipif(True, reason='no part')\ndef test(): pass",
    "unittest": "import unittest\nclass Test(unittest.TestCase):\n def test(self): self.skipTest('no part')",
}
MAY_SKIP = "@pytest.mark.gpu\n@pytest.mark.skipif(True, reason='no GPU')\ndef test(): pass"
FAILS_AS_KNOWN = "@pytest.mark.xfail\ndef test(): assert False"


def run(folder: Path, **environment: str) -> str:
    """What pytest prints of a folder of tests, with the plugin alone."""
    command = [sys.executable, "-m", "pytest", "-p", "skips", "-c", TESTS.parent / "pyproject.toml"]
    command += ["-rfE", "--continue-on-collection-errors", folder]
    others = {name: value for name, value in os.environ.items() if name != "CI"}
    alone = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, env={**others, **alone, **environment}, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("skips")
    for name, code in {**SKIPS, "gpu": MAY_SKIP, "known": FAILS_AS_KNOWN}.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{code}\n")
    return {"in CI": run(folder, CI="true"), "elsewhere": run(folder)}


@pytest.mark.parametrize("name", SKIPS)
def test_a_skip_is_a_failure_in_ci(printed, name):
    (line,) = (line for line in printed["in CI"].splitlines() if f"test_{name}.py" in line and line[0] in "FE")
    assert line.startswith(("FAILED", "ERROR"))


def test_the_reason_is_told(printed):
    assert "In CI nothing may skip but tests marked `gpu`. Skipped: no part" in printed["in CI"]
    assert "could not import 'no_part'" in printed["in CI"]


def test_what_needs_a_gpu_may_skip_in_ci(printed):
    assert "1 skipped, 1 xfailed" in printed["in CI"]


def test_elsewhere_tests_may_skip(printed):
    assert f"{len(SKIPS) + 1} skipped, 1 xfailed" in printed["elsewhere"]
    assert "failed," not in printed["elsewhere"] and "error" not in printed["elsewhere"]
