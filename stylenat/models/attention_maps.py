"""What a generator attends to, read off its layers while it makes an image."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylenat.blocks.hydra import HeadGroup
from stylenat.models.blocks.hydra import HydraAttention
from stylenat.models.generator import Generator
from stylenat.neighbourhood import FAR, axis_windows
from stylenat.precision import products


@dataclass(frozen=True)
class BlockAttention:
    """Queries, keys and values of one block, (heads, side, side, head_dim) in float64.

    Queries are scaled already; heads are in the order of ``groups``.
    """

    level: int
    block: int
    groups: tuple[HeadGroup, ...]
    q: Tensor
    k: Tensor
    v: Tensor
    rpb: tuple[Tensor | None, ...]  # of each group, (heads, 2k - 1, 2k - 1); None without bias

    @property
    def side(self) -> int:
        return self.q.shape[1]


@torch.inference_mode()
def record_attention(generator: Generator, w: Tensor) -> tuple[Tensor, list[BlockAttention]]:
    """The image (1, 3, S, S) of w (1, style_dim), and what each neighbourhood attention computed.

    Layers are hooked, not changed.
    """
    layers = {
        (level, block): attention
        for level, stage in enumerate(generator.layers)
        for block, style_block in enumerate(stage.get_submodule("blocks").children())
        if isinstance(attention := style_block.get_submodule("attn"), HydraAttention)
    }
    projected: dict[tuple[int, int], Tensor] = {}
    with ExitStack() as hooks:
        for place, layer in layers.items():

            def keep(
                _module: nn.Module,
                _inputs: tuple[Tensor, ...],
                output: Tensor,
                place: tuple[int, int] = place,
            ) -> None:
                projected[place] = output[0].double().cpu()

            hooks.enter_context(layer.qkv.register_forward_hook(keep))
        with products("float32", w.device):
            image = generator.synthesis(w)
    return image, [_split(place, layers[place], projected[place]) for place in sorted(projected)]


def _split(place: tuple[int, int], layer: HydraAttention, projected: Tensor) -> BlockAttention:
    """Linear output (side, side, 3 * heads * head_dim), ordered (3, heads, head_dim)."""
    groups = tuple(layer.groups)
    heads = sum(group.heads for group in groups)
    side = int(projected[..., 0].numel() ** 0.5)
    q, k, v = projected.reshape(side, side, 3, heads, -1).permute(2, 3, 0, 1, 4)
    rpb = tuple(None if table is None else table.double().cpu() for table in layer.rpb)
    return BlockAttention(*place, groups, q * q.shape[-1] ** -0.5, k, v, rpb)


@dataclass(frozen=True)
class Reach:
    """How far the heads of a group look: means over queries and heads, and the same for equal
    weights, which only the geometry decides."""

    distance: float  # pixels of the level, between a query and what it attends to
    entropy: float  # of the weights, as a share of that of equal weights
    beyond: float  # share of the weights that lies further than FAR pixels away
    uniform_distance: float
    uniform_beyond: float


def reach(block: BlockAttention) -> list[Reach]:
    """Of every group of heads of one block."""
    found, start = [], 0
    for group, rpb in zip(block.groups, block.rpb, strict=True):
        heads = slice(start, start + group.heads)
        found.append(_reach(block, group, heads, rpb))
        start += group.heads
    return found


def _reach(block: BlockAttention, group: HeadGroup, heads: slice, rpb: Tensor | None) -> Reach:
    side, size = block.side, group.kernel_size
    windows, offsets = (torch.tensor(x) for x in axis_windows(side, size, group.dilation))
    places = torch.arange(side)
    sums = torch.zeros(5, dtype=torch.float64)
    for y in range(side):  # a row of queries at a time: (heads, side, size, size)
        keys = block.k[heads][:, windows[y][None, :, None], windows[:, None, :]]
        logits = torch.einsum("hxd,hxijd->hxij", block.q[heads, y], keys)
        if rpb is not None:
            down, right = offsets[y] + size - 1, offsets + size - 1
            logits = logits + rpb[:, down[None, :, None], right[:, None, :]]
        weights = logits.flatten(2).softmax(2)
        distance = torch.hypot(
            (windows[y] - y).double()[None, :, None],
            (windows - places[:, None]).double()[:, None, :],
        ).flatten(1)
        beyond = (distance > FAR).double()
        entropy = torch.special.entr(weights).sum(2) / torch.tensor(size**2).log()
        uniform = distance.mean(1), beyond.mean(1)
        values = ((weights * distance).sum(2), entropy, (weights * beyond).sum(2), *uniform)
        sums += torch.stack([value.mean() for value in values])
    return Reach(*(sums / side).tolist())


def mean_query_maps(block: BlockAttention) -> Tensor:
    """Logits (heads, side, side) of every key against the mean query: the map of the reference's
    visualisation, without position bias or softmax, blind to kernel and dilation."""
    return torch.einsum("hd,hyxd->hyx", block.q.mean((1, 2)), block.k)


def neighbourhood_weights(block: BlockAttention, y: int, x: int) -> Tensor:
    """The attention weights (heads, side, side) of the query at (y, x) at the pixels they belong
    to: a softmax over its neighbourhood, zero outside it."""
    maps = torch.zeros(block.q.shape[:3], dtype=torch.float64)
    start = 0
    for group, rpb in zip(block.groups, block.rpb, strict=True):
        windows, offsets = axis_windows(block.side, group.kernel_size, group.dilation)
        rows, columns = torch.tensor(windows[y])[:, None], torch.tensor(windows[x])
        heads = slice(start, start + group.heads)
        logits = torch.einsum(
            "hd,hijd->hij", block.q[heads, y, x], block.k[heads][:, rows, columns]
        )
        if rpb is not None:
            down, right = (torch.tensor(offsets[p]) + group.kernel_size - 1 for p in (y, x))
            logits = logits + rpb[:, down[:, None], right]
        maps[heads, rows, columns] = logits.flatten(1).softmax(1).view_as(logits)
        start += group.heads
    return maps
