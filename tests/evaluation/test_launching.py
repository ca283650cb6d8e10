"""Whatever stops a study, none of the processes that it launched outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import heed_signals, still_run


ROOT = Path(__file__).parents[2]
RUN = """
import sys
from bdam.evaluation import launching
launching.PATIENCE = float(sys.argv[1])
sys.exit(128 + launching.run_launcher([sys.executable, *sys.argv[2:]], sys.stdout.buffer))
"""
# Starts as many trainings as it is told, several in sessions of their own, as `accelerate launch` does, and dies at
# once of any signal.
LAUNCHER = """
import subprocess, sys
count, command = int(sys.argv[1]), [sys.executable, *sys.argv[2:]]
trainings = [subprocess.Popen(command, start_new_session=count > 1) for _ in range(count)]
sys.stdout.write("launched\\n")
sys.stdout.flush()
sys.exit(any(training.wait() for training in trainings))
"""
# Has a child that loads data, without which it cannot end well, and writes a checkpoint where it is asked to stop.
TRAINING = """
import signal, subprocess, sys, time
loader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(0.3)
    sys.stdout.write("checkpoint\\n" if loader.poll() is None else "data is gone\\n")
    sys.stdout.flush()
    loader.kill()
    loader.wait()
    sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else stop)
sys.stdout.write("training\\n")
sys.stdout.flush()
while True:
    time.sleep(600)
"""

START = {"preexec_fn": heed_signals}


@pytest.fixture
def start(tmp_path):
    """Starts a process that runs a launcher of `count` trainings, and waits until all of them are under way."""
    for name, code in {"launcher.py": LAUNCHER, "training.py": TRAINING}.items():
        (tmp_path / name).write_text(code)

    def started(count: int, *options: str, patience: float = 300, **settings) -> tuple:
        command = [sys.executable, "-c", RUN, patience, tmp_path / "launcher.py", count, tmp_path / "training.py"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*map(str, command), *options], env=environment, stdout=subprocess.PIPE, text=True, **START | settings
        )
        lines = sorted(process.stdout.readline() for _ in range(1 + count))
        assert lines == ["launched\n", *["training\n"] * count]
        launched = psutil.Process(process.pid).children(recursive=True)
        assert len(launched) == 1 + 2 * count
        return process, launched

    return started


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_training_writes_its_checkpoint_and_nothing_is_left(start, number, count):
    process, launched = start(count)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output == "checkpoint\n" * count
    assert process.returncode == 128 + number and still_run(launched) == []


@pytest.mark.parametrize("patience, signals", [(0.2, 1), (300, 2)])
def test_training_that_does_not_stop_is_killed(start, patience, signals):
    process, launched = start(2, "stubborn", patience=patience)
    for _ in range(signals):
        process.terminate()
        time.sleep(0.1)
    output, _ = process.communicate(timeout=60)
    assert output == "" and process.returncode == 128 + signal.SIGTERM
    assert still_run(launched) == []


def test_a_launcher_that_has_launched_nothing_yet_is_stopped(tmp_path):
    slow = 'import time; print("starts", flush=True); time.sleep(600)'
    command = [sys.executable, "-c", RUN, "300", "-c", slow]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "starts\n"
    launched = psutil.Process(process.pid).children()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and still_run(launched) == []


def test_nohup_is_respected(start):
    process, launched = start(1, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None and still_run(launched) == launched
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and still_run(launched) == []


def test_a_training_whose_launcher_was_killed_is_ended_too(start):
    process, launched = start(1)
    launched[0].kill()
    while still_run(launched[:1]):
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and still_run(launched) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that cannot be written")
def test_a_log_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "training.py").write_text(TRAINING)
    code = RUN.replace("sys.stdout.buffer", "open('/dev/full', 'wb', 0)")
    command = [sys.executable, "-c", code, "300", tmp_path / "launcher.py", "2", tmp_path / "training.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=60)
    assert "No space left on device" in run.stderr
    left = [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or ())]
    assert still_run(left) == []
