"""The scores of a language model: over the tokens that count."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import kl_divergence
from attar.metrics.base import Measure, Metrics, counted


class LanguageMetrics(Metrics):
    """Perplexity, bits a character, next-token accuracy; with a teacher its agreement and KL a token.

    Args:
        totals: sums of an earlier pass to go on from.
        characters: how many characters a token has on average.

    >>> import torch
    >>> metrics = LanguageMetrics()
    >>> metrics.update(torch.zeros(1, 2, 4), Batch(torch.zeros(1, 2), torch.tensor([[0, 3]])))
    >>> metrics.compute()["perplexity"], metrics.compute()["bits"]
    (4.0, 2.0)
    """

    measures = (
        Measure("perplexity", "perplexity", 1, 3),
        Measure("bits", "bits/char", 1, 4, watched=True),
        Measure("accuracy", "next %", 100, 2, higher=True),
        Measure("agreement", "agrees %", 100, 1, higher=True, note="Agrees: tokens with the teacher's prediction."),
        Measure("kl", "KL", 1, 4),
    )
    sample = "sequence"

    def __init__(self, totals: dict[str, Tensor] | None = None, characters: float = 1.0) -> None:
        super().__init__(totals)
        self.characters = characters

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        logits, labels = output.flatten(0, 1).double(), batch.labels.flatten()
        weight = logits.new_ones(len(logits)) if batch.weight is None else batch.weight.flatten().double()
        predicted = logits.argmax(1)
        sums = {
            "nll": (F.cross_entropy(logits, labels, reduction="none") * weight).sum(),
            "correct": ((predicted == labels) * weight).sum(),
            "tokens": weight.sum(),
        }
        if other is not None:
            theirs = other.flatten(0, 1).double()
            sums["agreement"] = ((predicted == theirs.argmax(1)) * weight).sum()
            sums["kl"] = kl_divergence(logits, theirs, temperature=1.0, reduction="sum", weight=weight)
        return sums

    def compute(self) -> dict[str, float]:
        if not self.totals:
            raise AttarError("there are no tokens to measure; give at least one batch")
        tokens = counted(float(self.totals["tokens"]), "tokens")
        means = {name: float(total) / tokens for name, total in self.totals.items() if name != "tokens"}
        nll, accuracy = means.pop("nll"), means.pop("correct")
        scores = {"perplexity": perplexity_of(nll), "bits": nll / math.log(2) / self.characters, "accuracy": accuracy}
        return scores | means

    def running(self) -> Metrics:
        return LanguageMetrics(characters=self.characters)


def perplexity_of(nll: float) -> float:
    """e to the mean negative log-likelihood; infinite where that is too large for a number.

    >>> perplexity_of(1e9)
    inf
    """
    return math.exp(nll) if nll < 700 else math.inf
