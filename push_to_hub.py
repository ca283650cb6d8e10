"""
Publishes a trained and evaluated run on the Hub: weights, code, processor, recipe, results and a model card.

    python push_to_hub.py RUN USER/NAME [--private] [--revision BRANCH] [--create-pr] [--dry-run FOLDER]

`bdam push` takes the same arguments.
"""

import typer

from bdam.cli import run
from bdam.commands.publishing import push


app = typer.Typer(add_completion=False)
app.command()(push)


if __name__ == "__main__":
    run(app)
