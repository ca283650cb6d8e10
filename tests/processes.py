"""Processes that tests look at."""

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
