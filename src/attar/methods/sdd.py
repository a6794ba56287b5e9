"""SDD: logits of the parts of an image as well as of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import ScaleDecoupled, cell_logits
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import classifier_of
from attar.schedules import LinearWarmup


@register(
    "sdd",
    title="Scale Decoupled Distillation",
    paper="arXiv:2403.13512",
    year=2024,
    family="offline",
    needs=("stages", "classifier"),
)
class SDD(Offline):
    """Scale Decoupled Distillation (Wei et al., CVPR 2024), its DKD form (SD-DKD).

    L = ce * CE + weight * the mean of DKD over cells: the final map averaged over s x s cells for each scale s and
    passed through the network's own classifier, bias included. A cell of which the teacher is right where it is wrong
    about the whole image, or the other way round, counts twice (`attar.losses.scale_decoupled`).

    The map of logits is made first and averaged then, which is the same for a linear classifier; nothing is added to
    the networks. Alpha, temperature and warm-up of the code are the same for all pairs.

    Args:
        teacher: a trained staged network with a linear classifier.
        student: the staged network to train.
        scales: s, cells on a side; the first must be 1, the whole image (1, 2, 4; the code's log has 1, 2 for vgg13 to
            vgg8).
        alpha: of the label's own class (1).
        beta: of the other classes (8; the code has 2 for resnet56 to resnet20 and resnet110 to resnet32, and 6 for
            vgg13, wrn_40_2 to wide ResNets and to MobileNetV2).
        temperature: T (4).
        weight: of the cells (1).
        ce: weight of the labels (1).
        warmup: epochs until the weight is full (20).

    Raises:
        AttarError: the first scale is not 1.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        scales: Sequence[int] = (1, 2, 4),
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        weight: float = 1.0,
        ce: float = 1.0,
        warmup: int = 20,
    ) -> None:
        require_staged(self.name, "teacher", teacher)
        require_staged(self.name, "student", student)
        super().__init__(teacher, student)
        if not scales or scales[0] != 1 or min(scales) < 1:
            raise AttarError(f"scales are {list(scales)}; give cells on a side, 1 (the whole image) first: [1, 2, 4]")
        self.scales, self.weight, self.ce, self.warmup = tuple(scales), weight, ce, warmup
        self.loss = ScaleDecoupled(alpha, beta, temperature)
        for network in (self.teacher, self.student):
            network.request("final")

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, network in (("teacher", self.teacher.module), ("student", self.student.module)):
            final, classifier = known[f"{name}.final"], classifier_of(network)
            assert isinstance(final, Tensor)
            logits = F.conv2d(final, classifier.weight[:, :, None, None], classifier.bias)
            known.add(f"{name}.cells", cell_logits(logits, self.scales))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        weight = LinearWarmup(self.warmup, self.weight)
        yield Transfer("teacher.cells", "student.cells", self.loss, weight=weight, given=("labels",))
