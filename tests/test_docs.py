"""The API reference lists what is public."""

import re
from pathlib import Path

import bdam


API = Path(__file__).parents[1] / "docs/api.md"


def test_every_public_name_has_an_entry():
    entries = set(re.findall(r"^::: bdam\.(\w+)$", API.read_text(encoding="utf-8"), re.MULTILINE))
    assert entries == set(bdam.__all__)
