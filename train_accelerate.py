"""
Trains BDAM by a recipe, on one device or many:

    accelerate launch train_accelerate.py recipes/demo.yaml data=DATA output_dir=RUN [key=value …] [--resume]

The loop is `bdam.training.loop.train`; `bdam train` takes the same arguments.
"""

import sys

from bdam.commands.training import run


if __name__ == "__main__":
    run(sys.argv[1:])
