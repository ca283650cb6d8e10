"""Processes that tests look at."""

import signal
from collections.abc import Iterable

import psutil


def still_run(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of them that do; a zombie, which nobody has waited for, does not."""
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
