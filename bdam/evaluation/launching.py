"""Runs `accelerate launch`, and stops all its processes together with this one."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import BinaryIO

import psutil


# Seconds that a training has, after a signal, to finish its step and to write its checkpoint.
PATIENCE = 300.0


def run_launcher(command: list[str], log: BinaryIO) -> int:
    """
    The signal that stopped `accelerate launch …`, after all its processes have ended.

    SIGTERM, SIGINT and, unless it is ignored as under nohup, SIGHUP ask training to write a checkpoint and stop.
    Processes that still run after `PATIENCE` seconds, or at a second signal, are killed.

    Args:
        command: the command with its arguments.
        log: a binary file that receives the output.

    Returns:
        The signal that stopped training; 0 if none did.

    Raises:
        subprocess.CalledProcessError: if training fails.
    """
    with _Stopping() as stopping:
        # In a session of its own, so that Ctrl-C in a terminal reaches this process alone, which passes it on once.
        launcher = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True
        )
        stopping.watch(launcher.pid)
        assert launcher.stdout is not None
        with launcher.stdout:
            # The pipe ends when the last process that writes to it ends, which need not be the launcher.
            while block := launcher.stdout.read(1 << 16):
                log.write(block)
                log.flush()
        launcher.wait()
    if launcher.returncode and not stopping.received:
        raise subprocess.CalledProcessError(launcher.returncode, command)
    return stopping.received


class _Stopping:
    """
    A context in which signals stop a launcher and all processes that it started. None of them runs after it.

    Attributes:
        received: the signal that was received, 0 if none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.launcher: psutil.Process | None = None
        self.launched: set[psutil.Process] = set()
        self.timer = threading.Timer(PATIENCE, self._kill)
        self.timer.daemon = True

    def __enter__(self) -> "_Stopping":
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, error: type[BaseException] | None, *exception) -> None:
        self.timer.cancel()
        if error is not None:
            self._kill()
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def watch(self, pid: int) -> None:
        self.launcher = psutil.Process(pid)
        if self.received:
            self._stop()

    def _receive(self, number: int, frame) -> None:
        if self.received:
            self._kill()
        else:
            self.received = number
            self._stop()

    def _stop(self) -> None:
        """
        Signals the children of the launcher, which are the training processes. The launcher itself would leave one
        running, or signal several twice. Their own children load data; if these got the signal, training would fail.
        """
        trainings = self._find_processes(recursive=False)
        if self.launcher is not None and not trainings:
            self._kill()  # no training has started
            return
        self._find_processes(recursive=True)
        self.timer.start()
        for training in trainings:
            with suppress(psutil.NoSuchProcess):
                training.terminate()

    def _kill(self) -> None:
        if self.launcher is None:
            return
        with suppress(psutil.NoSuchProcess):
            self.launcher.suspend()  # so that it starts no more processes
        self._find_processes(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self.launcher.pid, signal.SIGKILL)
        for process in self.launched:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _find_processes(self, recursive: bool) -> list[psutil.Process]:
        """The launcher's children, or all its descendants, as long as it lives."""
        if self.launcher is None:
            return []
        with suppress(psutil.NoSuchProcess):
            found = self.launcher.children(recursive=recursive)
            self.launched.update(found)
            return found
        return []
