"""What changes with the iteration, as functions of the iteration alone."""

from stylenat.config import TrainingConfig


def lr_factor(config: TrainingConfig, step: int) -> float:
    """Factor on both base learning rates at iteration ``step`` = 0, 1, …

    ``min(1, (N − t) / (N − start))``, constant without a decay. Upstream drops the
    discriminator's lazy-regularisation factor at the first decay step; this does not.
    """
    start, end = config.lr_decay_start, config.lr_decay_end
    if start is None or end is None:
        return 1.0
    left = (end - step) / (end - start)
    return min(1.0, max(0.0, left))


def ema_decay(config: TrainingConfig, step: int) -> float:
    """Share of the running average that survives iteration ``step``: ``0.5^(1 / half-life)``.

    With ``ema_rampup`` the half-life is at most that share of the iterations before (StyleGAN2).
    """
    half_life = config.ema_half_life
    if config.ema_rampup is not None:
        half_life = min(half_life, config.ema_rampup * step)
    return 0.5 ** (1 / half_life) if half_life else 0.0


def lazy_correction(config: TrainingConfig) -> float:
    """``interval / (interval + 1)``: D takes one more Adam step per interval, for R1, so its rate
    and the exponents of its betas shrink by this (StyleGAN2, appendix B)."""
    return config.r1_interval / (config.r1_interval + 1)
