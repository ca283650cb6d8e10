"""The command that describes this installation."""

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from rich.table import Table

from bdam.commands.options import console


# Requirements, as the metadata of the package lists them, that nothing of the package itself imports.
DEVELOPMENT = re.compile(r"extra == .(dev|docs|notebooks)")


def env() -> None:
    """Show what a bug report needs: versions, devices, and which selective scan runs here."""
    from bdam.evaluation.origin import commit, machine
    from mamba_bdam import describe_scan

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("bdam", commit())
    table.add_row("Python", f"{platform.python_version()}, {platform.platform()}")
    table.add_row("machine", machine())
    table.add_row("selective scan", describe_scan())
    lines = [line for line in requires("bdam") or [] if not DEVELOPMENT.search(line)]
    for name in dict.fromkeys(re.split(r"[^\w.-]", line)[0] for line in lines):
        table.add_row(name, _version(name))
    console.print(table)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "[dim]not installed[/]"
