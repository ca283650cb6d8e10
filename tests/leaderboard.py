"""
Writes the tables of `docs/benchmark.md`: the sizes, and the leaderboard from the files in `docs/results/benchmark`:

    python tests/leaderboard.py

Each file there is a row. `bdam evaluate --output` wrote it, of one model or of several with other seeds.
"""

from pathlib import Path

from results_table import ROOT, with_table

from bdam.data.pedestrians import SIZES
from bdam.evaluation.report import headline_rows, markdown_headlines, markdown_table
from bdam.evaluation.results import Results
from bdam.evaluation.study import aggregate
from bdam.hub.results import public_results


PAGE = ROOT / "docs/benchmark.md"
FOLDER = ROOT / "docs/results/benchmark"
SIZE = "medium"


def sizes_table() -> str:
    """A line per size and split."""
    lines = [["size", "split", "persons", "outfits", "images", "texts", "pixels"]]
    for name, size in SIZES.items():
        for split, (images, texts, pixels) in size.checksums.items():
            persons, outfits = size.arguments[f"num_{split}_persons"], size.arguments["outfits_per_person"]
            lines.append([name, split, f"{persons:,}", str(outfits), f"{images:,}", f"`{texts}`", f"`{pixels}`"])
    return markdown_table(lines)


def read_row(path: Path) -> Results:
    """
    The results in a file, with public names.

    Raises:
        ValueError: if they are not of the split test of the size.
    """
    results = public_results(Results.from_json(path), path.stem)
    images = SIZES[SIZE].checksums["test"].images
    if {(result.split, result.num_gallery) for result in results} != {("test", images)}:
        raise ValueError(f"{path} is not of the {images:,} images of the split test of {SIZE}: evaluate on these.")
    return results


def leaderboard(rows: dict[str, Results]) -> str:
    """The results of each row, the best under changed clothes first."""
    named = (result.model_copy(update={"recipe": name}) for name, results in rows.items() for result in results)
    lines = aggregate(named)
    scores = {name: found["clothes changed: image"].r1 for name, found in headline_rows(lines).items()}
    return markdown_headlines(sorted(lines, key=lambda line: -scores[line.recipe]))


def main() -> None:
    rows = {path.stem: read_row(path) for path in sorted(FOLDER.glob("*.json"))}
    for name, results in rows.items():
        results.to_json(FOLDER / f"{name}.json")
    page = with_table(PAGE.read_text(encoding="utf-8"), "sizes", sizes_table())
    PAGE.write_text(with_table(page, "leaderboard", leaderboard(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
