"""TAKD: a chain of assistants between a large teacher and a small student."""

from __future__ import annotations

from torch import nn

from attar.methods.kd import KD
from attar.methods.registry import register


@register(
    "takd",
    title="Improved Knowledge Distillation via Teacher Assistant",
    paper="arXiv:1902.03393",
    year=2020,
    family="offline",
)
class TAKD(KD):
    """Improved Knowledge Distillation via Teacher Assistant (Mirzadeh et al., AAAI 2020), one link of the chain.

    L = (1 - kd) * CE + kd * T^2 KL(p_t || p_s). The teacher distils an assistant, which is the teacher of the next
    run: give the run's folder as its teacher. The published search has kd in 0.05 to 1 and T in 1 to 20; the best
    assistant is near the mean accuracy of teacher and student.

    Deviates: the released code averages KL over classes too, which makes it smaller by the number of classes.

    Args:
        teacher: a trained network, the assistant in the last link.
        student: the network to train.
        temperature: T (5, in the middle of the published search).
        kd: weight of the teacher (0.5, likewise).
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, temperature: float = 5.0, kd: float = 0.5) -> None:
        super().__init__(teacher, student, temperature=temperature, ce=1 - kd, kd=kd)
