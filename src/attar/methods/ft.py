"""FT: the teacher's map paraphrased by an auto-encoder, the student's translated to it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.losses import MSE, FactorTransfer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import common_stages
from attar.methods.registry import register
from attar.models import tap_shapes
from attar.schedules import From, Until


@register(
    "ft",
    title="Paraphrasing Complex Network: Factor Transfer",
    paper="arXiv:1802.04977",
    year=2018,
    family="offline",
    needs=("stages",),
)
class FT(Offline):
    """Paraphrasing Complex Network: Network Compression via Factor Transfer (Kim et al., NeurIPS 2018).

    L = ce * CE + weight * mean |Q(f_s) - Q(f_t)| + MSE(decoded f_t, T), T the teacher's last stage, f_t its code by a
    paraphraser of `ratio` times the channels, f_s the code a translator makes of the student's last stage; Q is
    `attar.losses.factor_transfer`'s. The paraphraser learns from the reconstruction alone.

    Deviates: by default all three are learnt together. The published protocol first trains the paraphraser alone, for
    30 epochs, which then stays as it is: `init=30`. These epochs are the run's own, so give it as many more.

    Args:
        teacher: a trained staged network.
        student: the staged network to train.
        weight: of the factors (200).
        ce: weight of the labels (1).
        ratio: k, channels of the code relative to the teacher's map (0.5).
        init: epochs in which only the paraphraser learns (0, none; published 30).
        image_shape: (C, H, W) of one image; by default the networks' own.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 200.0,
        ce: float = 1.0,
        ratio: float = 0.5,
        init: int = 0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.weight, self.ce, self.init = weight, ce, init
        self.theirs, self.own = common_stages(self.name, teacher, student)[-1]
        self.teacher.request(self.theirs)
        self.student.request(self.own)
        outputs = tap_shapes(teacher, [self.theirs], image_shape)[self.theirs][0]
        inputs = tap_shapes(student, [self.own], image_shape)[self.own][0]
        code = int(outputs * ratio)
        if code < 1:
            raise AttarError(f"a ratio of {ratio} leaves nothing of {outputs} channels; give a larger ratio")
        self.paraphraser = encoder(outputs, code, norm=False)
        self.decoder = decoder(code, outputs)
        self.translator = encoder(inputs, code, norm=True)

    def run(self, batch: Batch) -> Knowledge:
        known = super().run(batch)
        theirs, own = known[f"teacher.{self.theirs}"], known[f"student.{self.own}"]
        assert isinstance(theirs, Tensor)
        assert isinstance(own, Tensor)
        code = self.paraphraser(theirs)
        known.add("paraphraser.code", code).add("paraphraser.decoded", self.decoder(code))
        return known.add("student.code", self.translator(own))

    def transfers(self) -> Iterable[Transfer]:
        after = self.init > 0
        yield self.label_edge(weight=From(self.init, self.ce) if after else self.ce)
        weight = From(self.init, self.weight) if after else self.weight
        yield Transfer("paraphraser.code", "student.code", FactorTransfer(), weight=weight)
        decoded = Until(self.init) if after else 1.0
        yield Transfer(f"teacher.{self.theirs}", "paraphraser.decoded", MSE(), weight=decoded)


def encoder(inputs: int, code: int, norm: bool) -> nn.Sequential:
    """Three 3x3 convolutions, each with a leaky ReLU of 0.1 and, in the translator, a batch norm before it."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, inputs), (inputs, code), (code, code)):
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*layers)


def decoder(code: int, outputs: int) -> nn.Sequential:
    """The encoder backwards, with transposed convolutions."""
    layers: list[nn.Module] = []
    for before, after in ((code, code), (code, outputs), (outputs, outputs)):
        layers += [nn.ConvTranspose2d(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
