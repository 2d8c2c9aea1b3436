"""Compile the attention kernels for GPUs that need not be here; print the shared memory they take.

Run as ``TRITON_INTERPRET=0 python -m tests.compile_attention``.
"""

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from stylenat.models.attention import triton_kernels, triton_ops

KERNELS = (
    triton_kernels.forward,
    triton_kernels.backward_queries,
    triton_kernels.backward_keys,
    triton_kernels.backward_bias,
)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
STATISTICS = {"bias", "lse", "delta", "partial"}
MAPS = {"q", "k", "v", "out", "grad", "dq", "dk", "dv"}
# Compute capability: bytes of shared memory that one program can have.
CAPABILITIES = {80: 163 << 10, 90: 227 << 10}


def build(kernel, capability: int, dtype: torch.dtype, head_dim: int):
    """The compiled kernel for q, k and v that are views of a linear layer's output."""
    q = torch.empty(1, 8, 8, 3, 4, head_dim, dtype=dtype, device="meta")[:, :, :, 0]
    q = q.permute(0, 3, 1, 2, 4)
    options = triton_ops._options(q, kernel.__name__, capability // 10)
    options |= {"BIASED": True, "OFFSETS": 64}
    launch = {key: options.pop(key) for key in ("num_warps", "num_stages", "maxnreg")}
    constants = {key: value for key, value in options.items() if key in kernel.arg_names}
    signature, attributes = {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in MAPS:
            signature[name] = f"*{NAMES[dtype]}"
        elif name in STATISTICS:
            signature[name] = "*fp32"
        else:
            signature[name] = {"groups": "*i32", "scale": "fp32"}.get(name, "i32")
        if signature[name].startswith("*"):
            attributes[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch)


if __name__ == "__main__":
    for capability, dtype, head_dim in ((90, torch.bfloat16, 32), (80, torch.float32, 16)):
        for kernel in KERNELS:
            compiled = build(kernel, capability, dtype, head_dim)
            assert compiled.asm["cubin"]
            shared = compiled.metadata.shared
            assert shared <= CAPABILITIES[capability], f"{kernel.__name__}: {shared} bytes"
            print(f"sm_{capability} {dtype} {head_dim} {kernel.__name__}: {shared} bytes")
