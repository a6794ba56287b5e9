"""Encoder KD from exchanged data: an encoder is trained from pairs of channels and codewords, not from a network."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from attar.batch import Batch
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import MSE
from attar.methods.base import Method
from attar.methods.encoderkd import coding_pair
from attar.methods.registry import register
from attar.models import EncoderDecoder, Frozen
from attar.models.surgery.encoder_decoder import stages_of_encoder


@register(
    "exchangekd",
    title="Encoder KD from exchanged codewords",
    paper="arXiv:2210.17113",
    year=2022,
    family="offline",
    needs=("stages", "family"),
)
class ExchangeKD(Method):
    """Lightweight Neural Network with Knowledge Distillation for CSI Feedback (Cui, Guo et al.): the variant.

    L = hard * supervise(D_s(E_s(H)), H) + code * MSE(E_s(H), c) + decoder * supervise(D_s(c), H), c = E_t(H).

    The abstract has a variant of encoder KD that keeps each vendor's network from the other; its protocol was not found
    in the sources, and this one is reconstructed. The teacher's vendor hands over channels H with their codewords c,
    and no network. The student's vendor trains an encoder on the codewords and a decoder of its own on the same pairs,
    through which the encoder also learns what its errors cost. The teacher's decoder has no part in training. It is
    deployed under the student's encoder, as in encoder KD; the student's own pair is measured as "own".

    Args:
        teacher: a trained staged network; its encoder makes the codewords.
        student: the staged network to train; its codewords are as long as the teacher's.
        hard: weight of the student's own reconstruction (1, ours).
        code: weight of the codewords' error (1, ours).
        decoder: weight of the reconstruction from the teacher's codewords (1, ours).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a network is not staged, or their codewords differ in length.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        hard: float = 1.0,
        code: float = 1.0,
        decoder: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        large, small = coding_pair(self.name, teacher, student, image_shape)
        self.hard, self.code, self.decoding = hard, code, decoder
        self.code_tap, self.start = large.code_tap, stages_of_encoder(small)
        self.teacher = Frozen(large)
        self.student = EncoderDecoder(small, copy.deepcopy(large))
        self.decoder = EncoderDecoder(small, small).decoder
        self.own = (small,)  # in a tuple, because its parts are submodules already

    def run(self, batch: Batch) -> Knowledge:
        theirs = self.teacher(batch.images, [self.code_tap]).tap(self.code_tap)
        code = self.student.encode(batch.images)
        decoded, given = self.decoder.resume(torch.cat([code, theirs]), self.start).logits.split(len(code))
        known = Knowledge(batch, student=Output(decoded, {"code": code}), decoder=given)
        return known.add("teacher.code", theirs)

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.hard)
        yield Transfer("teacher.code", "student.code", MSE(), self.code)
        yield self.label_edge("decoder", self.decoding)

    def deployed(self) -> nn.Module:
        return self.student

    def also_deployed(self) -> dict[str, nn.Module]:
        return {"own": self.own[0]}
