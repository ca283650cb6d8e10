# /// script
# requires-python = ">=3.10"
# # bdam is in no registry yet: put a URL behind the name, as in "bdam[analysis,tracking] @ git+https://…".
# dependencies = ["bdam[analysis,tracking]"]
#
# [tool.hf-jobs]
# flavor = "a100-large"
# timeout = "1d"
# secrets = ["HF_TOKEN"]
# ///
"""
Trains BDAM on a rented GPU, from a data set of the Hub, and publishes the result: train, evaluate, analyze, push.

    hf jobs uv run jobs/train.py USER/NAME recipes/clip.yaml data=hf:USER/DATA [key=value …]

The recipe goes up with the script. The machine's disk is gone with the machine: on a mounted bucket, a job that was
stopped goes on from its newest checkpoint.

    hf jobs uv run --attempts 3 -v hf://buckets/USER/runs:/runs jobs/train.py … output_dir=/runs/NAME
"""

from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import whoami

from bdam import load_recipe, train
from bdam.cli import run
from bdam.commands.evaluation import analyze, evaluate
from bdam.commands.publishing import push


app = typer.Typer(add_completion=False)


@app.command()
def main(
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="The model's repository.")],
    recipe: Annotated[list[str], typer.Argument(help="YAML files and overrides, as for `bdam train`.")],
) -> None:
    """Train a model by a recipe, evaluate and analyze it, and publish it on the Hub."""
    whoami()  # better no token now than after the training
    settings = load_recipe("output_dir=run", *recipe)
    folder = Path(settings.output_dir)
    if stopped_by := train(settings, resume="latest"):
        raise SystemExit(128 + stopped_by)
    evaluate([str(folder / "model")], [settings.data], output=folder / "results.json")
    analyze(folder)
    push(folder, repo_id)


if __name__ == "__main__":
    run(app)
