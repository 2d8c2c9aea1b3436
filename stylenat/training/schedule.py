"""What changes with the iteration, as functions of the iteration alone."""

from stylenat.config import TrainingConfig


def lr_factor(config: TrainingConfig, step: int) -> float:
    """Factor on both base learning rates at iteration ``step`` = 0, 1, …

    ``min(1, (N − t) / (N − start))``, constant without a decay. Upstream drops the
    discriminator's lazy-regularisation factor at the first decay step; this does not.
    """
    if config.lr_decay_start is None:
        return 1.0
    left = (config.lr_decay_end - step) / (config.lr_decay_end - config.lr_decay_start)
    return min(1.0, max(0.0, left))


def ema_decay(config: TrainingConfig) -> float:
    """Share of the running average that survives one iteration: ``0.5^(1 / half-life)``."""
    return 0.5 ** (1 / config.ema_half_life)


def lazy_correction(config: TrainingConfig) -> float:
    """``interval / (interval + 1)``: D takes one more Adam step per interval, for R1, so its rate
    and the exponents of its betas shrink by this (StyleGAN2, appendix B)."""
    return config.r1_interval / (config.r1_interval + 1)
