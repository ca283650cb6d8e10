"""The version is written once; the oldest versions that pyproject.toml allows are what `make oldest` installs."""

from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import bdam


try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11, pytest brings it
    import tomli as tomllib


ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# A build against CUDA, and trackers, which no test logs to.
NOT_RUN = {"mamba-ssm", "tensorboard", "trackio", "wandb"}


@pytest.fixture(scope="module")
def oldest() -> dict[str, Version]:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {name.lower(): Version(version) for name, version in pins}


def declared() -> tuple[list[str], list[str]]:
    """The requirements of those who use the package, with all extras, and of those who develop it."""
    project = PYPROJECT["project"]
    extras = dict(project["optional-dependencies"])
    development = sorted({*extras.pop("dev"), *extras.pop("docs"), *extras.pop("notebooks")})
    use = sorted({*project["dependencies"], *sum(extras.values(), [])})
    return use, [text for text in development if Requirement(text).name != "bdam"]


USE, DEVELOPMENT = declared()


@pytest.mark.parametrize("text", USE)
def test_a_lower_bound_is_the_version_that_is_tested(oldest, text):
    requirement = Requirement(text)
    if requirement.name in NOT_RUN:
        return
    assert requirement.name.lower() in oldest, f"constraints-oldest.txt does not say which {requirement.name} to test"
    lower = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
    assert lower, f"{text} has no lower bound"
    assert lower == [oldest[requirement.name.lower()]]


@pytest.mark.parametrize("text", DEVELOPMENT)
def test_tools_have_lower_bounds_too(text):
    assert str(Requirement(text).specifier).startswith(">=")


def test_the_version_is_that_of_the_package_everywhere():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "bdam.__version__"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == bdam.__version__
    assert f"\n## {bdam.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
