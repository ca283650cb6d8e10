"""The oldest versions that setup.py allows are those that `make oldest` installs."""

import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.version import Version


ROOT = Path(__file__).parents[1]
# A build against CUDA, and trackers, which no test logs to.
NOT_RUN = {"mamba-ssm", "tensorboard", "trackio", "wandb"}


@pytest.fixture(scope="module")
def oldest() -> dict[str, Version]:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {name.lower(): Version(version) for name, version in pins}


def declared() -> tuple[list[str], list[str]]:
    """The requirements in setup.py: those of who uses the package, with all extras, and those of who develops it."""
    arguments: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        runpy.run_path("setup.py")
    extras = arguments["extras_require"]
    development = extras.pop("dev")
    return sorted({*arguments["install_requires"], *sum(extras.values(), [])}), development


USE, DEVELOPMENT = declared()


@pytest.mark.parametrize("text", USE)
def test_a_lower_bound_is_the_version_that_is_tested(oldest, text):
    requirement = Requirement(text)
    if requirement.name in NOT_RUN:
        return
    assert requirement.name.lower() in oldest, f"constraints-oldest.txt does not say which {requirement.name} to test"
    assert str(requirement.specifier).startswith(">="), f"{text} has no lower bound"
    assert Version(str(requirement.specifier)[2:]) == oldest[requirement.name.lower()]


@pytest.mark.parametrize("text", DEVELOPMENT)
def test_tools_have_lower_bounds_too(text):
    assert str(Requirement(text).specifier).startswith(">=")
