"""The training step, whose second rank fails at its third iteration; takes the step's options."""

import os

from stylenat.steps import train
from stylenat.training.trainer import Trainer

if __name__ == "__main__":
    iteration = Trainer.iteration

    def failing(trainer, *arguments):
        if os.environ.get("RANK") == "1" and trainer.step == 2:
            raise RuntimeError("planted failure")
        return iteration(trainer, *arguments)

    Trainer.iteration = failing
    train.main()
