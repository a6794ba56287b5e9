"""DML: untrained peers that teach each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Tapped, create_model, fresh_copy


@register("dml", title="Deep Mutual Learning", paper="arXiv:1706.00384", year=2017, family="online")
class DML(Method):
    """Deep Mutual Learning (Zhang et al., CVPR 2018).

    L = sum over networks k of CE_k + kl / (N - 1) * sum over l != k of KL(p_l || p_k), the other's prediction
    detached. The student is "student", the others "peer1", "peer2", ...
    Deviates: all networks step together from one forward pass (the authors' port); the paper updates them in turn.

    Args:
        student: the network to deploy.
        peers: how many further networks of the same kind (1 makes the pair of the paper), or the networks
            themselves, or the names of networks in the zoo.
        temperature: T (1 in the paper).
        kl: weight of what the peers teach (1).
        peer_reduction: "mean" divides by the number of peers, "sum" does not (the authors' TensorFlow code).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        peers: int | Sequence[nn.Module | str] = 1,
        temperature: float = 1.0,
        kl: float = 1.0,
        peer_reduction: str = "mean",
    ) -> None:
        super().__init__()
        if peer_reduction not in ("mean", "sum"):
            raise AttarError(f"dml: peer_reduction is 'mean' or 'sum', not {peer_reduction!r}")
        others = [fresh_copy(student) for _ in range(peers)] if isinstance(peers, int) else list(peers)
        if not others:
            raise AttarError("dml: one network has no peer to learn from; give method.peers=1 or more")
        self.temperature = temperature
        self.weight = kl / (len(others) if peer_reduction == "mean" else 1)
        self.student = Tapped(student)
        self.names = ["student", *(f"peer{number}" for number in range(1, len(others) + 1))]
        for name, net in zip(self.names[1:], others, strict=True):
            self.add_module(name, Tapped(named_network(self.name, student, net)))

    def run(self, batch: Batch) -> Knowledge:
        return Knowledge(batch, **{name: getattr(self, name)(batch.inputs) for name in self.names})

    def transfers(self) -> Iterable[Transfer]:
        for learner in self.names:
            yield self.label_edge(learner)
            for peer in self.names:
                if peer != learner:
                    yield self.output_edge(peer, learner, self.temperature, self.weight)

    def deployed(self) -> nn.Module:
        return self.student.module

    def also_deployed(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name).module for name in self.names[1:]}


def named_network(method: str, student: nn.Module, peer: nn.Module | str) -> nn.Module:
    """A network, or one of the zoo by name for the student's images and classes.

    Raises:
        AttarError: a name, beside a student that is not of the zoo.
    """
    if isinstance(peer, nn.Module):
        return peer
    spec = getattr(student, "spec", None)
    if spec is None:
        raise AttarError(
            f"{method}: peer {peer!r} is a name, but the student is not of the zoo; give the network itself"
        )
    return create_model(peer, **{key: spec[key] for key in ("num_classes", "in_channels", "image_size")})
