"""The command that publishes models; `push_to_hub.py` runs it, too."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")],
    repo_id: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="The repository, which is made if there is none.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to a branch, which is made if there is none.")
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the files to a folder, and upload nothing.")
    ] = None,
) -> None:
    """
    Publish a trained and evaluated run on the Hub: weights, code, processor, recipe, results and a model card.

    RUN holds `model/` of the training and `results.json` of `bdam evaluate RUN/model --output RUN/results.json`; the
    analysis of `bdam analyze RUN` is published, too, if there is one. The token is that of `hf auth login`, or
    HF_TOKEN.
    """
    from bdam.hub.publishing import publish, stage

    with tempfile.TemporaryDirectory() as temporary:
        folder = dry_run or Path(temporary) / "staged"
        if folder.exists():
            raise FileExistsError(f"{folder} exists already: remove it, or give another folder.")
        stage(run, repo_id, folder)
        for path in sorted(folder.iterdir()):
            print(f"{path.stat().st_size:>14,}  {path.name}")
        if dry_run:
            print(f"Nothing was uploaded; {folder} holds what would be.")
            return
        uploaded = publish(folder, repo_id, private, revision, create_pr)
        print(f"Published: {uploaded}")
