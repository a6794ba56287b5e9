"""SKT: a narrow counting network learns the structure of a wide one's features."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import PairError
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import InterLayer, IntraLayer
from attar.methods.base import Offline
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import tap_shapes


@register(
    "skt",
    title="Structured Knowledge Transfer",
    paper="arXiv:2003.10120",
    year=2020,
    family="offline",
    needs=("logits", "stages", "family"),
)
class SKT(Offline):
    """Efficient Crowd Counting via Structured Knowledge Transfer (Liu, Chen, Wu, Chen, Li, Lin).

    L = supervise(student, labels) + imitate(student, teacher) + intra * L_intra + inter * L_inter, by the task's own
    losses; of density maps both are squared errors summed over pixels. L_intra compares the directions of the feature
    vectors at every pixel, L_inter the Gram matrices of all pairs of maps. The maps are the stem's and every stage's
    (of CSRNet: the first ReLU, the three poolings, the first and fourth dilated convolution), the student's each
    through a 1x1 convolution with ReLU that is not deployed; L_inter adds the output itself where it is a map.

    Deviates: sums are over one image, means over the batch; the authors train on one image at a time.

    Args:
        teacher: a trained staged network.
        student: a staged network of as many stages, its maps of the teacher's sizes: narrower, not shallower.
        intra: weight of the directions (0.5 in the paper).
        inter: weight of the Gram matrices (0.5 in the paper).
        hard: weight of the labels (1 in the paper).
        soft: weight of the teacher's output (1 in the paper).
        temperature: where the task's imitation has one, in classification.
        image_shape: (C, H, W) of one image; by default the networks' own.

    Raises:
        AttarError: a network is not staged, or their maps differ in number or size.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        intra: float = 0.5,
        inter: float = 0.5,
        hard: float = 1.0,
        soft: float = 1.0,
        temperature: float = 4.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(teacher, student)
        self.intra, self.inter, self.hard, self.soft = intra, inter, hard, soft
        self.temperature = temperature
        stages = [
            len(require_staged("skt", role, net).stages) for role, net in (("teacher", teacher), ("student", student))
        ]
        if stages[0] != stages[1]:
            raise PairError(f"method 'skt': the teacher has {stages[0]} stages, the student {stages[1]}")
        self.taps = ["stem", *(f"stage{number}" for number in range(1, stages[0] + 1))]
        theirs, own = (tap_shapes(net, self.taps, image_shape) for net in (teacher, student))
        for tap in self.taps:
            if len(own[tap]) != 3 or own[tap][1:] != theirs[tap][1:]:
                raise PairError(
                    f"method 'skt': {tap} is {own[tap]} in the student and {theirs[tap]} in the teacher; expected maps "
                    "(C, H, W) of one height and width"
                )
            self.teacher.request(tap)
            self.student.request(tap)
        self.adapters = nn.ModuleDict(
            {tap: nn.Sequential(nn.Conv2d(own[tap][0], theirs[tap][0], 1), nn.ReLU()) for tap in self.taps}
        )

    def run(self, batch: Batch) -> Knowledge:
        taught, learnt = self.teacher(batch.inputs), self.student(batch.inputs)
        knowledge = Knowledge(batch, teacher=taught, student=learnt)
        own = tuple(self.adapters[tap](learnt.tap(tap)) for tap in self.taps)
        theirs = tuple(taught.tap(tap) for tap in self.taps)
        knowledge.add("student.maps", own).add("teacher.maps", theirs)
        return knowledge.add("student.all", own + as_map(learnt)).add("teacher.all", theirs + as_map(taught))

    def transfers(self) -> Iterable[Transfer]:
        yield self.label_edge(weight=self.hard)
        yield self.output_edge("teacher", "student", self.temperature, self.soft)
        yield Transfer("teacher.maps", "student.maps", IntraLayer(), self.intra)
        yield Transfer("teacher.all", "student.all", InterLayer(), self.inter)


def as_map(output: Output) -> tuple[Tensor, ...]:
    """A network's output where it is a map (B, C, H, W), which L_inter compares too."""
    return (output.logits,) if output.logits.ndim == 4 else ()
