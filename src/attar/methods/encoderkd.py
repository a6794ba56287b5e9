"""Encoder KD: a small encoder learns a large one's codewords and is deployed with the large one's decoder."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import MSE
from attar.methods.base import Method
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import EncoderDecoder, Frozen, Staged, tap_shapes


@register(
    "encoderkd",
    title="Encoder KD for CSI feedback",
    paper="arXiv:2210.17113",
    year=2022,
    family="offline",
    needs=("stages", "family"),
)
class EncoderKD(Method):
    """Lightweight Neural Network with Knowledge Distillation for CSI Feedback (Cui, Guo et al.): encoder KD.

    L = weight * MSE(E_s(H), E_t(H)); no labels. What is deployed is the student's encoder with the teacher's decoder, a
    copy that does not learn; the student's own decoder is not used. Of networks that are no autoencoders the stages are
    the encoder and the head is the decoder.

    The loss follows the abstract; the mean over the codeword's numbers is ours.

    Args:
        teacher: a trained staged network.
        student: the staged network whose encoder is trained; its codewords are as long as the teacher's.
        weight: of the codewords' error (1).
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        PairError: a network is not staged, or their codewords differ in length.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        weight: float = 1.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        large, small = coding_pair(self.name, teacher, student, image_shape)
        self.weight, self.code_tap = weight, large.code_tap
        self.teacher = Frozen(large)
        self.student = EncoderDecoder(small, copy.deepcopy(self.teacher.module))  # type: ignore[arg-type]

    def run(self, batch: Batch) -> Knowledge:
        taught, code = self.teacher(batch.images, [self.code_tap]), self.student.encode(batch.images)
        with torch.no_grad():  # the codeword alone teaches; this is what progress is measured by
            decoded = self.student.decode(code)
        known = Knowledge(batch, teacher=taught.logits, student=Output(decoded, {"code": code}))
        return known.add("teacher.code", taught.tap(self.code_tap))

    def transfers(self) -> Iterable[Transfer]:
        yield Transfer("teacher.code", "student.code", MSE(), self.weight)

    def deployed(self) -> nn.Module:
        return self.student


def coding_pair(
    method: str, teacher: nn.Module, student: nn.Module, image_shape: tuple[int, int, int] | None
) -> tuple[Staged, Staged]:
    """A teacher and a student whose codewords can be compared.

    Raises:
        PairError: a network is not staged, or their codewords differ in length.
    """
    large, small = require_staged(method, "teacher", teacher), require_staged(method, "student", student)
    theirs, own = (tap_shapes(net, [net.code_tap], image_shape)[net.code_tap] for net in (large, small))
    if theirs != own:
        raise PairError(
            f"method {method!r}: a codeword of the student has the shape {own}, the teacher's {theirs}, and the "
            "teacher's decoder reads both; give them one compression"
        )
    return large, small
