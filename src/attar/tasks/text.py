"""Classification of sentences and of pairs of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from attar.batch import Address, Batch
from attar.data.sources.sentences import read_sentences
from attar.data.sources.text import BYTES
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError
from attar.losses import CrossEntropy, KLDivergence
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.sentences import SentenceMetrics
from attar.recipe import Recipe
from attar.tasks.options import check_options
from attar.tasks.registry import register_task


@register_task("text", data=("sentences",))
@dataclass(frozen=True)
class Text:
    """Logits (B, K) of the classes of sentences; inputs are input_ids and attention_mask (B, L), by name.

    >>> sorted(Text().example().inputs)
    ['attention_mask', 'input_ids']
    """

    output: str = "logits"

    def supervise(self) -> Loss:
        """Cross-entropy with the labels, averaged over the sentences."""
        return CrossEntropy()

    def imitate(self, temperature: float) -> Loss:
        """T^2 KL(teacher || student) of the softened distributions, averaged over the sentences."""
        return KLDivergence(temperature)

    def metrics(self) -> Metrics:
        """Accuracy, F1 and Matthews' correlation; accuracy decides."""
        return SentenceMetrics()

    def example(self) -> Batch:
        """Two sentences of eight bytes, the second with three of padding."""
        ids = torch.randint(256, (2, 8), generator=Address().generator("example"))
        mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
        inputs = {"input_ids": ids, "attention_mask": mask}
        return Batch(inputs, torch.arange(2), torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> TensorSplits:
        """The TSV, CSV or JSONL files of `data.root`, see `attar.data.sources.sentences`.

        `data.tokenizer` is a local folder, or "bytes"; `data.max_length` cuts long sentences; `data.sentence`,
        `data.second` and `data.label` name the columns; `data.test_fraction` is tested on of a single file.
        """
        options = check_options(
            recipe, tokenizer=BYTES, max_length=128, sentence="", second="", label="", test_fraction=0.1
        )
        if recipe.data.root is None:
            raise AttarError("data=sentences needs data.root=FOLDER with train.tsv and dev.tsv, or data.root=FILE")
        columns = {role: options[role] for role in ("sentence", "second", "label")}
        root = Path(recipe.data.root).expanduser()
        return read_sentences(root, options["tokenizer"], columns, options["max_length"], options["test_fraction"])
