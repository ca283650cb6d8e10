"""The `bdam` command."""

import typer
from rich.markup import escape

from bdam.commands import (
    captions,
    data,
    environment,
    evaluation,
    export,
    footage,
    publishing,
    retention,
    search,
    training,
)
from bdam.commands.options import errors


app = typer.Typer(help="Text-to-image person retrieval that separates who a person is from what they wear.")
app.add_typer(data.app, name="data")
app.add_typer(captions.app, name="caption")
app.command(context_settings=training.UNPARSED)(training.train)
app.command()(evaluation.evaluate)
app.command()(evaluation.calibrate)
app.command()(evaluation.analyze)
app.command()(footage.detect)
app.command()(search.index)
app.command()(retention.prune)
app.command()(search.search)
app.command()(export.export)
app.command("app")(search.serve)
app.command()(evaluation.study)
app.command()(publishing.push)
app.command()(environment.env)


def main() -> None:
    run(app)


def run(app: typer.Typer) -> None:
    """Runs the command line of this process. Bad input ends it with one line on stderr and exit code 1."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
