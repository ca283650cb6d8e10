"""Training in processes of its own, none of which outlives the one that started them."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import BinaryIO

import psutil


# Seconds that a training which was asked to stop has to end its step and to write its checkpoint.
PATIENCE = 300.0


def run_launcher(command: list[str], log: BinaryIO) -> int:
    """
    Runs `accelerate launch …` until all processes that it started have ended, and writes what they print to `log`.

    SIGTERM, SIGINT and, unless it is ignored as under nohup, SIGHUP ask training to write a checkpoint and stop. What
    is still there after `PATIENCE` seconds, or at a second signal, is killed.

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
            # The pipe ends with the last of its writers; the launcher may well be the first.
            while block := launcher.stdout.read(1 << 16):
                log.write(block)
                log.flush()
        launcher.wait()
    if launcher.returncode and not stopping.received:
        raise subprocess.CalledProcessError(launcher.returncode, command)
    return stopping.received


class _Stopping:
    """
    A context in which signals stop a launcher and all that it launched, and which leaves none of them behind.

    Attributes:
        received: the signal that came, 0 if none.
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
        Training processes are the launcher's children. The launcher itself would leave one behind, or signal several
        for a second time; their own children load data, and would fail the training if they were signaled.
        """
        trainings = self._look(recursive=False)
        if self.launcher is not None and not trainings:
            self._kill()  # nothing has begun
            return
        self._look(recursive=True)
        self.timer.start()
        for training in trainings:
            with suppress(psutil.NoSuchProcess):
                training.terminate()

    def _kill(self) -> None:
        if self.launcher is None:
            return
        with suppress(psutil.NoSuchProcess):
            self.launcher.suspend()  # so that it launches no more
        self._look(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self.launcher.pid, signal.SIGKILL)
        for process in self.launched:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _look(self, recursive: bool) -> list[psutil.Process]:
        """The launcher's children, or all its descendants, as long as it lives."""
        if self.launcher is None:
            return []
        with suppress(psutil.NoSuchProcess):
            found = self.launcher.children(recursive=recursive)
            self.launched.update(found)
            return found
        return []
