"""A method of your own: match the direction of the logits, whatever their scale.

attar methods cosine --import examples/my_method.py --svg cosine.svg
attar distill method=cosine --import examples/my_method.py
"""

import torch.nn.functional as F
from torch import Tensor, nn

import attar
from attar.losses import CrossEntropy


class Cosine(nn.Module):
    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return (1 - F.cosine_similarity(learner.float(), source.float())).mean()


@attar.register("cosine", title="Cosine Distillation", paper="", year=2026, family="offline")
class CosineKD(attar.Offline):
    """The student's logits point where the teacher's point."""

    def __init__(self, teacher: nn.Module, student: nn.Module, *, weight: float = 5.0) -> None:
        super().__init__(teacher, student)
        self.weight = weight

    def transfers(self):
        yield attar.Transfer("labels", "student.logits", CrossEntropy())
        yield attar.Transfer("teacher.logits", "student.logits", Cosine(), weight=self.weight)
