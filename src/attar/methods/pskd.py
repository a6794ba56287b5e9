"""PS-KD: a network learns from its own predictions of an epoch ago."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses.numerics import widen
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import Tapped, class_count
from attar.schedules import Linear


@register(
    "pskd",
    title="Self-Knowledge Distillation with Progressive Refinement of Targets",
    paper="arXiv:2006.12000",
    year=2020,
    family="self",
)
class PSKD(Method):
    """Self-Knowledge Distillation with Progressive Refinement of Targets (Kim et al., ICCV 2021).

    L = (1 - a) * CE(labels) + a * CE(the image's own prediction of an epoch ago), which is CE with the mixed target;
    a = trust * (epoch + 1) / epochs. In the first epoch the past prediction is the label. One prediction of each
    training image is kept with the method's state (images x classes numbers in float32: 20 MB for CIFAR-100, 5 GB for
    ImageNet, on the student's device), so a resumed run goes on with it.

    Args:
        student: the network to train.
        trust: a in the last epoch (0.8).
        image_shape: (C, H, W) of one image; by default the student's own.

    Raises:
        AttarError: `setup` was not called, images have no label or are mixed, or a batch has no `index`.

    >>> import attar
    >>> method = attar.create_method("pskd", student=attar.create_model("resnet8", num_classes=10))
    >>> method.setup(torch.arange(50) % 10)
    >>> method.past.predictions.shape
    torch.Size([50, 10])
    """

    def __init__(
        self, student: nn.Module, *, trust: float = 0.8, image_shape: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__()
        self.trust = trust
        self.past = PastPredictions(class_count(student, image_shape))
        self.student = Tapped(student)

    def setup(self, labels: Tensor) -> None:
        self.past.fill(labels)

    def run(self, batch: Batch) -> Knowledge:
        if batch.index is None:
            raise AttarError("pskd keeps a prediction of every image; give losses(..., index=) their numbers")
        if batch.labelled is not None or batch.labels.is_floating_point():
            raise AttarError("pskd starts from each image's own label; leave data.unlabelled and mixed images out")
        return Knowledge(batch, student=self.student(batch.inputs)).add("past.index", batch.index)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=Linear(1.0, 1.0 - self.trust))
        yield Transfer("past.index", "student.logits", self.past, weight=Linear(0.0, self.trust))

    def deployed(self) -> nn.Module:
        return self.student.module


class PastPredictions(nn.Module):
    """Cross-entropy with each image's last prediction, which the present one then replaces: loss(logits, index).

    In eval mode nothing is replaced.

    Args:
        classes: K.
    """

    whole_batch = True  # processes keep the same predictions

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.predictions: Tensor
        self.register_buffer("predictions", torch.zeros(0, classes))

    def fill(self, labels: Tensor) -> None:
        """Begin with certainty of the labels (N,)."""
        if labels.is_floating_point() or bool((labels < 0).any()):
            raise AttarError("pskd starts from each image's own label, and some have none; leave data.unlabelled out")
        self.predictions = F.one_hot(labels, self.predictions.shape[1]).to(self.predictions)

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        if not len(self.predictions):
            raise AttarError("pskd starts from the labels of all training images; call method.setup(labels) first")
        loss = losses.cross_entropy(learner, self.predictions[source])
        if self.training:
            self.predictions[source] = widen(learner.detach()).softmax(1).to(self.predictions)
        return loss

    def leave_graphs(self) -> None:
        """From now on torch.compile does not look inside, which may read the predictions after they have changed."""
        self.forward = torch.compiler.disable(self.forward)  # type: ignore[method-assign]
