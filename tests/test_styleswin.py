"""Window attention against its definition, and StyleSwin's checkpoints."""

import argparse
import re
from pathlib import Path

import pytest
import torch

from stylenat.config import ModelConfig
from stylenat.errors import ConfigError, UserError
from stylenat.io import write_json
from stylenat.models import Generator, load_generator, read_header, save_generator
from stylenat.models.blocks.base import relative_position_index
from stylenat.models.blocks.windows import WindowAttention, window_attention
from stylenat.records import Provenance
from tests.checkpoints import run
from tests.project import CONFIG
from tests.tiny import experiment
from tests.weights import fill, normal

DEFAULTS = CONFIG["defaults"]["model"]
STYLESWIN = DEFAULTS | CONFIG["experiments"]["ffhq256-styleswin"]["model"]
SIDE = 32
TINY = STYLESWIN | {
    "image_size": SIDE,
    "style_dim": 16,
    "mapping_layers": 2,
    "channel_max": 32,
    "channel_base": 512,
}


def parameters(model: dict) -> int:
    with torch.device("meta"):
        generator = Generator(ModelConfig(**model))
    return sum(p.numel() for p in generator.parameters())


# ------------------------------------------------------------------------------ the network


def test_parameters_are_those_reported():
    """48.93 M at 256² and multiplier 2; 40.86 M at 1024² and multiplier 1, as its README says."""
    assert round(parameters(STYLESWIN) / 1e6, 2) == 48.93
    large = STYLESWIN | {"image_size": 1024, "channel_multiplier": 1}
    assert round(parameters(large) / 1e6, 2) == 40.86


def by_definition(q, k, v, rpb, window, shift):
    """One query after the other: it attends to the keys in its window of the shifted tiling."""
    heads, side, _, channels = q.shape
    out = torch.empty_like(q)

    def tile(position):
        return (position - shift) // window

    for h in range(heads):
        for y in range(side):
            for x in range(side):
                keys = [
                    (j, i)
                    for j in range(side)
                    for i in range(side)
                    if (tile(j), tile(i)) == (tile(y), tile(x))
                ]
                logits = torch.stack(
                    [
                        q[h, y, x] @ k[h, j, i] / channels**0.5
                        + rpb[h, j - y + window - 1, i - x + window - 1]
                        for j, i in keys
                    ]
                )
                values = torch.stack([v[h, j, i] for j, i in keys])
                out[h, y, x] = logits.softmax(0) @ values
    return out


@pytest.mark.parametrize(("side", "window", "shift"), [(4, 4, 0), (8, 4, 0), (8, 4, 2), (12, 4, 2)])
def test_window_attention_is_its_definition(side, window, shift):
    q, k, v = (normal(name, (2, 2, side, side, 4)).double() for name in "qkv")
    rpb = normal("rpb", (2, 2 * window - 1, 2 * window - 1)).double()
    bias = rpb.flatten(1)[:, relative_position_index(window)].view(2, *(window,) * 4)
    with torch.no_grad():
        found = window_attention(q, k, v, bias, window, shift)
    for image in range(2):
        expected = by_definition(q[image], k[image], v[image], rpb, window, shift)
        assert torch.allclose(found[image], expected, rtol=0, atol=1e-12)


def test_gradients_of_window_attention():
    """Windows are written into one tensor piece by piece; gradients have to find their way back."""
    q, k, v = (normal(name, (1, 1, 8, 8, 2)).double().requires_grad_() for name in "qkv")
    bias = normal("bias", (1, 4, 4, 4, 4)).double().requires_grad_()

    def attend(q, k, v, bias):
        return window_attention(q, k, v, bias, 4, 2)

    assert torch.autograd.gradcheck(attend, (q, k, v, bias))


def test_halves_of_the_heads_see_different_windows():
    """What pixel (0, 0) attends to, read off the gradient: 4² unshifted, 2² where shifted windows
    are cut by the border."""
    attention = WindowAttention(8, heads=2, side=16, window=4).double()
    fill_module(attention)
    with torch.no_grad():
        attention.proj.weight.copy_(torch.eye(8))
    x = normal("x", (1, 16, 16, 8)).double().requires_grad_()
    for half, reach in ((slice(0, 4), 4), (slice(4, 8), 2)):
        (gradient,) = torch.autograd.grad(attention(x)[0, 0, 0, half].sum(), x)
        seen = gradient.abs().sum((0, 3)) > 0
        assert seen[:reach, :reach].all() and seen.sum() == reach**2


def fill_module(module: torch.nn.Module) -> None:
    module.load_state_dict(fill(module.state_dict()))


def test_blocks_are_chosen_by_level():
    block = ["full", "full", "windows", "hydra", "hydra"]
    kernels = [[3], [3], [8], [7], [7]]
    generator = Generator(ModelConfig(**(TINY | {"block": block, "kernels": kernels}))).eval()
    kinds = [type(layer.blocks[0].attn).__name__ for layer in generator.layers]
    assert kinds == ["FullAttention", "FullAttention", "WindowAttention", "HydraAttention"]
    assert generator.layers[1].blocks[0].attn.rpb.shape == (4, 15, 15)
    assert generator(normal("z", (2, 16))).shape == (2, 3, SIDE, SIDE)


def test_one_full_window_is_full_attention():
    """At 8², StyleSwin's double attention and self-attention are the same function."""
    swin = Generator(ModelConfig(**(TINY | {"image_size": 8})))
    full = Generator(ModelConfig(**(TINY | {"image_size": 8, "block": "full"})))
    fill_module(swin)
    tensors = swin.state_dict()
    for level in range(2):
        for block in range(2):
            name = f"layers.{level}.blocks.{block}.attn.rpb"
            tensors[name] = torch.cat([tensors.pop(f"{name}.0"), tensors.pop(f"{name}.1")])
    index = "layers.0.blocks.{}.attn.relative_position_index"  # saved as in the reference
    own = full.state_dict()
    full.load_state_dict(tensors | {index.format(n): own[index.format(n)] for n in range(2)})
    z = normal("z", (2, 16))
    assert torch.allclose(swin(z), full(z), atol=1e-5)


def test_one_word_is_a_list_of_it_and_records_without_it_are_hydra():
    without = {key: value for key, value in DEFAULTS.items() if key != "block"}
    assert ModelConfig(**without) == ModelConfig(**without, block="hydra")
    assert ModelConfig(**without).block == ("full", *("hydra",) * 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "swin"}, r"block: 'swin' is neither one of hydra, windows, full"),
        ({"block": ["full", "windows"]}, r"block: .* for each of the 4 levels of 32²"),
        ({"kernels": [[4], [8], [8], [7]]}, r"kernels\[3\]: \[7\] is not the side of windows"),
        ({"kernels": [[4], [8], [8, 4], [8]]}, r"kernels\[2\]: \[8, 4\] is not the side"),
        ({"kernels": [[4], [8], [8], [12]]}, r"kernels\[3\]: .* one even divisor of 32"),
        ({"min_heads": 1}, r"min_heads: 1 heads at 4² do not halve"),
    ],
)
def test_impossible_blocks_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**(TINY | change))


# ---------------------------------------------------------------------------- its checkpoints
# Names, shapes and what the buffers hold: models/generator.py of microsoft/StyleSwin.


def layout(sides_and_widths: list[tuple[int, int]], style_dim: int, depth: int) -> dict:
    """Shapes of a StyleSwin generator's state dict."""
    shapes = {"input.input": (1, sides_and_widths[0][1], 4, 4)}
    for layer in range(1, depth + 1):
        shapes |= {f"style.{layer}.weight": (style_dim, style_dim)}
        shapes |= {f"style.{layer}.bias": (style_dim,)}
    following = [*sides_and_widths[1:], (None, sides_and_widths[-1][1])]
    pairs = zip(sides_and_widths, following, strict=True)
    for level, ((side, width), (after, width_after)) in enumerate(pairs):
        window, heads = min(side, 8), max(width // 32, 4)
        for n in range(2):
            block = {
                "qkv.weight": (3 * width, width),
                "qkv.bias": (3 * width,),
                "proj.weight": (width, width),
                "proj.bias": (width,),
                "mlp.fc1.weight": (4 * width, width),
                "mlp.fc1.bias": (4 * width,),
                "mlp.fc2.weight": (width, 4 * width),
                "mlp.fc2.bias": (width,),
            }
            for norm in ("norm1", "norm2"):
                block[f"{norm}.style.weight"] = (2 * width, style_dim)
                block[f"{norm}.style.bias"] = (2 * width,)
            for half in range(2):
                table = ((2 * window - 1) ** 2, heads // 2)
                block[f"attn.{half}.relative_position_bias_table"] = table
                block[f"attn.{half}.relative_position_index"] = (window**2, window**2)
            if side > window:
                block["attn_mask2"] = ((side // window) ** 2, window**2, window**2)
            shapes |= {f"layers.{level}.blocks.{n}.{key}": shape for key, shape in block.items()}
        if after:
            shapes |= {
                f"layers.{level}.upsample.alpha": (1,),
                f"layers.{level}.upsample.norm.weight": (width,),
                f"layers.{level}.upsample.norm.bias": (width,),
                f"layers.{level}.upsample.reduction.weight": (width_after, width),
                f"layers.{level}.upsample.sin_pos_embed._float_tensor": (1,),
                f"to_rgbs.{level}.upsample.kernel": (4, 4),
            }
        shapes |= {
            f"to_rgbs.{level}.bias": (1, 3, 1, 1),
            f"to_rgbs.{level}.conv.weight": (3, width_after, 1, 1),
            f"to_rgbs.{level}.conv.bias": (3,),
        }
    return shapes


def index(window: int) -> torch.Tensor:
    y, x = torch.arange(window**2) // window, torch.arange(window**2) % window
    dy, dx = y[:, None] - y, x[:, None] - x  # query - key
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def mask(side: int, window: int) -> torch.Tensor:
    """Of the map rolled by half a window: pixels in one window that were not neighbours before."""
    grid, rolled = side // window, torch.arange(side).roll(-(window // 2))
    rows, columns = (x.flatten() for x in torch.meshgrid(rolled, rolled, indexing="ij"))
    result = torch.zeros(grid**2, window**2, window**2)
    place = torch.arange(side**2).view(grid, window, grid, window).transpose(1, 2).reshape(-1)
    place = place.view(grid**2, window**2)
    for number, pixels in enumerate(place):
        for axis in (rows[pixels], columns[pixels]):
            far = (axis[:, None] - axis).abs() >= window
            result[number][far] = -100.0
    return result


def tensors() -> dict[str, torch.Tensor]:
    widths = [(4, 32), (8, 32), (16, 32), (32, 32)]
    shapes = layout(widths, style_dim=16, depth=2)
    filled = fill({key: torch.zeros(shape) for key, shape in shapes.items()})
    for key, shape in shapes.items():
        if key.endswith("relative_position_index"):
            filled[key] = index(round(shape[0] ** 0.5))
        elif key.endswith("attn_mask2"):
            filled[key] = mask(round(shape[0] ** 0.5) * 8, 8)
        elif key.endswith("relative_position_bias_table"):
            filled[key] = 0.5 * normal(key, shape)
        elif key.endswith(".kernel"):
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
            filled[key] = torch.outer(taps, taps) / 16
    return filled


def save(path: Path, generator: dict) -> Path:
    arguments = argparse.Namespace(size=SIDE, n_mlp=2, lr_mlp=0.01, G_channel_multiplier=1)
    torch.save({"g": generator, "d": {}, "g_ema": generator, "args": arguments}, path)
    return path


def test_its_layout_is_that_of_our_baseline():
    """The layout above, at the published size, has as many parameters as our model."""
    widths = [(side, min(512, 32768 // side)) for side in (4, 8, 16, 32, 64, 128, 256)]
    shapes = layout(widths, style_dim=512, depth=8)
    computed = re.compile(r".*(relative_position_index|attn_mask2|\.kernel|_float_tensor)")
    count = sum(
        torch.Size(shape).numel() for key, shape in shapes.items() if not computed.fullmatch(key)
    )
    assert count == parameters(STYLESWIN)


def their_attention(state: dict, block: str, x: torch.Tensor, side: int) -> torch.Tensor:
    """Double attention from StyleSwin's tensors, as published: roll, partition, mask, roll back."""
    window, channels = min(side, 8), x.shape[-1]
    heads = state[f"{block}.attn.0.relative_position_bias_table"].shape[1]
    qkv = x @ state[f"{block}.qkv.weight"].T + state[f"{block}.qkv.bias"]
    qkv = qkv.view(side, side, 3, 2, heads, -1)
    grid, outputs = side // window, []
    for half in range(2):
        shift = half * (window // 2) * (side > window)
        part = qkv[:, :, :, half].roll((-shift, -shift), (0, 1))
        part = part.view(grid, window, grid, window, 3, heads, -1).permute(4, 0, 2, 5, 1, 3, 6)
        q, k, v = part.reshape(3, grid**2, heads, window**2, -1)
        table = state[f"{block}.attn.{half}.relative_position_bias_table"]
        logits = q @ k.mT * (channels // (2 * heads)) ** -0.5
        logits = logits + table[state[f"{block}.attn.{half}.relative_position_index"]].permute(
            2, 0, 1
        )
        if shift:
            logits = logits + state[f"{block}.attn_mask2"][:, None]
        y = (logits.softmax(-1) @ v).view(grid, grid, heads, window, window, -1)
        y = y.permute(0, 3, 1, 4, 2, 5).reshape(side, side, -1)
        outputs.append(y.roll((shift, shift), (0, 1)))
    y = torch.cat(outputs, -1)
    return y @ state[f"{block}.proj.weight"].T + state[f"{block}.proj.bias"]


def test_a_checkpoint_becomes_the_same_network(tmp_path):
    state = tensors()
    path = run(save(tmp_path / "FFHQ_256.pt", state), tmp_path / "g.safetensors")
    config, origin = read_header(path)
    assert config.block == ("windows",) * 4
    assert config.kernels == ((4,), (8,), (8,), (8,))
    assert (config.min_heads, config.mapping_layers, config.style_dim) == (4, 2, 16)
    assert origin.checkpoint == "FFHQ_256.pt"
    generator = load_generator(path)
    for level, layer in enumerate(generator.layers):
        side = 4 << level
        x = normal(f"x{level}", (1, side, side, 32))
        for n, block in enumerate(layer.blocks):
            expected = their_attention(state, f"layers.{level}.blocks.{n}", x[0], side)
            assert torch.allclose(block.attn(x)[0], expected, atol=1e-5)
    # Everything else has the reference's names, so it arrived under them.
    attention = re.compile(r".*\.(qkv|proj)\..*|.*attn.*")
    for key, value in generator.state_dict().items():
        assert attention.fullmatch(key) or torch.equal(value, state[key]), key
    assert generator(normal("z", (2, 16))).isfinite().all()


def test_faulty_checkpoints_are_refused(tmp_path):
    state = tensors()
    index_key = "layers.2.blocks.0.attn.1.relative_position_index"
    mask_key = "layers.3.blocks.1.attn_mask2"
    faulty = state | {index_key: state[index_key].T, mask_key: -state[mask_key]}
    del faulty["layers.1.blocks.0.qkv.bias"]
    with pytest.raises(UserError, match=r"missing: .*qkv\.bias.*of another value") as caught:
        run(save(tmp_path / "faulty.pt", faulty), tmp_path / "g.safetensors")
    assert index_key in str(caught.value) and mask_key in str(caught.value)


def test_the_experiment_has_to_have_windows(tmp_path):
    checkpoint = save(tmp_path / "c.pt", tensors())
    kernels = [[3], [7], [7], [7]]
    for name, model in (("w", TINY), ("h", TINY | {"block": "hydra", "kernels": kernels})):
        write_json(tmp_path / f"{name}.json", experiment(model=model).to_dict())
    path = run(checkpoint, tmp_path / "w.safetensors", experiment=tmp_path / "w.json")
    assert read_header(path)[0] == ModelConfig(**TINY)
    with pytest.raises(UserError, match=r"model\.block is full, hydra.*has to be windows"):
        run(checkpoint, tmp_path / "h.safetensors", experiment=tmp_path / "h.json")


def test_the_reference_cannot_have_windows(tmp_path):
    weights = tmp_path / "g.safetensors"
    save_generator(weights, Generator(ModelConfig(**TINY)), Provenance(step=0))
    with pytest.raises(UserError, match="no model whose blocks are windows"):
        run(weights, tmp_path / "g.pt", to_reference=True)
