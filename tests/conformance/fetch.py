"""Fetches transformers' own common model tests, from the source distribution of the installed version.

Prints the folder to put on `PYTHONPATH`; there they are the package `transformers_tests`.
"""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


CACHE = Path(__file__).resolve().parents[2] / ".cache" / "conformance"
COMMON_TESTS = ("test_configuration_common.py", "test_modeling_common.py")
# What the common tests import, but the source distribution leaves out: nothing there concerns a model like ours.
STUBS = {
    "__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def fetch_common_tests() -> Path:
    """Downloads and unpacks the tests, unless that has been done for this version; returns their folder."""
    release = version("transformers")
    folder = CACHE / release
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            unfinished = Path(scratch) / release
            unpack_common_tests(download_source(release, Path(scratch)), unfinished / "transformers_tests")
            unfinished.rename(folder)
    return folder


def download_source(release: str, folder: Path) -> Path:
    """The archive of transformers' source distribution, downloaded into `folder`."""
    options = ["--quiet", "--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"transformers=={release}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / f"transformers-{release}.tar.gz"


def unpack_common_tests(archive: Path, package: Path) -> None:
    """Writes the common tests out of `archive`, and stubs for what they import, as a Python package."""
    tests = f"{archive.name.removesuffix('.tar.gz')}/tests"
    files = {name: stub.encode() for name, stub in STUBS.items()}
    with tarfile.open(archive) as source:
        files |= {name: source.extractfile(f"{tests}/{name}").read() for name in COMMON_TESTS}
    for name, content in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    print(fetch_common_tests())
