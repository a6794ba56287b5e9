"""Causal language modelling: networks put out the logits of each next token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from attar.batch import Address, Batch
from attar.data.sources.text import BYTES, read_text, tokenizer
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError, unknown
from attar.losses import AlphaBeta, CrossEntropy, JensenShannon, KLDivergence, PerToken, ReverseKL
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.language import LanguageMetrics
from attar.recipe import Recipe
from attar.tasks.options import check_options
from attar.tasks.predictions import Request, SamplePrediction, read_utf8, register_predictor, run
from attar.tasks.registry import register_task

DIVERGENCES: dict[str, Callable[..., Loss]] = {
    "forward": KLDivergence,
    "reverse": ReverseKL,
    "js": JensenShannon,
    "alpha_beta": AlphaBeta,
}


@register_task("language", data=("text",))
@dataclass
class Language:
    """Logits (B, L, V) of each next token; labels are the next tokens (B, L), `Batch.weight` which of them count.

    Args:
        output: what the networks' outputs are called in the knowledge.
        divergence: how one network imitates another: "forward" KL(teacher || student), "reverse" KL(student ||
            teacher), "js", Jensen-Shannon, or "alpha_beta", which has no factor T^2 (`attar.losses.alpha_beta`).
        alpha: a of "alpha_beta" (0.8, of an image pair; a setting for language models was not found).
        beta: b of "alpha_beta" (0.3, likewise).
        characters: how many characters a token has on average, for bits a character; `load` finds it.

    Raises:
        AttarError: an unknown divergence.

    >>> Language(divergence="reverse").imitate(2.0).loss
    ReverseKL(temperature=2.0, reduction='batchmean')
    """

    output: str = "logits"
    divergence: str = "forward"
    alpha: float = 0.8
    beta: float = 0.3
    characters: float = 1.0

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise unknown("divergence", self.divergence, DIVERGENCES)

    def supervise(self) -> nn.Module:
        """Cross-entropy with the next token, averaged over the tokens that count."""
        return PerToken(CrossEntropy())

    def imitate(self, temperature: float) -> nn.Module:
        """The divergence of the softened distributions, averaged over the tokens that count; all but one times T^2."""
        settings = {"alpha": self.alpha, "beta": self.beta} if self.divergence == "alpha_beta" else {}
        return PerToken(DIVERGENCES[self.divergence](temperature=temperature, **settings))

    def metrics(self) -> Metrics:
        """Perplexity, bits a character and next-token accuracy; perplexity decides."""
        return LanguageMetrics(characters=self.characters)

    def example(self) -> Batch:
        """Two sequences of eight bytes."""
        ids = torch.randint(256, (2, 9), generator=Address().generator("example"))
        return Batch(ids[:, :-1], ids[:, 1:], torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> TensorSplits:
        """The text of the file `data.root` in blocks of `data.block_size` tokens.

        The last tenth of the text (`data.test_fraction`) is tested on, `data.val_fraction` before it validated on.
        `data.tokenizer` is "bytes" or a local folder.
        """
        options = check_options(recipe, block_size=128, tokenizer=BYTES, test_fraction=0.1)
        if recipe.data.root is None:
            raise AttarError("data=text needs data.root=FILE, any UTF-8 text")
        splits, self.characters = read_text(
            Path(recipe.data.root).expanduser(),
            options["block_size"],
            options["tokenizer"],
            recipe.data.val_fraction,
            options["test_fraction"],
        )
        return splits


@register_predictor("language")
def continued(request: Request) -> SamplePrediction:
    """A text and the most probable tokens after it, one by one; the network sees as many as a block of training has.

    Raises:
        AttarError: the file is missing, no UTF-8, or empty.
    """
    net, card, file = request.net, request.card, request.file
    text = read_utf8(file)
    vocabulary = tokenizer(str(card["tokenizer"]))
    ids, seen = vocabulary.encode(text), card["input_shape"][0]
    if not ids:
        raise AttarError(f"{file} is empty; give it some text to go on from")
    added: list[int] = []
    for _ in range(request.tokens):
        window = torch.tensor([(ids + added)[-seen:]])
        added.append(int(run(net, window)[0, -1].argmax()))
    found = vocabulary.decode(added)
    return SamplePrediction(file, found, {"continuation": found})
