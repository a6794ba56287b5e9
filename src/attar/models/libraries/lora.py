"""Low-rank modules beside the layers of a frozen network, by the peft library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any, Self

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, PairError, unknown
from attar.extras import quiet
from attar.knowledge import Output
from attar.models.copying import copied
from attar.models.libraries.imports import import_peft
from attar.models.surgery.taps import observe

# What peft calls a network's only set of modules.
ADAPTER = "default"
# Parts of the paths of attention layers.
ATTENTION = ("attn", "attention")


class LowRank(nn.Module):
    """A frozen network with trainable low-rank modules beside its layers (LoRA, Hu et al., arXiv:2106.09685).

    The output of an adapted layer is the layer's own plus up(down(x)) * alpha / rank. `up` starts at zero, so the
    network's outputs are at first its own, to the last bit. Only `down` and `up` are parameters and state of this
    module: the network's tensors are shared with the one given and move with it.

    Args:
        net: the network, frozen and in eval mode. It stays as it is; its tensors must not be replaced later.
        rank: the modules' inner width.
        alpha: of their factor alpha / rank.
        targets: patterns of the layers' paths ("*.c_attn"). None: the attention projections, and where there are none
            every linear layer and convolution. Convolutions with groups or dilation are left out, which peft does not
            adapt.

    Raises:
        AttarError: peft is not installed, a pattern matches no layer, or there is no layer to adapt.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)
    >>> low_rank = LowRank(net, rank=2, alpha=4)
    >>> sum(parameter.numel() for parameter in low_rank.parameters())  # 2 * (4 + 3) + 2 * (3 + 2)
    24
    """

    def __init__(self, net: nn.Module, rank: int, alpha: float, targets: Sequence[str] | None = None) -> None:
        super().__init__()
        if rank < 1:
            raise AttarError(f"rank is {rank}; low-rank modules need 1 or more")
        peft = import_peft()
        names = adapted_layers(net, targets)
        tensors = (*net.parameters(), *net.buffers())
        adapted = copied(net, shared=tensors)
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, names)))
        with quiet():
            peft.inject_adapter_in_model(config, adapted, ADAPTER)
        # In a tuple, which makes it no submodule: the frozen network is neither trained nor saved.
        self._nets = (net, adapted.eval())
        self.layers = nn.ModuleDict({name.replace(".", "/"): nn.ModuleList(_modules(adapted, name)) for name in names})

    def forward(self, inputs: Inputs, taps: Collection[str] = ()) -> Output:
        """The adapted network's output and taps."""
        return observe(self._nets[1], inputs, taps)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """A copy of the network with the modules' products added to its weights."""
        net, adapted = copied(self._nets[0]), self._nets[1]
        for name in self.layers:
            path = name.replace("/", ".")
            layer: Any = net.get_submodule(path)
            change = adapted.get_submodule(path).get_delta_weight(ADAPTER)  # type: ignore[operator]
            # Of its own: another layer may share the old one.
            layer.weight = nn.Parameter(layer.weight + change, layer.weight.requires_grad)
        return net

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._nets[1]._apply(fn)
        return super()._apply(fn, recurse)


def _modules(adapted: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """`down` and `up` of one layer."""
    layer: Any = adapted.get_submodule(name)
    return layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]


def adapted_layers(net: nn.Module, targets: Sequence[str] | None) -> list[str]:
    """The paths of the layers that get low-rank modules; arguments and errors as of `LowRank`.

    >>> adapted_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), ["2"])
    ['2']
    """
    places = Counter(module for _, module in net.named_modules(remove_duplicate=False))
    # A layer with several names would be adapted under one of them alone.
    layers = [name for name, module in net.named_modules() if name and _adaptable(module) and places[module] == 1]
    if not layers:
        raise PairError(
            f"{type(net).__name__} has no linear layer or convolution inside that low-rank modules can adapt"
        )
    if targets is None:
        return [name for name in layers if any(part in name.lower() for part in ATTENTION)] or layers
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise unknown("layer of the teacher", pattern, layers)
    return [name for name in layers if any(fnmatchcase(name, pattern) for pattern in targets)]


def _adaptable(module: nn.Module) -> bool:
    """Whether peft adapts a layer. Subclasses are left out: their owners often use the weight without a call."""
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"
