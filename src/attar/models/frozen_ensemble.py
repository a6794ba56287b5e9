"""Several frozen teachers as one, weighed by what is known of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attar.batch import Batch, Inputs
from attar.errors import AttarError
from attar.knowledge import Output
from attar.models.frozen import Frozen
from attar.models.surgery.ensemble import Ensemble, Weighed, joined


@dataclass(frozen=True)
class TeacherRule:
    """How much each of several teachers counts.

    Attributes:
        text: how it is written.
        shares: shares(batch, outputs) gives (teachers, B) or (teachers, 1), each column of which sums to 1.
        reads_labels: whether the shares follow from the class of each image.
    """

    text: str
    shares: Callable[[Batch, Sequence[Tensor]], Tensor]
    reads_labels: bool = False


class FrozenEnsemble:
    """Frozen teachers that methods call as one `Frozen`: each keeps its own engine and cached logits.

    Args:
        module: the networks.
        rule: their shares.

    Attributes:
        networks: each of them, frozen.
        batch: what the shares are about; the method sets it before it runs.
        shares: of the latest call.
    """

    def __init__(self, module: Ensemble, rule: TeacherRule) -> None:
        self.module, self.rule = module.eval(), rule
        self.networks = [Frozen(net) for net in module.networks]
        self.batch: Batch | None = None
        self.shares: Tensor | None = None
        self._call: Callable[[Inputs, Sequence[str]], Output] = self._run

    def request(self, tap: str) -> None:
        """Ask each network for a tap in every later call."""
        for one in self.networks:
            one.request(tap)

    def leave_graphs(self) -> None:
        """From now on torch.compile does not look inside: the batch changes with every call."""
        self._call = torch.compiler.disable(self._run)

    def __call__(self, images: Inputs, taps: Sequence[str] = ()) -> Output:
        """The networks' outputs as one, weighed for the batch."""
        return self._call(images, taps)

    @torch.no_grad()
    def _run(self, images: Inputs, taps: Sequence[str]) -> Output:
        if self.batch is None:
            raise AttarError("several teachers are weighed by a batch; call method.losses() or method(), not run()")
        outputs = [one(images, taps) for one in self.networks]
        self.shares = self.rule.shares(self.batch, [one.logits for one in outputs])
        return joined(outputs, self.shares)

    def differentiable(self, rows: Tensor) -> nn.Module:
        """The networks as one for gradients with respect to its inputs, these rows of the latest call's, weighed so.

        Raises:
            AttarError: there was no call.
        """
        if self.shares is None:
            raise AttarError("several teachers are weighed by a batch; run them before gradients of their inputs")
        shares = self.shares if self.shares.shape[1] == 1 else self.shares[:, rows]
        return Weighed(self.module.networks, shares)  # type: ignore[arg-type]  # a ModuleList is a sequence
