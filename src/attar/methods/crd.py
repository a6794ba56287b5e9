"""CRD: an image looks the same to teacher and student, and unlike the images of every other class."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import Contrast
from attar.losses.checks import check_positive
from attar.losses.contrast import log_mean_score
from attar.losses.numerics import widen
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "crd",
    title="Contrastive Representation Distillation",
    paper="arXiv:1910.10699",
    year=2019,
    family="offline",
    needs=("pooled",),
)
class CRD(Offline):
    """Contrastive Representation Distillation (Tian, Krishnan, Isola, ICLR 2020).

    Both networks' pooled features pass a linear layer of their own to `width` numbers and are scaled to length 1. Each
    side is contrasted (`attar.losses.contrast`) with what is remembered of the other: the image's own embedding against
    those of other classes. L = ce * CE + weight * (student against teacher + teacher against student); the latter
    trains the teacher's linear layer only. Remembered embeddings move by a running mean, over every training image,
    so `setup` must be called before training, which a run does by itself.

    Deviates: see `contrast` on the images of other classes; Z is the mean over all images of the first batch's scores,
    where the authors' code takes that of the drawn ones.

    Args:
        teacher: a trained network.
        student: the network to train.
        weight: of each direction (0.8).
        ce: weight of the labels (1).
        width: of the embeddings (128).
        negatives: K, how many images of other classes count against one (16384).
        temperature: T (0.07).
        momentum: how much of a remembered embedding stays (0.5).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: in its first pass: `setup` was not called, a batch has no index, or it holds
            images without labels.

    >>> from attar.models import create_model
    >>> method = CRD(create_model("resnet14"), create_model("resnet8"))
    >>> method.setup(torch.arange(500) % 100)
    >>> method.of_teacher.vectors.shape
    torch.Size([500, 128])
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 0.8,
        ce: float = 1.0,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        check_positive("width", width)
        check_positive("negatives", negatives)
        super().__init__(teacher, student)
        self.weight, self.ce = weight, ce
        for tapped in (self.teacher, self.student):
            tapped.request("pooled")
        shapes = [tap_shapes(net, ["pooled"], image_shape)["pooled"] for net in (teacher, student)]
        self.teacher_embedding, self.student_embedding = (nn.Linear(shape[0], width) for shape in shapes)
        self.of_teacher = Memory(Contrast(temperature, negatives), width, momentum)
        self.of_student = Memory(Contrast(temperature, negatives), width, momentum)

    def setup(self, labels: Tensor) -> None:
        for memory in (self.of_teacher, self.of_student):
            memory.fill(labels)

    def run(self, batch: Batch) -> Knowledge:
        if batch.index is None:
            raise AttarError(
                f"{self.name} remembers every image; give losses(..., index=) their numbers in the training set"
            )
        if batch.labelled is not None:
            raise AttarError(f"{self.name} remembers the labelled images only; leave data.unlabelled out")
        known = super().run(batch).add("index", batch.index)
        own = known["student.pooled"]
        assert isinstance(own, Tensor)
        known.add("teacher.embedding", F.normalize(widen(self.teacher_embedding(self.contrasted(known))), dim=1))
        return known.add("student.embedding", F.normalize(widen(self.student_embedding(own)), dim=1))

    def contrasted(self, known: Knowledge) -> Tensor:
        """The teacher's feature (B, D) that the student is contrasted with."""
        pooled = known["teacher.pooled"]
        assert isinstance(pooled, Tensor)
        return pooled

    def transfers(self) -> Iterable[Transfer]:
        teacher, student = "teacher.embedding", "student.embedding"
        yield self.label_edge(weight=self.ce)
        yield Transfer(teacher, student, self.of_teacher, weight=self.weight, given=("index",))
        yield Transfer(student, teacher, self.of_student, weight=self.weight, given=("index",))


def ask_again(module: nn.Module, _: object) -> None:
    """A memory whose state was loaded looks anew whether it has begun."""
    assert isinstance(module, Memory)
    module._begun = False


class Memory(nn.Module):
    """Contrasts a learner with the stored embeddings of its source, then stores the source's current ones.

    Args:
        contrast: the loss.
        width: of the embeddings.
        momentum: how much of a remembered embedding stays.
    """

    whole_batch = True  # processes remember the same

    def __init__(self, contrast: Contrast, width: int, momentum: float) -> None:
        super().__init__()
        self.contrast, self.momentum = contrast, momentum
        self.vectors: Tensor
        self.register_buffer("vectors", torch.zeros(0, width))
        self.classes: Tensor
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.log_normaliser: Tensor
        self.register_buffer("log_normaliser", torch.tensor(0.0))
        self.begun: Tensor  # whether a batch has set the normaliser
        self.register_buffer("begun", torch.tensor(False))
        self._begun = False
        self.register_load_state_dict_post_hook(ask_again)

    def fill(self, labels: Tensor) -> None:
        """Begin anew, with random embeddings of length about 1 as the authors' code does, one for each label."""
        width = self.vectors.shape[1]
        limit = math.sqrt(3 / width)
        self.vectors = torch.empty(len(labels), width).uniform_(-limit, limit).to(self.vectors)
        self.classes = labels.clone().to(self.vectors.device)
        self.begun.fill_(False)
        self._begun = False

    def forward(self, learner: Tensor, source: Tensor, index: Tensor) -> Tensor:
        if not len(self.vectors):
            raise AttarError("crd compares with every training image; call method.setup(labels) with theirs first")
        known = self._normaliser(learner.detach())
        loss = self.contrast(learner, self.vectors, index, self.classes, known)
        if self.training:
            self.log_normaliser.copy_(known)
            self.begun.fill_(True)
            moved = self.momentum * self.vectors[index] + (1 - self.momentum) * source.detach().to(self.vectors)
            self.vectors[index] = F.normalize(moved, dim=1)
        return loss

    def leave_graphs(self) -> None:
        """From now on torch.compile does not look inside, which may read the memory once more after it has changed."""
        self.forward = torch.compiler.disable(self.forward)  # type: ignore[method-assign]

    def _normaliser(self, learner: Tensor) -> Tensor:
        """log Z: the first batch's."""
        if not self._begun:  # asking waits for the device
            self._begun = bool(self.begun.item())
        if self._begun:
            return self.log_normaliser
        return log_mean_score(learner, self.vectors, self.contrast.temperature).to(self.log_normaliser)
