"""
Runs the blocks of Markdown files as a reader would: copied, one after the other, into a fresh shell.

    python tests/readme.py README.md docs/search.md …

In the root of the repository, each file in a shell of its own: ```bash blocks in that shell, each ```python block by
its `python`. Blocks of other kinds, such as ```console, are not run. A block that ends with `bdam app` serves a page:
it is left to run until the page answers, then it is stopped. The first block that fails ends the run and is named.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What activating a virtual environment leaves in a shell: the reader's is fresh.
FORGOTTEN = {"VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "PYTHONHOME"}

# Waits for the page of a process in the background, and stops that process; fails if it ends by itself before.
STOP_WHEN_IT_ANSWERS = """
server=$!
python - $server <<'PYTHON'
import os, sys, time, urllib.request
for _ in range(600):
    os.kill(int(sys.argv[1]), 0)
    try:
        sys.exit(urllib.request.urlopen("http://127.0.0.1:7860", timeout=60).status != 200)
    except OSError:
        time.sleep(0.5)
sys.exit("no page at http://127.0.0.1:7860")
PYTHON
kill $server
wait $server || true
server=
"""
AT_THE_END = """
server=
at_the_end() {
    code=$?
    [ -z "$server" ] || kill $server 2> /dev/null || true
    [ $code = 0 ] || echo "error: the block at $block failed" >&2
}
trap at_the_end EXIT
set -eo pipefail
"""


def to_shell(kind: str, code: str) -> str:
    """What the shell runs for a block."""
    if kind == "python":
        return f"python - <<'PYTHON'\n{code}PYTHON\n"
    *before, last = code.rstrip("\n").split("\n")
    if last.startswith("bdam app "):
        return "\n".join([*before, f"{last} &{STOP_WHEN_IT_ANSWERS}"])
    return code


def to_script(path: Path) -> str:
    """A script of all blocks of a file, which says before each where it stands."""
    text = path.read_text(encoding="utf-8")
    parts = [AT_THE_END]
    for block in BLOCK.finditer(text):
        place = f"{path}:{text.count(chr(10), 0, block.start()) + 1}"
        parts.append(f'block={shlex.quote(place)}\necho; echo "== $block"')
        parts.append(to_shell(*block.groups()))
        # In `a && b`, a failure of `a` ends no shell by itself.
        parts.append("[ $? = 0 ] || exit 1")
    return "\n".join(parts)


def run(path: Path) -> int:
    """Runs the blocks of a file; returns the exit code of their shell."""
    environment = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    command = ["bash", "--noprofile", "--norc", "-c", to_script(path)]
    return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(any(run(Path(name)) for name in sys.argv[1:]))
