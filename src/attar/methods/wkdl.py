"""WKD-L: predictions among the other classes as masses to be transported, cheaply between similar classes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Transfer
from attar.losses import TargetClass, WKDLogits
from attar.losses.numerics import gram, widen
from attar.methods.base import Offline
from attar.methods.registry import register


@register(
    "wkdl",
    title="Wasserstein Distance Distillation of Logits",
    paper="arXiv:2412.08139",
    year=2024,
    family="offline",
    needs=("classifier",),
)
class WKDL(Offline):
    """Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation (Lv et al., NeurIPS 2024).

    Its logit form: L = ce * CE - mean p_t,y log p_s,y + weight * W(others), W the entropic transport cost between the
    softened predictions among the classes that are not the label's (`attar.losses.wkd_logits`). The cost between two
    classes is 1 - exp(-sharpness * (1 - similarity)), similarity the cosine of the teacher's classifier weights.

    Deviates: the paper's similarity is the linear CKA of the teacher's features of the two classes over the training
    set, which takes a pass over it beforehand; the classifier's weights are there at once. The weight is constant; the
    paper's decays by a cosine after epoch 150 of 240.

    Args:
        teacher: a trained network that ends in a linear classifier.
        student: the network to train.
        temperature: T of the other classes (8; 2 on ImageNet).
        weight: of the transport (600; 10 for ResNet-34 to ResNet-18 together with WKD-F).
        sharpness: of the cost (1; 2 for ResNet-50 to MobileNet).
        ce: weight of the labels (1).
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 8.0,
        weight: float = 600.0,
        sharpness: float = 1.0,
        ce: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.temperature, self.weight, self.ce = temperature, weight, ce
        self.cost: Tensor
        self.register_buffer("cost", class_costs(self.teacher.classifier.weight, sharpness))

    def run(self, batch: Batch) -> Knowledge:
        return super().run(batch).add("teacher.cost", self.cost)

    def transfers(self) -> Iterable[Transfer]:
        ends = "teacher.logits", "student.logits"
        yield self.label_edge(weight=self.ce)
        yield Transfer(*ends, TargetClass(), given=("labels",), name="target class", component="target")
        given = "labels", "teacher.cost"
        yield Transfer(*ends, WKDLogits(self.temperature), weight=self.weight, given=given, name="other classes")


@torch.no_grad()
def class_costs(weights: Tensor, sharpness: float = 1.0) -> Tensor:
    """(K, K) costs between classes from one vector a class (K, D): 1 - exp(-sharpness (1 - cosine)).

    >>> class_costs(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [0.0, 0.0, 0.6321205496788025]
    """
    similarity = gram(F.normalize(widen(weights), dim=1)).clamp(-1.0, 1.0)
    return 1 - (-sharpness * (1 - similarity)).exp()
