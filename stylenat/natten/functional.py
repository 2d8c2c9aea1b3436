"""NATTEN's operators of two dimensions, with the arguments of version 0.17.5.

Beware of its two layouts: `na2d` has the heads next to last, `na2d_qk` and `na2d_av` before the
height. A kernel size or a dilation is one number, or two equal ones; no dilation (None) is 1.
"""

from collections.abc import Sequence

from torch import Tensor

from stylenat.models.attention import check_arguments, check_geometry, neighborhood_attention
from stylenat.natten.products import bias_of_places, dot_products, weighted_sums
from stylenat.precision import without_autocast
from stylenat.torch_types import not_compiled

Pair = int | Sequence[int]
Causal = bool | Sequence[bool] | None  # to be refused unless it says no


def na2d(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernel_size: Pair,
    dilation: Pair | None = 1,
    is_causal: Causal = False,
    rpb: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Neighbourhood attention in one operator: `stylenat.neighborhood_attention`, which says what
    it computes, in NATTEN's layout for it. Unlike NATTEN's, it can be trained with a bias.

    Args:
        query, key, value: (batch, height, width, heads, head_dim).
        kernel_size: odd; with `dilation`, no longer than either side of the map.
        is_causal: must be False.
        rpb: relative position bias (heads, 2 * kernel_size - 1, 2 * kernel_size - 1).
        scale: of query·key; head_dim ** -0.5 where None or 0.

    Returns:
        (batch, height, width, heads, head_dim), in query's dtype.

    Raises:
        ValueError: an argument that this does not support, or that does not fit the others.
    """
    kernel_size, dilation = geometry(kernel_size, dilation, is_causal)
    q, k, v = (x.movedim(-2, 1) for x in (query, key, value))
    out = neighborhood_attention(q, k, v, rpb, kernel_size, dilation, scale or None)
    return out.movedim(1, -2)


@not_compiled  # it has no use for a loop over hundreds of small operations
def na2d_qk(
    query: Tensor,
    key: Tensor,
    kernel_size: Pair,
    dilation: Pair | None = 1,
    additional_keys: Tensor | None = None,
    is_causal: Causal = False,
    rpb: Tensor | None = None,
) -> Tensor:
    """The logits of neighbourhood attention, query·key + rpb, without any scale.

    Args:
        query, key: (batch, heads, height, width, head_dim).
        kernel_size, dilation, is_causal, rpb: as in `na2d`.
        additional_keys: must be None.

    Returns:
        (batch, heads, height, width, kernel_size²), the places of a window row by row, in query's
        dtype.

    Raises:
        ValueError: as in `na2d`.
    """
    places = geometry(kernel_size, dilation, is_causal, additional_keys)
    check_arguments(query, key, key, rpb, *places)
    with without_autocast(query.device):
        logits = dot_products(query, key, places)
        if rpb is None:
            return logits
        height, width = query.shape[2:4]
        return logits + bias_of_places(rpb.to(query.dtype), height, width, places)


@not_compiled
def na2d_av(
    attn: Tensor,
    value: Tensor,
    kernel_size: Pair,
    dilation: Pair | None = 1,
    additional_values: Tensor | None = None,
    is_causal: Causal = False,
) -> Tensor:
    """The sums of the values that `attn` weighs: what `na2d_qk` returns, after its softmax.

    Args:
        attn: (batch, heads, height, width, kernel_size²), as `na2d_qk` orders them.
        value: (batch, heads, height, width, head_dim).
        kernel_size, dilation, is_causal: as in `na2d`.
        additional_values: must be None.

    Returns:
        (batch, heads, height, width, head_dim), in value's dtype.

    Raises:
        ValueError: as in `na2d`.
    """
    places = geometry(kernel_size, dilation, is_causal, additional_values)
    check_arguments(value, value, value, None, *places)
    expected = (*value.shape[:4], places[0] ** 2)
    if attn.shape != expected:
        raise ValueError(
            f"attn must be (batch, heads, height, width, kernel_size²) = {expected}, "
            f"but is {tuple(attn.shape)}"
        )
    with without_autocast(value.device):
        return weighted_sums(attn, value, places)


def natten2dqkrpb(
    query: Tensor, key: Tensor, rpb: Tensor | None, kernel_size: int, dilation: int
) -> Tensor:
    """`na2d_qk` as NATTEN 0.14.5 to 0.17.4 called it."""
    return na2d_qk(query, key, kernel_size, dilation, rpb=rpb)


def natten2dqk(query: Tensor, key: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """`na2d_qk` without a bias as NATTEN 0.14.5 to 0.17.4 called it."""
    return na2d_qk(query, key, kernel_size, dilation)


def natten2dav(attn: Tensor, value: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """`na2d_av` as NATTEN 0.14.5 to 0.17.4 called it."""
    return na2d_av(attn, value, kernel_size, dilation)


def geometry(
    kernel_size: Pair,
    dilation: Pair | None,
    is_causal: Causal = False,
    additional: Tensor | None = None,
) -> tuple[int, int]:
    """Kernel size and dilation as a number each.

    Raises:
        ValueError: they are impossible, or something is asked for that NATTEN has and this has not.
    """
    if any(is_causal) if isinstance(is_causal, Sequence) else is_causal:
        raise ValueError("stylenat.natten has no causal attention; leave is_causal at False")
    if additional is not None:
        raise ValueError("stylenat.natten has no additional keys and values; leave them at None")
    dilation = 1 if dilation is None else dilation
    numbers = _same("kernel_size", kernel_size), _same("dilation", dilation)
    check_geometry(*numbers)
    return numbers


def _same(name: str, value: Pair) -> int:
    if isinstance(value, int):
        return value
    if len(value) != 2 or value[0] != value[1]:
        raise ValueError(
            f"stylenat.natten has one {name} for both axes, but it is {tuple(value)}; "
            "give one number, or the same twice"
        )
    return value[0]
