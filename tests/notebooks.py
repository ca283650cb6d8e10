"""
Runs notebooks as a reader would, each in a kernel of its own and in its folder:

    python tests/notebooks.py notebooks/*.ipynb

The files stay as they are. The first cell that fails ends the run, and is shown with its error.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config


def run(path: Path) -> None:
    """
    Raises:
        CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    with TemporaryDirectory() as sockets:
        # Over TCP, others on the machine could listen.
        config = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        NotebookClient(notebook, timeout=600, resources=folder, config=config).execute()


if __name__ == "__main__":
    # As after `source .venv/bin/activate`: cells call `bdam` and `accelerate`.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in sys.argv[1:]:
        print(f"== {name}", flush=True)
        try:
            run(Path(name))
        except CellExecutionError as error:
            sys.exit(f"error: {name}: {error}")
