"""OKD: small modules in a frozen teacher learn together with the student."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Frozen, LowRank, Tapped


@register("okd", title="Online Knowledge Distillation", paper="arXiv:2409.12512", year=2024, family="semi-online")
class OKD(Method):
    """Exploring and Enhancing the Transfer of Distribution in KD for Autoregressive Language Models (Rao et al., 2024).

    The teacher is a frozen trunk with small trainable modules, which move its outputs towards the student's while the
    student learns from it. Nothing is sampled from the student.

        student:  L = ce * supervise(student, labels) + kd * imitate(student, teacher)
        modules:  L = teacher_ce * supervise(teacher, labels) + mu * imitate(teacher, student)

    Both are the task's losses, of language models means over the tokens that count, and `task.divergence` chooses the
    divergence of both. Sources are detached: the student gets no gradient from the second line, the modules none from
    the first, the trunk none at all. One optimiser step a batch moves both. The trunk is in eval mode.

    RECONSTRUCTED: only the abstract was available, which gives the idea of small online modules that are trained with
    the student. The modules (LoRA of attention projections, zero at first), both equations, and every number are ours.

    Args:
        teacher: a trained network with linear layers or convolutions.
        student: the network to train.
        temperature: T of both divergences (1).
        ce: weight of the labels in the student's loss (0.5).
        kd: weight of the teacher in it (0.5).
        teacher_ce: weight of the labels in the modules' loss (1).
        mu: weight of the student in it (0.1).
        rank: inner width of the modules (8).
        alpha: the modules' outputs are scaled by alpha / rank (16).
        targets: patterns of the teacher's layers that get a module (["*.c_attn"]). None: the attention projections, and
            where there are none every linear layer and convolution without groups or dilation.

    Raises:
        AttarError: peft is not installed, or the teacher has no such layer.

    >>> from attar.models import create_model
    >>> method = OKD(create_model("resnet14"), create_model("resnet8"), rank=2, targets=["fc"])
    >>> sum(parameter.numel() for parameter in method.online.parameters())  # 2 * (64 + 100)
    328
    """

    one_teacher = "adds modules to it"

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 1.0,
        ce: float = 0.5,
        kd: float = 0.5,
        teacher_ce: float = 1.0,
        mu: float = 0.1,
        rank: int = 8,
        alpha: float = 16.0,
        targets: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.temperature, self.ce, self.kd, self.teacher_ce, self.mu = temperature, ce, kd, teacher_ce, mu
        self.teacher, self.student = Frozen(teacher), Tapped(student)
        self.online = LowRank(self.teacher.module, rank, alpha, targets)

    def run(self, batch: Batch) -> Knowledge:
        taught = self.online(batch.inputs, self.teacher.requested)
        return Knowledge(batch, teacher=taught, student=self.student(batch.inputs))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)
        yield self.label_edge("teacher", weight=self.teacher_ce)
        yield self.output_edge("student", "teacher", self.temperature, self.mu)

    def deployed(self) -> nn.Module:
        return self.student.module

    def also_deployed(self) -> dict[str, nn.Module]:
        """The teacher with its modules merged into its weights."""
        return {"online teacher": self.online.merged()}
