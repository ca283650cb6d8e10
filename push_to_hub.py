"""
Publishes a trained and evaluated run on the Hub: weights, code, processor, recipe, results and a model card.

    python push_to_hub.py RUN USER/NAME [--private] [--revision BRANCH] [--create-pr] [--dry-run FOLDER]

RUN holds `model/`, as training writes it, and `results.json`, as `bdam evaluate RUN/model --output RUN/results.json`
writes it; what `bdam analyze RUN` found is published with it. The token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse
import tempfile
from pathlib import Path

from bdam.hub.publishing import publish, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("repo_id", metavar="USER/NAME", help="the repository, made if it is not there")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="commit to a branch, made if it is not there")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request in place of a commit")
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="write what would go up, and stop")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.dry_run or Path(temporary) / "staged"
            if folder.exists():
                raise FileExistsError(f"{folder} exists already: remove it, or give another folder.")
            stage(arguments.run, arguments.repo_id, folder)
            for path in sorted(folder.iterdir()):
                print(f"{path.stat().st_size:>14,}  {path.name}")
            if arguments.dry_run:
                print(f"Nothing was uploaded; {folder} holds what would be.")
                return
            options = (arguments.private, arguments.revision, arguments.create_pr)
            print(f"Published: {publish(folder, arguments.repo_id, *options)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
