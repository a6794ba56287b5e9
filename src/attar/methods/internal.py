"""Internal: a shallow transformer imitates the attention and the first token of a deep one, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attar.errors import PairError
from attar.knowledge import Transfer
from attar.losses import AttentionKL, CosineDistance
from attar.methods.base import Offline
from attar.methods.registry import register
from attar.models.surgery.layer_start import compressed_layers
from attar.models.surgery.transformer_layers import layer_taps, transformer_layers


@register(
    "internal",
    title="Knowledge Distillation from Internal Representations",
    paper="arXiv:1910.03723",
    year=2019,
    family="offline",
    needs=("logits", "layers"),
)
class Internal(Offline):
    """Knowledge Distillation from Internal Representations (Aguilar et al., AAAI 2020).

    L = ce * CE + kd * T^2 KL(teacher_T || student_T) + attention * sum KL(A_t || A_s) + cls * sum (1 - cos(h_t, h_s)),
    sums over the student's layers. A are the self-attention's probabilities, compared before any dropout, the mean over
    heads and tokens that are no padding; h is the vector of the first token. A student's layer is paired with the last
    of the teacher's layers that it compresses: of 12 to 6 layers, i with 2 i. Runs on text classifiers and ViTs alike.

    `layer_schedule`, an option of every method, gives the paper's schedules: "all", "progressive" (PID) and "stacked"
    (SID). The paper starts the student from the teacher's layers: `student.weights=teacher` in a recipe.

    Deviates: the weights of the four terms, the temperature and the epochs of a layer were not found; 1 each, T = 1 and
    an even share of the epochs are ours.

    Args:
        teacher: a transformer with attention that is known (`attar.models.surgery.transformer_layers`).
        student: a transformer of as many heads and of the teacher's width, with no more layers.
        attention: weight of each layer's attention loss.
        cls: weight of each layer's loss on the first token.
        kd: weight of the teacher's softened outputs.
        ce: weight of the labels; 0 leaves them out.
        temperature: T of the outputs.

    Raises:
        AttarError: a network's attention is not known, or the student is deeper than the teacher.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        attention: float = 1.0,
        cls: float = 1.0,
        kd: float = 1.0,
        ce: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(teacher, student)
        self.attention, self.cls, self.kd, self.ce, self.temperature = attention, cls, kd, ce, temperature
        for role, net in (("teacher", teacher), ("student", student)):
            if "layer1.cls" not in layer_taps(net):
                raise PairError(
                    f"method 'internal' compares the attention of transformers with a class token, and the {role} "
                    f"({type(net).__name__}) has none that is known"
                )
        counts = (len(transformer_layers(net)) for net in (teacher, student))
        self.pairs = list(enumerate(compressed_layers(*counts), 1))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.ce)
        yield self.output_edge("teacher", "student", self.temperature, self.kd)
        for own, theirs in self.pairs:
            for tap, loss, weight in (
                ("attention", AttentionKL(), self.attention),
                ("cls", CosineDistance(), self.cls),
            ):
                yield Transfer(f"teacher.layer{theirs}.{tap}", f"student.layer{own}.{tap}", loss, weight)
