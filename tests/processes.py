"""Helpers for tests that start processes, look at them or kill them."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil


TESTS = Path(__file__).parent


def environment() -> dict[str, str]:
    """The environment of a script that tests run: it finds the project and `tests/`, and torch uses one thread."""
    return {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}


def still_run(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run. A zombie, which nobody has waited for, does not."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def heed_signals() -> None:
    """
    For `preexec_fn`: a process as a terminal starts it, also where the tests themselves run under nohup or in the
    background of a shell, which have SIGHUP or SIGINT ignored.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def call_at_touch(call: Callable[[], object], count: int, folder: str) -> None:
    """
    Calls `call` as this process, or one that it forks, opens, moves or deletes files of a folder, the `count`-th time.

    The run itself counts, so that it is interrupted as often, and nearly where, however busy the machine is.
    """
    left = count

    def touched(event: str, arguments: tuple) -> None:
        nonlocal left
        path = arguments[0] if arguments else None
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder):
            left -= 1
            if left == 0:
                call()

    sys.addaudithook(touched)
