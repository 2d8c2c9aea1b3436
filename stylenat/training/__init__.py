"""Training: what one iteration does, its random numbers, its state, and the loop around it."""

from stylenat.training.trainer import Trainer

__all__ = ["Trainer"]
