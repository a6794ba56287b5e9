"""What two maps of one network have in common (FSP), and a map as one normalised factor (FT)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from attar.losses.checks import check_same_batch
from attar.losses.features import same_size
from attar.losses.loss import Loss
from attar.losses.numerics import product


def flow(first: Tensor, second: Tensor) -> Tensor:
    """FSP's matrix between two maps of one network: F_1 F_2^T / (H W) over their channels (Yim et al., CVPR 2017).

    Of two resolutions the larger map is average-pooled first.

    Args:
        first: (B, C_1, H_1, W_1).
        second: (B, C_2, H_2, W_2), the deeper map.

    Returns:
        (B, C_1, C_2).

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> [[round(entry, 5) for entry in row] for row in flow(F_s, F_t)[0].tolist()]
    [[0.06875, 0.10625], [0.16875, 0.23125]]
    """
    check_same_batch(first, second)
    one, other = (feature.flatten(2) for feature in same_size(first, second))
    return product(one, other.mT) / one.shape[2]


def factor_transfer(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """FT: mean |Q_s - Q_t|, Q the normalised map of mean squared channels (arXiv:1802.04977).

    Channels may differ; of two resolutions the larger map is average-pooled first.

    Args:
        student_map: (B, C_s, H_s, W_s), the translator's code.
        teacher_map: (B, C_t, H_t, W_t), the paraphraser's code.

    Deviates: the mean over channels comes before the norm, as the public benchmarks have it (weight 200).

    >>> import torch
    >>> F_s = torch.arange(1.0, 17.0).reshape(2, 2, 2, 2) / 10
    >>> F_t = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2]).reshape(2, 2, 2, 2) / 4
    >>> round(factor_transfer(F_s, F_t).item(), 4)
    0.1675
    """
    student, teacher = (
        F.normalize(feature.square().mean(1).flatten(1)) for feature in same_size(student_map, teacher_map)
    )
    return (student - teacher).abs().mean()


class FactorTransfer(Loss):
    """`factor_transfer` as a module: loss(student_map, teacher_map)."""

    def forward(self, learner: Tensor, source: Tensor) -> Tensor:
        return factor_transfer(learner, source)
