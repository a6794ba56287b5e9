"""Distances between embeddings of single labels: L2D's structure of each label and of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import label_mask, reduced
from attar.losses.loss import Loss
from attar.losses.numerics import widen
from attar.losses.parts import parts_of, recomputed


def class_structure(student: Tensor, teacher: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """How the images of a label lie to each other, of every label (CD of L2D, Yang et al., ICCV 2023).

    Over the images that have label k, the distances of e[i, k], each over their mean positive one, are compared by
    smooth L1, summed over the pairs and divided by the number of these images. A label of fewer than three images
    gives 0.

    Args:
        student: (B, K, D_s), an embedding for each image and label.
        teacher: (B, K, D_t); the widths may differ.
        labels: (B, K), bool, or (B,) class numbers.
        reduction: over the labels: "mean", "sum" (published) or "none" (K,).

    Deviates: the released code drops rows that are all zero, which can pair other images of teacher and student.

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0], [0, 2, 1], [0, 0, 1]])
    >>> student = torch.stack([v_s, 2 * v_s.flip(0), v_s + 1])
    >>> teacher = torch.stack([v_t, v_t + 1, v_t.flip(0) / 2 + 0.1])
    >>> labels = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    >>> round(class_structure(student, teacher, labels, "sum").item(), 4)
    0.3308
    """
    present = checked_labels(student, teacher, labels)
    return reduced(_gaps(student.transpose(0, 1), teacher.transpose(0, 1), present.T), reduction)


def instance_structure(student: Tensor, teacher: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """How the labels of an image lie to each other, of every image (ID of L2D); as `class_structure` over its labels.

    Args:
        student: (B, K, D_s), an embedding for each image and label.
        teacher: (B, K, D_t); the widths may differ.
        labels: (B, K), bool, or (B,) class numbers.
        reduction: over the images: "mean", "sum" (published) or "none" (B,).

    >>> v_s = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]])
    >>> v_t = torch.tensor([[1.0, 1, 0], [0, 2, 1], [0, 0, 1]])
    >>> labels = torch.tensor([[1, 1, 1], [0, 1, 1]]).bool()
    >>> own, theirs = torch.stack([v_s, 2 * v_s]), torch.stack([v_t, v_t + 1])
    >>> round(instance_structure(own, theirs, labels, "sum").item(), 4)
    0.0201
    """
    return reduced(_gaps(student, teacher, checked_labels(student, teacher, labels)), reduction)


def checked_labels(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """(B, K), true where an image has a label.

    Raises:
        AttarError: the embeddings or the labels are of other images or labels.
    """
    present = labels if labels.dtype == torch.bool else label_mask(student[..., 0], labels)
    for name, found in (("student", student), ("teacher", teacher)):
        if found.shape[:-1] != present.shape:
            raise AttarError(
                f"the {name}'s embeddings have shape {tuple(found.shape)}, the labels {tuple(labels.shape)}; give an "
                "embedding (B, K, D) for every image and label"
            )
    return present


def _gaps(own: Tensor, theirs: Tensor, present: Tensor) -> Tensor:
    """(G,): of G groups of N points each (G, N, D), those that are present (G, N) compared, some groups at a time."""
    parts = parts_of(len(own), own.shape[1] ** 2)
    if len(parts) == 1:
        return _gaps_of_groups(own, theirs, present)
    return torch.cat([recomputed(_gaps_of_groups, own[part], theirs[part], present[part]) for part in parts])


def _gaps_of_groups(own: Tensor, theirs: Tensor, present: Tensor) -> Tensor:
    """(G,): as `_gaps`, all groups at once."""
    pairs = present[:, :, None] & present[:, None, :]
    gaps = F.smooth_l1_loss(_relative(widen(own), pairs), _relative(widen(theirs), pairs), reduction="none")
    return gaps.sum((1, 2)) / present.sum(1).clamp(min=1)


def _relative(points: Tensor, pairs: Tensor) -> Tensor:
    """(G, N, N) distances of the pairs over their mean positive one; 0 elsewhere."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") * pairs
    mean = distances.sum((1, 2)) / (distances > 0).sum((1, 2)).clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1.0)[:, None, None]


@dataclass(eq=False, repr=False)
class ClassStructure(Loss):
    """`class_structure` as a module: loss(student, teacher, labels)."""

    reduction: str = "mean"
    whole_batch: ClassVar[bool] = True  # images are compared with each other

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return class_structure(learner, source, labels, self.reduction)


@dataclass(eq=False, repr=False)
class InstanceStructure(Loss):
    """`instance_structure` as a module: loss(student, teacher, labels)."""

    reduction: str = "mean"

    def forward(self, learner: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        return instance_structure(learner, source, labels, self.reduction)
