"""KD + peer-to-peer: a teacher and several students learn at the same time, and the students teach each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar.knowledge import Transfer
from attar.methods.dml import DML
from attar.methods.registry import register
from attar.models import fresh_copy


@register(
    "kdp2p",
    title="KD with peer-to-peer mutual learning",
    paper="arXiv:2110.11023",
    year=2021,
    family="online",
)
class KDP2P(DML):
    """Augmenting Knowledge Distillation with Peer-to-Peer Mutual Learning (Niyaz and Bathula, 2021).

    L_student = ce * CE + kd * T^2 KL(p_expert || p_s) + peer * mean over the other students of T^2 KL(p_l || p_s);
    L_expert = CE. All networks learn from scratch at the same time; the expert, a larger one, from the labels alone.

    Reconstructed: the structure is the paper's, its weights and temperature are not known; 1, 1, 1 and 1 are ours.

    Args:
        student: the network to train and deploy.
        expert: the teacher that is trained along, or the name of a network of the zoo; None: one like the student.
        peers: how many more students like it, or networks, or names.
        temperature: T (1).
        ce: weight of the labels (1).
        kd: weight of the expert (1).
        peer: weight of the other students (1).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        expert: nn.Module | str | None = None,
        peers: int | Sequence[nn.Module | str] = 1,
        temperature: float = 1.0,
        ce: float = 1.0,
        kd: float = 1.0,
        peer: float = 1.0,
    ) -> None:
        first: list[nn.Module | str] = [fresh_copy(student) if expert is None else expert]
        others = [fresh_copy(student) for _ in range(peers)] if isinstance(peers, int) else list(peers)
        # The networks of DML in order: the student, the expert, the other students.
        super().__init__(student, peers=[*first, *others], temperature=temperature)
        self.ce, self.kd, self.peer = ce, kd, peer

    def transfers(self) -> Iterable[Transfer]:
        student, expert, *others = self.names
        learners = [student, *others]
        yield self.label_edge(expert)
        for learner in learners:
            yield self.label_edge(learner, self.ce)
            yield self.output_edge(expert, learner, self.temperature, self.kd)
            for other in learners:
                if other != learner:
                    weight = self.peer / (len(learners) - 1)
                    yield self.output_edge(other, learner, self.temperature, weight)
