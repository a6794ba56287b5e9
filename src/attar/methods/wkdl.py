"""WKD-L: predictions among the other classes as masses to be transported, cheaply between similar classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.losses import TargetClass, WKDLogits
from attar.losses.numerics import gram, product, widen
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import observe
from attar.schedules import CosineDecay

Cost = Literal["cka", "classifier"]
POOLED = "pooled"


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
    classes is 1 - exp(-sharpness * (1 - similarity)).

    Similarity is the linear CKA of the teacher's features of the two classes, the i-th image of one beside the i-th of
    the other, as many as the smallest class has (cost="cka", the paper's), or the cosine of their rows in the teacher's
    classifier (cost="classifier", a choice of the authors' code). CKA is read off training images by `prepare`, which
    runs call; until then, as in a loop of your own that does not, the costs are those of the classifier.

    Deviates: CKA of at most 50,000 images, all of CIFAR-100; on ImageNet the authors compare logits, here features.

    Args:
        teacher: a trained network that ends in a linear classifier.
        student: the network to train.
        temperature: T of the other classes (8, and for WRN-40-2 to ShuffleV1 6; 2 on ImageNet).
        weight: of the transport (600; for WRN-40-2 to ShuffleV1 200, on ImageNet 30 and 25, together with WKD-F 200,
            60, 10 and 25).
        sharpness: of the cost (1; 2 for ResNet-50 to MobileNet).
        ce: weight of the labels (1).
        cost: where similarities come from.
        decay_after: epochs after which the weight falls along half a cosine to 0 in the last one (150 of 240 on
            CIFAR-100; 0 on ImageNet). A training that is no longer has a constant weight.

    Raises:
        AttarError: an unknown cost; and, before the first step, a class with fewer than two training images for CKA.
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
        cost: Cost = "cka",
        decay_after: int = 150,
    ) -> None:
        if cost not in get_args(Cost):
            raise unknown("cost", cost, get_args(Cost))
        super().__init__(teacher, student)
        self.temperature, self.ce, self.sharpness = temperature, ce, sharpness
        self.weight = CosineDecay(decay_after, weight)
        self.prepared_images = 50_000 if cost == "cka" else 0
        rows = F.normalize(widen(self.teacher.classifier.weight.detach()), dim=1)
        self.cost: Tensor
        self.register_buffer("cost", class_costs(gram(rows), sharpness))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        net = self.teacher.module.eval()
        seen = [(observe(net, batch.inputs, [POOLED]).tap(POOLED).cpu(), batch.labels.cpu()) for batch in batches]
        features, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
        self.cost.copy_(class_costs(class_cka(features, labels, len(self.cost)), self.sharpness))

    def run(self, batch: Batch) -> Knowledge:
        return super().run(batch).add("teacher.cost", self.cost)

    def transfers(self) -> Iterable[Transfer]:
        ends = "teacher.logits", "student.logits"
        yield self.label_edge(weight=self.ce)
        yield Transfer(*ends, TargetClass(), given=("labels",), name="target class", component="target")
        given = "labels", "teacher.cost"
        yield Transfer(*ends, WKDLogits(self.temperature), weight=self.weight, given=given, name="other classes")


def class_costs(similarity: Tensor, sharpness: float = 1.0) -> Tensor:
    """(K, K) costs between classes from their similarities, at most 1: 1 - exp(-sharpness (1 - similarity)).

    >>> class_costs(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [0.0, 0.6321205496788025]
    """
    return 1 - (-sharpness * (1 - similarity.clamp(-1.0, 1.0))).exp()


def class_cka(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(K, K) linear CKA between the features (N, D) of classes, each class's first ones in their order.

    Raises:
        AttarError: a class has fewer than two.

    >>> features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    >>> class_cka(features, torch.tensor([0, 0, 0, 1, 1, 1]), 2)[0]
    tensor([1.0000, 0.9885])
    """
    counts = labels.bincount(minlength=classes)
    least = int(counts.argmin())
    if counts[least] < 2:
        raise AttarError(
            f"class {least} has {int(counts[least])} training images of the {len(labels)} that were looked at, and "
            "CKA needs two or more; give method.cost=classifier"
        )
    rows = torch.stack([widen(features[labels == one][: counts[least]]) for one in range(classes)])
    rows = rows - rows.mean(1, keepdim=True)
    # ||X^T Y|| is small for few features, the product of the matrices of images for few images.
    if rows.shape[1] <= rows.shape[2]:
        images = gram(rows).flatten(1)
        found = gram(images)
    else:
        found = torch.stack([product(rows.mT, one).square().sum((1, 2)) for one in rows])
    norms = found.diagonal().sqrt()
    # A class is like itself, though all its features be equal.
    return (found / (norms[:, None] * norms).clamp_min(torch.finfo(found.dtype).tiny)).fill_diagonal_(1.0)
