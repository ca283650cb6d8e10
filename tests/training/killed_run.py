"""
What `test_resume.py` runs: one training run, killed and resumed again and again until it ends.

    python killed_run.py NUM_PROCESSES NUM_KILLS SEED SOURCE [SOURCE …]
"""

import os
import random
import signal
import sys
from functools import partial
from threading import Timer

import torch
from accelerate import debug_launcher
from processes import call_at_touch

from bdam.recipes.recipe import Recipe, load_recipe
from bdam.training.loop import train


# A run that is not killed touches its files some 170 times: it does not end before it was killed five times.
TOUCHES = range(5, 31)
DELAYS = (0, 0.02)  # seconds


def kill_after(delay: float) -> None:
    """After `delay` seconds, kills this process and those that it started."""
    Timer(delay, os.killpg, (os.getpgrp(), signal.SIGKILL)).start()


def run(recipe: Recipe, num_processes: int, touches: int | None, delay: float) -> int:
    """Starts or resumes the run in processes of its own, until it ends or is killed; returns how it ended."""
    leader = os.fork()
    if leader:
        return os.waitpid(leader, 0)[1]
    os.setpgid(0, 0)
    try:
        if touches is not None:
            call_at_touch(partial(kill_after, delay), touches, recipe.output_dir)
        if num_processes == 1:
            train(recipe, resume="latest", cpu=True)
        else:
            debug_launcher(train, args=(recipe, "latest", 2, True), num_processes=num_processes)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def main() -> None:
    num_processes, num_kills, seed, *sources = sys.argv[1:]
    recipe = load_recipe(*sources)
    torch.set_num_threads(1)
    chance = random.Random(int(seed))
    kills = 0
    while True:
        touches = chance.choice(TOUCHES) if kills < int(num_kills) else None
        status = run(recipe, int(num_processes), touches, chance.uniform(*DELAYS))
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    print(f"{kills} kills")


if __name__ == "__main__":
    main()
