"""The search for students under a budget: sized first, then built and timed, the largest first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import nn

from attar.errors import AttarError, first_line
from attar.models import Staged, create_model
from attar.profiling.budget import Budget
from attar.profiling.candidates import REFUSALS, Sketch, operations, pretrained, sketch, trains
from attar.profiling.cost import Latency, file_size, latency, macs, parameters
from attar.profiling.memory import peak_memory

# So many of one family are named, so many networks built and timed, so many near ones shown where none fits.
PER_FAMILY, MOST_TIMED, NEAREST = 3, 40, 3
# A family nobody has timed yet may do so many times the multiply-accumulates a millisecond of the best one so far.
FASTER = 2.0
# A network this far over the time is not timed to the end.
HOPELESS = 1.5
Shape = tuple[int, int, int]
# (network, image shape, batch, the milliseconds it may take) to what it takes.
Clock = Callable[[nn.Module, Shape, int, float], Latency]
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Measured:
    """What one network costs, measured.

    Attributes:
        name: its name for `create_model`.
        family: its kind; "" of the teacher.
        stages: how many it has for methods that work inside a network; 0 where it is a plain module.
        parameters: numbers that it learns.
        macs: multiply-accumulates of one image.
        bytes: of the weights as safetensors.
        memory: peak bytes of images and activations of one pass.
        latency: milliseconds of one pass.
        pretrained: the weights that its library lists.
        misses: the budgets that it exceeds, each as cost / budget.
    """

    name: str
    family: str
    stages: int
    parameters: int
    macs: int
    bytes: int
    memory: int
    latency: Latency
    pretrained: tuple[str, ...] = ()
    misses: dict[str, float] = field(default_factory=dict)

    @property
    def costs(self) -> dict[str, float]:
        """By the names of budgets."""
        return {
            "latency": self.latency.median,
            "size": self.bytes,
            "macs": self.macs,
            "params": self.parameters,
            "memory": self.memory,
        }


def on_the_clock(net: nn.Module, image_shape: Shape, batch: int, most: float) -> Latency:
    """The latency as `latency` measures it; of one that is far above `most`, that of three passes."""
    first = latency(net, image_shape, batch, repeats=3, warmup=2)
    return first if first.median > HOPELESS * most else latency(net, image_shape, batch)


class Search:
    """One search: what has been found so far, and why the others were left out."""

    teacher: Measured

    def __init__(
        self,
        budget: Budget,
        shape: Shape,
        teacher_shape: Shape,
        classes: int,
        batch: int,
        top: int,
        progress: Progress | None,
        clock: Clock,
    ) -> None:
        self.budget, self.shape, self.classes, self.batch, self.top = budget, shape, classes, batch, top
        self.teacher_shape = teacher_shape
        self.clock, self.report = clock, progress or (lambda *_: None)
        self.students: list[Measured] = []
        self.missed: list[Measured] = []
        # Sized but not built, with the most that they exceed a budget by, and what they were left out for.
        self.dropped: list[tuple[float, Sketch, str]] = []
        self.left_out: Counter[str] = Counter()
        self.paces: dict[str, float] = {}
        self.timed = self.considered = 0
        self.names: list[str] = []

    def measure_teacher(self, teacher: str | nn.Module) -> None:
        """What the teacher costs; a student may not take longer."""
        name = teacher if isinstance(teacher, str) else type(teacher).__name__
        self.report(name, 0, 0)
        net = create_model(name, self.classes, *self.teacher_shape[:2]) if isinstance(teacher, str) else teacher
        if not parameters(net):
            raise AttarError(f"{name} has no count of parameters; name a teacher that is no exported file")
        try:
            count = macs(net, self.teacher_shape)
        except REFUSALS as error:
            reason = first_line(error)
            raise AttarError(f"{name} does not take images of {self.teacher_shape}: {reason}") from None
        self.teacher = self.measured(net, self.teacher_shape, name, "", count, math.inf)
        self.limit = replace(self.budget, latency=min(self.budget.latency, self.teacher.latency.median))

    def run(self, names: list[str]) -> None:
        """Size every name, then build and time the largest that fit, until there are enough."""
        self.names, self.considered = names, len(names)
        seen: set[tuple[int, int]] = set()
        families: Counter[str] = Counter()
        sketches = self.sized(min(self.teacher.parameters - 1, self.budget.params, self.budget.size / 4))
        self.left_out["too large"] = len(names) - len(sketches)
        for place, one in enumerate(sketches):
            if len(self.students) == self.top or self.timed == MOST_TIMED:
                enough = len(self.students) == self.top
                self.left_out["smaller than those found" if enough else "not reached"] += len(sketches) - place
                break
            self.report(f"timing {one.name}", len(self.students), self.top)
            if families[one.family] == PER_FAMILY:
                self.left_out[f"more than {PER_FAMILY} of a family"] += 1
                continue
            count = operations(one.name, self.shape, self.classes)
            # Names with a colon are a user's own: two of one size may be different networks.
            if reason := self.reason(one, count, set() if ":" in one.name else seen):
                self.left_out[reason] += 1
                continue
            assert count is not None
            seen.add((one.parameters, count))
            found = self.built(one, count)
            if found is None:
                self.left_out["not for such images"] += 1
            elif found.misses:
                self.missed.append(found)
                self.left_out["timed and over the budget"] += 1
            else:
                self.students.append(found)
                families[one.family] += 1

    def sized(self, most: float) -> list[Sketch]:
        """The candidates with so many parameters at most, the largest first."""
        found = []
        for place, name in enumerate(self.names):
            self.report(f"sizing {name}", place, len(self.names))
            if one := sketch(name, self.shape, self.classes, most):
                found.append(one)
        return sorted(found, key=lambda one: one.order)

    def reason(self, one: Sketch, count: int | None, seen: set[tuple[int, int]]) -> str:
        """Why a sized network need not be built; "" where it must."""
        if count is None:
            return "not for such images"
        if (one.parameters, count) in seen:
            return "another name of one above"
        if count >= self.teacher.macs:
            return "more MACs than the teacher"
        best = max([self.teacher.macs / self.teacher.latency.median, *self.paces.values()])
        pace = self.paces.get(one.family, FASTER * best)
        costs = {"macs": count, "size": one.bytes, "latency": count / pace}
        misses = self.limit.misses(costs)
        if not misses:
            return ""
        why = "too slow by their MACs" if "latency" in misses else "too many MACs"
        self.dropped.append((max(misses.values()), one, why))
        return why

    def built(self, one: Sketch, count: int) -> Measured | None:
        """A candidate, built and measured; None where it does not train on such images."""
        net = create_model(one.name, self.classes, *self.shape[:2])
        if not trains(net, self.shape):
            return None
        self.timed += 1
        found = self.measured(net, self.shape, one.name, one.family, count, self.limit.latency)
        self.paces[one.family] = max(count / found.latency.median, self.paces.get(one.family, 0.0))
        return replace(found, pretrained=pretrained(one.name), misses=self.limit.misses(found.costs))

    def measured(self, net: nn.Module, shape: Shape, name: str, family: str, count: int, most: float) -> Measured:
        """Everything that a network costs."""
        return Measured(
            name=name,
            family=family,
            stages=len(net.stages) if isinstance(net, Staged) else 0,
            parameters=parameters(net),
            macs=count,
            bytes=file_size(net),
            memory=peak_memory(net, shape, self.batch),
            latency=self.clock(net, shape, self.batch, most),
        )

    def nearest(self) -> tuple[Measured, ...]:
        """The networks that miss the budget by the least; a few that were not built are built for it.

        One of them that keeps it after all, because its estimate was too high, is a student.
        """
        if not self.missed and not self.dropped:
            for one in self.sized(self.teacher.parameters - 1):
                misses = self.limit.misses({"params": one.parameters, "size": one.bytes})
                self.dropped.append((max(misses.values(), default=1.0), one, "too large"))
        close = sorted(self.dropped, key=lambda found: (found[0], found[1].order))[:NEAREST]
        for _, one, why in close:
            self.report(f"timing {one.name}", 0, self.top)
            count = operations(one.name, self.shape, self.classes)
            if count is not None and (found := self.built(one, count)):
                (self.missed if found.misses else self.students).append(found)
                self.left_out[why] -= not found.misses
        if self.students:
            return ()
        return tuple(sorted(self.missed, key=lambda one: max(one.misses.values(), default=0.0))[:NEAREST])
