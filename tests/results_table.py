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
TABLE = re.compile(r"(<!-- results -->\n).*?(\n<!-- /results -->)", re.DOTALL)


def with_table(readme: str, results: Results) -> str:
    """The text of the README with the table of these results between its markers."""
    return TABLE.sub(lambda markers: f"{markers[1]}{markdown_summary(results)}{markers[2]}", readme)


def main(path: Path) -> None:
    results = public_results(Results.from_json(path), "demo")
    results.to_json(ROOT / "docs/results/demo.json")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
