from pathlib import Path

import pytest
from people import Changes, changes_in

from bdam.footage.drawing import DrawnPerson, draw_footage


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> tuple[Path, list[DrawnPerson]]:
    """Two videos of two people, and where these are."""
    folder = tmp_path_factory.mktemp("drawn") / "footage"
    return folder, draw_footage(folder, people=2)


@pytest.fixture(scope="session")
def footage(drawn) -> Path:
    return drawn[0]


@pytest.fixture(scope="session")
def detector(footage) -> Changes:
    return changes_in(footage)
