"""Functions of torch computed by functions of ours, whatever module calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class FunctionOverride(TorchFunctionMode):
    """Inside, some functions of torch are computed by others of the same arguments, which may call the replaced ones.

    Args:
        others: by the function of torch that each stands for.

    >>> import torch
    >>> with FunctionOverride({torch.relu: lambda x: torch.relu(x) + 1}):
    ...     torch.nn.ReLU()(torch.tensor([-2.0, 3.0])), torch.relu(torch.tensor([-2.0, 3.0]))
    (tensor([0., 3.]), tensor([1., 4.]))
    """

    def __init__(self, others: dict[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self.others = others

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.others.get(func, func)(*args, **kwargs or {})
