"""A complete experiment that trains in milliseconds, and a generator that is a little larger."""

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


def experiment(**training) -> ExperimentConfig:
    """16² images, 8 channels; keyword arguments replace training settings."""
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
    width = {"image_size": SIZE, "channel_max": 8, "channel_base": 128, "channel_multiplier": 1}
    model = ModelConfig(
        **width,
        style_dim=8,
        mapping_layers=2,
        mapping_lr=0.01,
        min_heads=2,
        mlp_ratio=2,
        kernels=[[3], [3], [3]],
        dilations=[[1], [1], [1, 4]],
    )
    return ExperimentConfig(
        name="tiny",
        dataset="dots",
        model=model,
        discriminator=WidthConfig(**width),
        training=TrainingConfig(**settings | training),
    )
