"""NATTEN's layer of neighbourhood attention."""

from torch import Tensor, nn

from stylenat.natten.functional import Causal, Pair, geometry, na2d, na2d_av, na2d_qk


class NeighborhoodAttention2D(nn.Module):
    """Neighbourhood attention between its two linear layers, with the arguments, attributes,
    state-dict keys (``qkv``, ``rpb``, ``proj``) and arithmetic of NATTEN 0.17.5's layer of this name.

    Maps are (batch, height, width, dim), in and out.

    Args:
        dim: channels, a multiple of ``num_heads``.
        kernel_size: odd; with ``dilation``, no longer than either side of a map. Both may be given
            as a pair of equal numbers, and are attributes as such.
        is_causal: must be False.
        rel_pos_bias: whether there is a learned bias ``rpb`` (num_heads, 2 * kernel_size - 1,
            2 * kernel_size - 1); before NATTEN 0.17 this was called ``bias``.
        qk_scale: of query·key; (dim / num_heads) ** -0.5 where None or 0.
        attn_drop: rate of dropout on the attention weights. While it is at work, in training and
            above 0, these are computed and kept, kernel_size² numbers for every query.
        proj_drop: rate of dropout on the output.

    Raises:
        ValueError: an argument that this does not support, or a map that is too small.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: Pair,
        dilation: Pair | None = 1,
        is_causal: Causal = False,
        rel_pos_bias: bool = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"dim {dim} is no multiple of num_heads {num_heads}; change one of them"
            )
        kernel_size, dilation = geometry(kernel_size, dilation, is_causal)
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = qk_scale or self.head_dim**-0.5
        self.kernel_size = (kernel_size, kernel_size)
        self.dilation = (dilation, dilation)
        self.is_causal = (False, False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.register_parameter("rpb", None)
        if rel_pos_bias:
            table = self.qkv.weight.new_empty(num_heads, 2 * kernel_size - 1, 2 * kernel_size - 1)
            self.rpb = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[-1] != self.qkv.in_features:
            raise ValueError(
                f"a map must be (batch, height, width, {self.qkv.in_features}), "
                f"but is {tuple(x.shape)}"
            )
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(3)
        places = (self.kernel_size, self.dilation)
        if self.training and self.attn_drop.p > 0:
            q, k, v = (part.movedim(-2, 1) for part in (q, k, v))
            weights = na2d_qk(self.scale * q, k, *places, rpb=self.rpb).softmax(-1)
            y = na2d_av(self.attn_drop(weights), v, *places).movedim(1, -2)
        else:
            y = na2d(q, k, v, *places, rpb=self.rpb, scale=self.scale)
        out: Tensor = self.proj_drop(self.proj(y.flatten(3)))
        return out

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, head_dim={self.head_dim}, "
            f"kernel_size={self.kernel_size[0]}, dilation={self.dilation[0]}, "
            f"rel_pos_bias={self.rpb is not None}"
        )
