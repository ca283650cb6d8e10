"""The runner of the README's blocks stops at the first that fails, and names it."""

import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


def run(path: Path, *blocks: str) -> subprocess.CompletedProcess:
    path.write_text("\n".join(f"```{block}\n```" for block in blocks))
    return subprocess.run([sys.executable, ROOT / "tests/readme.py", path], capture_output=True, text=True)


def test_blocks_run_in_order_in_one_shell_at_the_root(tmp_path):
    done = run(tmp_path / "a.md", "bash\nword=told", "bash\necho $word; test -f setup.py", "python\nprint(6 * 7)")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line and "==" not in line] == ["told", "42"]


@pytest.mark.parametrize(
    "block",
    [
        "bash\nfalse\ntrue",
        "bash\nfalse && true",
        "bash\nno_such_command",
        "bash\nfalse | cat",
        "bash\nbdam app no/such/gallery",
        "python\nprint(images)",
    ],
)
def test_the_first_block_that_fails_is_named(tmp_path, block):
    failed = run(tmp_path / "a.md", "bash\ntrue", block, "bash\necho too far")
    assert failed.returncode == 1 and "too far" not in failed.stdout
    assert failed.stderr.splitlines()[-1] == f"error: the block at {tmp_path}/a.md:4 failed"


def test_a_console_is_shown_and_not_run(tmp_path):
    shown = run(tmp_path / "a.md", "console\nexit 1", "text\nexit 1")
    assert shown.returncode == 0 and shown.stdout == ""


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
