"""
What `test_resume.py` runs: one training run, killed and resumed again and again until it ends.

    python killed_run.py NUM_PROCESSES NUM_KILLS SEED SOURCE [SOURCE …]
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from accelerate import debug_launcher

import train_accelerate
from bdam.training.checkpoints import find_checkpoints
from bdam.training.recipes import Recipe, load_recipe


def run(recipe: Recipe, num_processes: int) -> int:
    """Starts or resumes the run in processes of its own; returns the leader of their group."""
    leader = os.fork()
    if leader:
        return leader
    os.setpgid(0, 0)
    try:
        if num_processes == 1:
            train_accelerate.train(recipe, resume="latest", cpu=True)
        else:
            debug_launcher(train_accelerate.train, args=(recipe, "latest", 2, True), num_processes=num_processes)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def reached(output_dir: Path, step: int, half_written: bool) -> bool:
    """Whether a checkpoint of `step` or later stands there, or is just being written."""
    if half_written:
        partial = output_dir.glob("checkpoints/*.partial")
        return any(int(path.stem.removeprefix("step_")) >= step for path in partial)
    return any(int(path.name.removeprefix("step_")) >= step for path in find_checkpoints(output_dir))


def main() -> None:
    num_processes, num_kills, seed, *sources = sys.argv[1:]
    recipe = load_recipe(*sources)
    torch.set_num_threads(1)
    chance = random.Random(int(seed))
    moments = sorted(chance.sample(range(1, 12), int(num_kills)))
    kills = 0
    while True:
        leader = run(recipe, int(num_processes))
        while os.waitpid(leader, os.WNOHANG) == (0, 0):
            if kills < len(moments) and reached(Path(recipe.output_dir), moments[kills], half_written=kills % 2 == 0):
                time.sleep(chance.uniform(0, 0.05) * (kills % 2))
                os.killpg(leader, signal.SIGKILL)
                os.waitpid(leader, 0)
                kills += 1
                break
            time.sleep(0.0005)
        else:
            break
    print(f"{kills} kills")


if __name__ == "__main__":
    main()
