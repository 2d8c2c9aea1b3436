"""A complete experiment that trains in milliseconds, and a generator that is a little larger."""

from dataclasses import fields
from typing import Any

from stylenat.config import ExperimentConfig, ModelConfig, TrainingConfig, WidthConfig

SIZE = 16

# Two heads at every level, of two kinds at the last: of the weights that tests share.
MODEL = {
    "image_size": 16,
    "channel_max": 32,
    "channel_base": 1024,
    "channel_multiplier": 1,
    "style_dim": 32,
    "mapping_layers": 2,
    "mapping_lr": 0.01,
    "min_heads": 2,
    "mlp_ratio": 2,
    "kernels": [[3], [7], [7]],
    "dilations": [[1], [1], [1, 2]],
}


def experiment(
    name: str = "tiny",
    dataset: str = "dots",
    size: int = SIZE,
    model: dict[str, Any] | None = None,
    **training: Any,
) -> ExperimentConfig:
    """8 channels at every level; ``model`` replaces settings of the generator (widths are the
    discriminator's, too), other keyword arguments those of training."""
    settings = {
        "seed": 3,
        "weight_std": 0.02,
        "rgb_gain": 0.02,
        "position_scale": 0.0,
        "batch_size": 8,
        "horizontal_flips": True,
        "generator_lr": 1e-3,
        "discriminator_lr": 1e-3,
        "beta1": 0.0,
        "beta2": 0.99,
        "lr_decay_start": 4,
        "lr_decay_end": 40,
        "r1_gamma": 1.0,
        "r1_interval": 4,
        "bcr_weight": 1.0,
        "gradient_clip": 5.0,
        "ema_half_life": 5.0,
    }
    generator = {
        "image_size": size,
        "channel_max": 8,
        "channel_base": 8 * size,
        "channel_multiplier": 1,
        "style_dim": 8,
        "mapping_layers": 2,
        "mapping_lr": 0.01,
        "min_heads": 2,
        "mlp_ratio": 2,
        "kernels": [[3]] * 9,
        "dilations": [[1], [1], *[[1, 4]] * 7],
    } | (model or {})
    return ExperimentConfig(
        name=name,
        dataset=dataset,
        model=ModelConfig(**generator),
        discriminator=WidthConfig(**{key.name: generator[key.name] for key in fields(WidthConfig)}),
        training=TrainingConfig(**settings | training),
    )
