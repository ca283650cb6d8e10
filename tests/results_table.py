"""
Writes what the demo measures to `docs/results/demo.json`, and the README's table from that:

    python tests/results_table.py outputs/demo/results.json
"""

import re
import sys
from pathlib import Path

from bdam.evaluation.report import markdown_summary
from bdam.evaluation.results import Results
from bdam.hub.results import public_results


ROOT = Path(__file__).parents[1]


def with_table(page: str, name: str, table: str) -> str:
    """The text of a page with a table between the markers of this name."""
    between = re.compile(f"(<!-- {name} -->\\n).*?(<!-- /{name} -->)", re.DOTALL)
    return between.sub(lambda markers: f"{markers[1]}{table}\n{markers[2]}", page)


def main(path: Path) -> None:
    results = public_results(Results.from_json(path), "demo")
    results.to_json(ROOT / "docs/results/demo.json")
    readme = ROOT / "README.md"
    text = with_table(readme.read_text(encoding="utf-8"), "results", markdown_summary(results))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
