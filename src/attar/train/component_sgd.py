"""SGD with a momentum buffer for each component of the gradient: DOT and DeepKD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from attar.errors import AttarError


class ComponentSGD(Optimizer):
    """SGD whose gradient is kept in components, each with a momentum of its own.

    For each component c with momentum m_c: v_c = m_c v_c + g_c, and the parameter moves by -lr * sum of v_c, with
    Nesterov's momentum by -lr * sum of (g_c + m_c v_c). Weight decay belongs to the gradient of the task, or of the one
    component that reaches a parameter; such a parameter has the plain momentum. With equal momenta this is
    `torch.optim.SGD`.

    `backward` fills the components' gradients, one backward pass for each, and `grad` of the parameters with their sum.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        momenta: momentum by component ("task", "target", "distillation"); "*" for all others.
        momentum: of a parameter that one component alone reaches.
        weight_decay: L2 penalty.
        nesterov: Nesterov's momentum.

    Raises:
        AttarError: a momentum is outside [0, 1).

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> learner = ComponentSGD([weight], lr=1.0, momenta={"task": 0.0, "*": 0.5})
    >>> for _ in range(2):
    ...     learner.backward({"task": weight.sum(), "distillation": 2 * weight.sum()})
    ...     learner.step()
    ...     learner.zero_grad()
    >>> weight.item()  # -(1 + 2) - (1 + 2 + 0.5 * 2)
    -7.0
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momenta: Mapping[str, float],
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        for name, given in momenta.items():
            if not 0 <= given < 1:
                raise AttarError(f"the momentum of {name!r} is {given:g}; optim.momentum +- optim.delta: in [0, 1)")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "nesterov": nesterov})
        self.momenta, self.momentum = dict(momenta), momentum
        self.gradients: dict[str, dict[nn.Parameter, Tensor]] = {}

    def momentum_of(self, component: str) -> float:
        """The momentum of a component."""
        return self.momenta.get(component, self.momenta["*"])

    def backward(self, components: Mapping[str, Tensor]) -> None:
        """Add the gradients of losses by component; those of accumulated batches add up."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        left = len(components)
        for name, loss in components.items():
            left -= 1
            found = torch.autograd.grad(loss, parameters, retain_graph=left > 0, allow_unused=True)
            held = self.gradients.setdefault(name, {})
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is None:
                    continue
                held[parameter] = held[parameter] + gradient if parameter in held else gradient
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient

    def scale(self, factor: Tensor) -> None:
        """Multiply every gradient, as clipping does."""
        for held in self.gradients.values():
            for parameter in held:
                held[parameter] = held[parameter] * factor

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all components and their sum."""
        self.gradients = {}
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        # A component without a gradient goes on with what it has gathered.
        reach = [name for name, held in self.gradients.items() if parameter in held]
        names = list(dict.fromkeys([*state, *reach]))
        decayed = "task" if "task" in names else names[0]
        decay = group["weight_decay"] * parameter if group["weight_decay"] else None
        for name in names:
            gradient = self.gradients.get(name, {}).get(parameter)
            if name == decayed and decay is not None:
                gradient = decay if gradient is None else gradient + decay
            momentum = self.momentum if len(names) == 1 else self.momentum_of(name)
            if name in state:
                state[name].mul_(momentum)
            else:
                state[name] = torch.zeros_like(parameter)
            if gradient is not None:
                state[name].add_(gradient)
            if not group["nesterov"]:
                parameter.sub_(group["lr"] * state[name])
                continue
            ahead = momentum * state[name]
            parameter.sub_(group["lr"] * (ahead if gradient is None else gradient + ahead))
