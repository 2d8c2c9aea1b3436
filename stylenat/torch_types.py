"""Parts of PyTorch that have no types of their own, with types. Nothing but names at run time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

StateDict = dict[str, Any]  # of an optimiser, or what another program saved

if TYPE_CHECKING:
    F = TypeVar("F", bound=Callable[..., Any])

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any, **kwargs: Any) -> Any: ...
        @staticmethod
        def backward(*args: Any, **kwargs: Any) -> Any: ...
        @classmethod
        def apply(cls, *args: Any) -> Tensor:
            """Of one output; a tuple of several can be unpacked just as well."""

    def not_compiled(function: F) -> F: ...
    def constant_result(function: F) -> F: ...
else:
    Function = torch.autograd.Function
    not_compiled = torch.compiler.disable
    constant_result = torch.compiler.assume_constant_result
