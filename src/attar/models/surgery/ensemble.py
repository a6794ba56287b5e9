"""Several networks as one: their outputs weighed, their pooled features side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError
from attar.knowledge import Output, logits_of


class Ensemble(nn.Module):
    """Networks whose outputs are averaged.

    The mean of logits is, at every temperature, the normalised geometric mean of the networks' distributions.

    Args:
        networks: two or more, with outputs of one shape.

    >>> net = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> net(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        if shape := getattr(networks[0], "input_shape", None):
            self.input_shape = shape

    def forward(self, inputs: Inputs) -> Tensor:
        called = [net(**inputs) if isinstance(inputs, dict) else net(inputs) for net in self.networks]
        return joined([Output(logits_of(one)) for one in called]).logits


class Weighed(nn.Module):
    """Networks whose outputs are added with the shares that an earlier pass gave them.

    Args:
        networks: with outputs of one shape.
        shares: (networks, B) or (networks, 1); an input of a multiple of B rows has them again and again.

    >>> net = Weighed([nn.Identity(), nn.Identity()], torch.tensor([[0.25, 1.0], [0.5, 1.0]]))
    >>> net(torch.ones(4, 1)).flatten().tolist()
    [0.75, 2.0, 0.75, 2.0]
    """

    def __init__(self, networks: Sequence[nn.Module], shares: Tensor) -> None:
        super().__init__()
        self.networks, self.shares = nn.ModuleList(networks), shares

    def forward(self, inputs: Tensor) -> Tensor:
        shares = self.shares.repeat(1, len(inputs) // self.shares.shape[1])
        return joined([Output(logits_of(net(inputs))) for net in self.networks], shares).logits


def joined(outputs: Sequence[Output], shares: Tensor | None = None) -> Output:
    """The output of several networks as one.

    Logits are added with their shares. "pooled" features stand side by side, (B, D1 + D2 + ...), each times its share
    and the number of networks, so that equal shares leave them as they are.

    Args:
        outputs: of each network.
        shares: (networks, B) or (networks, 1), each column sums to 1; None: equal.

    Raises:
        AttarError: outputs of several shapes, or a tap other than "pooled".

    >>> one, other = (Output(torch.full((1, 2), value), {"pooled": torch.ones(1, 3)}) for value in (1.0, 3.0))
    >>> both = joined([one, other], torch.tensor([[0.25], [0.75]]))
    >>> both.logits.tolist(), both.tap("pooled").tolist()
    ([[2.5, 2.5]], [[0.5, 0.5, 0.5, 1.5, 1.5, 1.5]])
    """
    shapes = [tuple(one.logits.shape[1:]) for one in outputs]
    if len(set(shapes)) > 1:
        raise AttarError(f"teachers put out {' and '.join(map(str, shapes))}; give teachers of the same classes")
    others = [tap for tap in outputs[0].taps if tap != "pooled"]
    if others:
        raise AttarError(f"several teachers have no common {others[0]!r}, only logits and 'pooled'; give one teacher")
    count = len(outputs)
    weights = list(shares) if shares is not None else [outputs[0].logits.new_full((1,), 1 / count)] * count
    logits = sum(_times(one.logits, share) for one, share in zip(outputs, weights, strict=True))
    assert isinstance(logits, Tensor)
    if "pooled" not in outputs[0].taps:
        return Output(logits)
    parts = [_times(one.tap("pooled"), count * share) for one, share in zip(outputs, weights, strict=True)]
    return Output(logits, {"pooled": torch.cat(parts, 1)})


def _times(rows: Tensor, share: Tensor) -> Tensor:
    """Each row times its share, in the rows' own type."""
    return rows * share.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))
