"""Classification of sentences and of pairs of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attar.batch import Address, Batch
from attar.data.sources.sentences import encoder, named_inputs, read_sentences
from attar.data.sources.text import BYTES
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError
from attar.losses import CrossEntropy, KLDivergence
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.sentences import SentenceMetrics
from attar.recipe import Recipe
from attar.records import shortened
from attar.tasks.options import check_options
from attar.tasks.predictions import Request, SamplePrediction, read_utf8, register_predictor, run
from attar.tasks.registry import register_task

# Lines of a text that are labelled at a time.
SENTENCES = 32


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


@register_predictor("text")
def labelled(request: Request) -> SamplePrediction:
    """The class of every line of a text, with its probability; of pairs a tab divides the two sentences.

    Raises:
        AttarError: the file is missing, no UTF-8, or a line is empty or holds no pair where the network takes pairs.
    """
    net, card, file = request.net, request.card, request.file
    # As files of sentences are read: other marks that Unicode counts as ends of lines stand within one.
    text = read_utf8(file).removesuffix("\n")
    lines = text.split("\n")
    if not text:
        raise AttarError(f"{file} holds no sentences; write one a line")
    pairs, rows = bool(card.get("pairs")), [line.split("\t") for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != 1 + pairs or not all(part.strip() for part in row):
            wanted = "two sentences with a tab between them" if pairs else "one sentence, without a tab"
            raise AttarError(f"{file}, line {number}: expected {wanted}, got {shortened(lines[number - 1])}")
    vocabulary, found = encoder(str(card["tokenizer"])), list[dict[str, Any]]()
    firsts, seconds = ([row[place].strip() for row in rows] if place <= pairs else [] for place in (0, 1))
    ids, types = vocabulary.encode(firsts, seconds, int(card["max_length"]))
    for start in range(0, len(lines), SENTENCES):
        part = slice(start, start + SENTENCES)
        longest = max(map(len, ids[part]))
        inputs = named_inputs(ids[part], types[part] if pairs else [], longest, vocabulary.padding)
        for line, row in zip(lines[part], run(net, inputs).double().softmax(1), strict=True):
            best = int(row.argmax())
            found.append({"sentence": line, "label": card["classes"][best], "probability": float(row[best])})
    text = "\n".join(f"{one['label']} {100 * one['probability']:.1f}  {one['sentence']}" for one in found)
    return SamplePrediction(file, "\n" + text, {"sentences": found})
