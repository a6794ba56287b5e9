"""CAT-KD: the class activation maps of the teacher, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Transfer
from attar.losses import ClassActivation
from attar.losses.checks import check_positive
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import classifier_of


@register(
    "catkd",
    title="Class Attention Transfer Based Knowledge Distillation",
    paper="arXiv:2304.12777",
    year=2023,
    family="offline",
    needs=("stages", "classifier"),
)
class CATKD(Offline):
    """Class Attention Transfer Based Knowledge Distillation (Guo et al., CVPR 2023).

    L = ce * CE + weight * mean squared error of the class activation maps, the classifier applied at every place of
    the final map, pooled to cells x cells.

    Deviates: the paper moves the classifier before the pooling as a 1x1 convolution; with a linear classifier after
    average pooling the logits are the same, so the networks stay as they are.

    Args:
        teacher: a trained staged network with a linear classifier.
        student: the staged network to train.
        weight: of the maps (0.7 for resnet56 to resnet20; 15 for resnet32x4, 12 and 1.5 for wrn, 4.5 for vgg).
        cells: side of the pooled maps (2; 4 for ShuffleNets).
        normalise: scale each map to length 1 over space; published for networks of different families.
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 0.7,
        cells: int = 2,
        normalise: bool = False,
        ce: float = 1.0,
    ) -> None:
        require_staged(self.name, "teacher", teacher)
        require_staged(self.name, "student", student)
        check_positive("cells", cells)
        super().__init__(teacher, student)
        self.weight, self.cells, self.normalise, self.ce = weight, cells, normalise, ce
        for network in (self.teacher, self.student):
            network.request("final")

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        for name, network in (("teacher", self.teacher.module), ("student", self.student.module)):
            final = known[f"{name}.final"]
            assert isinstance(final, Tensor)
            if final.ndim != 4:
                raise PairError(
                    f"catkd: the {name}'s last stage gives {tuple(final.shape)}, expected a map (B, C, H, W); choose a "
                    "method of logits or vectors (kd, rkd)"
                )
            weight = classifier_of(network).weight
            known.add(f"{name}.activation", F.conv2d(final, weight[:, :, None, None]))
        return known

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        loss = ClassActivation(self.cells, self.normalise)
        yield Transfer("teacher.activation", "student.activation", loss, weight=self.weight)
