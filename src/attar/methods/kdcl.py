"""KDCL: untrained peers learn from the best that they know together about each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Transfer
from attar.losses.numerics import widen
from attar.methods.dml import DML
from attar.methods.registry import register

# Steps of the search for "linear": for logits with a deviation of 3, the cross-entropy is within 2e-4 of the smallest.
STEPS = 100


@register(
    "kdcl",
    title="Online Knowledge Distillation via Collaborative Learning",
    paper="CVPR 2020",
    year=2020,
    family="online",
)
class KDCL(DML):
    """Online Knowledge Distillation via Collaborative Learning (Guo et al., CVPR 2020).

    L_k = CE_k + kl * T^2 KL(p_ensemble || p_k) for each network k, the ensemble without a gradient. Its logits are made
    for each image from all networks' logits and its label, by `ensemble`:
    "naive", those of the network with the smallest cross-entropy; "linear", the convex mixture of all networks' logits
    with the smallest cross-entropy; "minlogit", for each class c the smallest z_c - z_label of any network.
    "minlogit" needs no search and bounds the best mixture.

    Deviates: all networks see the same view of an image, where the paper augments for each; its fourth rule, "general",
    from the networks' errors on a validation set, is not here. Temperature and weight are given from memory of the
    paper; whether "naive" chooses for an image or for a batch could not be checked there: here it is the image.

    Args:
        student: the network to deploy.
        peers: how many further networks of the same kind, or the networks themselves, or names of the zoo.
        ensemble: "minlogit", "linear" or "naive".
        temperature: T (2).
        kl: weight of the ensemble (1).

    Raises:
        AttarError: in its first pass: images without labels, or mixed images.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        peers: int | Sequence[nn.Module | str] = 1,
        ensemble: str = "minlogit",
        temperature: float = 2.0,
        kl: float = 1.0,
    ) -> None:
        super().__init__(student, peers=peers, temperature=temperature)
        if ensemble not in ENSEMBLES:
            raise unknown("ensemble of kdcl:", ensemble, ENSEMBLES)
        self.ensemble, self.kl = ensemble, kl

    def run(self, batch: Batch) -> Knowledge:
        if batch.labelled is not None or batch.labels.is_floating_point():
            raise AttarError("kdcl needs each image's one class; leave data.unlabelled and mixed images out")
        known = super().run(batch)
        with torch.no_grad():
            logits = [widen(value) for name in self.names if isinstance(value := known[f"{name}.logits"], Tensor)]
            return known.add("ensemble.logits", ENSEMBLES[self.ensemble](torch.stack(logits), batch.labels))

    def transfers(self) -> Iterable[Transfer]:
        for learner in self.names:
            yield self.label_edge(learner)
            yield self.output_edge("ensemble", learner, self.temperature, self.kl)


def relative(logits: Tensor, labels: Tensor) -> Tensor:
    """z - z_label of (N, B, K) logits: the same predictions, and the cross-entropy is the logsumexp."""
    return logits - logits.gather(2, labels[None, :, None].expand(len(logits), -1, 1))


def min_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K): the smallest z_c - z_label of N networks, from (N, B, K).

    >>> logits = torch.tensor([[[2.0, 1.0, 0.1]], [[3.0, 1.0, 0.2]]])
    >>> [round(z, 1) for z in min_logit(logits, torch.tensor([0]))[0].tolist()]
    [0.0, -2.0, -2.8]
    """
    return relative(logits, labels).amin(0)


def naive(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K): each image's logits of the network, of N, that has the smallest cross-entropy."""
    best = relative(logits, labels).logsumexp(2).argmin(0)
    return logits.gather(0, best[None, :, None].expand(1, -1, logits.shape[2]))[0]


def linear(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K): each image's convex mixture of N networks' logits with the smallest cross-entropy.

    It is found by `STEPS` exponentiated gradient steps on the shares, which begin equal; an image's step grows while
    its cross-entropy falls, and a step that raises it is taken back and halved.
    """
    apart = relative(logits, labels)
    rate = apart.new_ones(apart.shape[1])
    scores = apart.new_zeros(apart.shape[:2])
    mixed = apart.mean(0)
    for _ in range(STEPS):
        tried = scores - rate * (apart * mixed.softmax(1)).sum(2)
        other = (tried.softmax(0)[:, :, None] * apart).sum(0)
        better = other.logsumexp(1) <= mixed.logsumexp(1)
        scores, mixed = torch.where(better, tried, scores), torch.where(better[:, None], other, mixed)
        rate = torch.where(better, 1.5 * rate, 0.5 * rate)
    return (scores.softmax(0)[:, :, None] * logits).sum(0)


ENSEMBLES = {"minlogit": min_logit, "linear": linear, "naive": naive}
