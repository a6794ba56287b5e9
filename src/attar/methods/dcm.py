"""DCM: two networks with heads at every stage, and every head of one teaches every head of the other."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged
from attar.methods.dml import named_network
from attar.methods.registry import register
from attar.models import Branch, Branched, Staged, bifurcate, fresh_copy


@register(
    "dcm",
    title="Dense Cross-layer Mutual-distillation",
    paper="arXiv:2008.07816",
    year=2020,
    family="online",
    needs=("stages", "branches"),
)
class DCM(Method):
    """Knowledge Transfer via Dense Cross-Layer Mutual-Distillation (Yao and Sun, ECCV 2020).

    L = sum over all heads CE + weight * sum over heads a of one network and b of the other of
    T^2 (KL(p_b || p_a) + KL(p_a || p_b)), each target without a gradient. With a head at each of three stages these are
    6 and 18 terms. The heads at earlier stages are deep branches that are dropped afterwards.

    Deviates: a branch has the blocks of the stages it stands for, the last one's at twice the width, for any family;
    the released ones halve the blocks of the first branch's last stage. No small number is added to the targets.

    Args:
        student: the staged network to train and deploy.
        peer: the other network, staged, or the name of one of the zoo; None: one like the student, begun anew.
        temperature: T (1).
        weight: of each pair (1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        peer: nn.Module | str | None = None,
        temperature: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        other = fresh_copy(student) if peer is None else named_network(self.name, student, peer)
        self.temperature, self.weight = temperature, weight
        self.student_net = with_heads(require_staged(self.name, "student", student))
        self.peer_net = with_heads(require_staged(self.name, "peer", other))

    @property
    def heads(self) -> tuple[list[str], list[str]]:
        """The names of the student's heads and of the peer's, the full network first."""
        return ["student", *self.student_net.forks], ["peer", *(f"peer_{name}" for name in self.peer_net.forks)]

    def run(self, batch: Batch) -> Knowledge:
        student, branches = self.student_net(batch.images)
        peer, peer_branches = self.peer_net(batch.images)
        theirs = {f"peer_{name}": output for name, output in peer_branches.items()}
        return Knowledge(batch, student=student, peer=peer, **branches, **theirs)

    def transfers(self) -> Iterable[Transfer]:
        own, theirs = self.heads
        for head in (*own, *theirs):
            yield self.label_edge(head)
        for mine in own:
            for other in theirs:
                yield self.output_edge(other, mine, self.temperature, self.weight)
                yield self.output_edge(mine, other, self.temperature, self.weight)

    def deployed(self) -> nn.Module:
        return self.student_net.trunk

    def also_deployed(self) -> dict[str, nn.Module]:
        return {"peer": self.peer_net.trunk}


def with_heads(net: Staged) -> Branched:
    """A network with a branch at the end of each stage but the last, the one nearest the end twice as wide."""
    last = len(net.stages) - 1
    return bifurcate(net, [Branch(stage, 1.0, 2.0 if stage == last else 1.0) for stage in range(1, last + 1)])
