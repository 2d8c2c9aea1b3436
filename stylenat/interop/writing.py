"""Writing the reference's *current* checkpoints, so that weights trained here load there."""

from pathlib import Path

import torch
from torch import Tensor

from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.io import Json, atomic
from stylenat.torch_types import StateDict

# The reference's width table is fixed but for a multiplier.
CHANNEL_MAX = 512
CHANNEL_BASE = 16384


def write_checkpoint(
    path: str | Path,
    config: ModelConfig,
    networks: dict[str, dict[str, Tensor]],
    optimizers: dict[str, StateDict],
) -> None:
    """Write state dicts (``g``, ``d``, ``g_ema``) and those of Adam (``g_optim``, ``d_optim``).

    All containers are plain, so the file loads with ``weights_only=True``, too. Raises
    :class:`UserError` for a generator that the reference cannot build.
    """
    if config.block[0] != "full" or set(config.block[1:]) != {"hydra"}:
        raise UserError(
            f"{path}: the reference has no model whose blocks are {', '.join(config.block)}; "
            "only `block: hydra` can be written for it."
        )
    if not config.relative_position_bias:
        raise UserError(
            f"{path}: the reference has no model without relative position bias, so this one "
            "cannot be written for it."
        )
    rates = {key: state["param_groups"][0]["lr"] for key, state in optimizers.items()}
    content = {
        "args": {"runs": {"size": config.image_size, "generator": _settings(config)}},
        "state_dicts": {name: dict(tensors) for name, tensors in networks.items()},
        "optim_dicts": optimizers,
        "lr_dicts": {"G_lr": rates.get("g_optim"), "D_lr": rates.get("d_optim")},
        "eval_info": {},
    }
    # A file object: given a path, torch.save would put the temporary name into the archive.
    with atomic(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def _settings(config: ModelConfig) -> Json:
    """Arguments from which the reference builds the same generator."""
    return {
        "block_type": "nat",
        "n_mlp": config.mapping_layers,
        "style_dim": config.style_dim,
        "lr_mlp": config.mapping_lr,
        "channel_multiplier": config.channel_base * config.channel_multiplier / CHANNEL_BASE,
        "mlp_ratio": config.mlp_ratio,
        "min_heads": config.min_heads,
        "kernels": [list(level) for level in config.kernels],
        "dilations": [list(level) for level in config.dilations],
        "enable_full_resolution": 8,
        "use_checkpoint": False,
        "qkv_bias": True,
        "qk_scale": None,
        "proj_drop": 0.0,
        "attn_drop": 0.0,
    }
