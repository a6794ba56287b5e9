"""Engine selection for frozen teachers: the fastest engine whose outputs agree with the float32 network."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attar.accel.compiled_steps import WORTH_COMPILING
from attar.accel.engine_spec import INT8, PLAIN, EngineSpec
from attar.accel.runtime import Runtime
from attar.batch import Batch, Inputs
from attar.data import ImageSet
from attar.errors import first_line
from attar.knowledge import Output
from attar.methods import Method
from attar.models import Engine, Frozen, Plain, fingerprint
from attar.teachers.engines import Folded
from attar.teachers.int8 import Int8
from attar.teachers.usage import TeacherUsage, ignores_logits, teacher_usage

# An engine is used where it names the same class as the float32 network for this share of the images, ...
LABELS = 0.99
# ... its distributions are this near on average (KL in nats at temperature 1), ...
NATS = 0.01
# ... and each tap is this near (norm of the difference over the norm).
TAPS = 0.05
# Quantising takes some ten seconds; it is tried where the bfloat16 teacher would compute for longer than this.
WORTH_QUANTISING = 120.0
# Eight bits must be so many times as fast as what they replace.
CLEARLY = 1.2
TIMED = 3


@dataclass(frozen=True)
class Agreement:
    """How near an engine is to the network in float32.

    Attributes:
        labels: share of images with the same class.
        nats: mean KL divergence of the class distributions.
        taps: the largest relative error of a tap, 0 without taps.
    """

    labels: float
    nats: float
    taps: float

    @property
    def holds(self) -> bool:
        return self.labels >= LABELS and self.nats <= NATS and self.taps <= TAPS

    def __str__(self) -> str:
        features = f", features within {100 * self.taps:.1f} %" if self.taps else ""
        return f"same class for {100 * self.labels:.1f} % of the images, {self.nats:.4f} nats apart{features}"


class Engines:
    """Makes engines, each once for the same weights: the seeds of a job share those that its methods use.

    Args:
        images: the training set, which calibrates the eight-bit engine.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self._made: dict[tuple[str, EngineSpec], Engine] = {}

    def make(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """A network's engine."""
        if spec == PLAIN:
            return Plain(module)
        key = (fingerprint(module), spec)
        if key not in self._made:
            self._made[key] = self._new(module, spec)
        return self._made[key]

    def clear(self, method: Method) -> None:
        """Drop all engines; the frozen networks of a method are computed as they are again."""
        for frozen in method.frozen():
            frozen.plain()
        self._made = {}

    def _new(self, module: nn.Module, spec: EngineSpec) -> Engine:
        if spec == INT8:
            return Int8(module, self.images)
        return Folded(module, getattr(torch, spec.dtype), compiled=spec.kind == "compiled", cut=spec.cut)

    def attach(self, method: Method, specs: tuple[EngineSpec, ...]) -> None:
        """Give each frozen network of a method the engine that was chosen for it, and drop all other engines.

        Engines of other weights, and those that were tried and not chosen, would only hold memory.
        """
        for frozen, spec in zip(method.frozen(), specs, strict=False):
            frozen.engine = self.make(frozen.module, spec)
        used = [frozen.engine for frozen in method.frozen()]
        if used:
            self._made = {key: engine for key, engine in self._made.items() if any(engine is one for one in used)}


def choose_engines(
    method: Method, batches: list[Batch], runtime: Runtime, precision: str, engines: Engines, passes: int
) -> tuple[tuple[EngineSpec, ...], list[str]]:
    """An engine for every frozen network of a method.

    Args:
        method: as it will be trained.
        batches: images as training will show them; all are compared, the first is timed.
        runtime: of the student.
        precision: auto, or the one to use where it agrees (float32, bfloat16, int8).
        engines: where they are made.
        passes: how many images the run will show the teacher.

    Returns:
        The choices, and a line for the log about each.
    """
    chosen, lines = [], []
    with torch.no_grad():
        read = zip(method.frozen(), teacher_usage(method, batches[0]), strict=True)
        for number, (frozen, reading) in enumerate(read, 1):
            spec, line = _choose(frozen, reading, batches, runtime, precision, engines, passes)
            if reading.taps and spec != PLAIN and ignores_logits(method, frozen, batches[0]):
                spec, line = replace(spec, cut=True), line + "; cut after the last feature it is asked for"
            chosen.append(spec)
            lines.append(f"teacher {number} {line}")
    return tuple(chosen), lines


def _choose(
    frozen: Frozen,
    reading: TeacherUsage,
    batches: list[Batch],
    runtime: Runtime,
    precision: str,
    engines: Engines,
    passes: int,
) -> tuple[EngineSpec, str]:
    """One network's: of the candidates, from slow to fast, the last that agrees.

    A folded network is not timed: what a run computes should not hang on the clock. Unasked,
    eight bits, or for compiling, they must be clearly faster.
    """
    images = [batch.inputs for batch in batches]
    with torch.autocast(runtime.device.type, enabled=False):
        truth = [Plain(frozen.module)(one, reading.taps) for one in images]
    with runtime.computing():
        usual = seconds(Plain(frozen.module), images[0], reading.taps)
        best, before, tried = PLAIN, usual, []
        for spec in _candidates(reading, runtime, precision, usual * passes / len(images[0])):
            try:
                engine = engines.make(frozen.module, spec)
                near = agreement([engine(one, reading.taps) for one in images], truth)
                took = seconds(engine, images[0], reading.taps)
            except Exception as error:  # whatever a compiler or another library trips over: another engine will do
                tried.append(f"{spec}: not to be had ({first_line(error)})")
                continue
            tried.append(f"{spec}: {usual / took:.2f} times the speed, {near}")
            if not near.holds:
                tried[-1] += f" (not used: at least {100 * LABELS:g} %, {NATS} nats, features {100 * TAPS:g} %)"
            elif precision != "auto" or spec.kind == "folded" or took * CLEARLY < before:
                best, before = spec, took
    return best, f"computes {best}; tried on {sum(map(len, images))} images: " + "; ".join(tried)


def _candidates(reading: TeacherUsage, runtime: Runtime, precision: str, total: float) -> list[EngineSpec]:
    """Engines worth trying: only what computes in the precision asked for."""
    if precision != "auto":
        return [INT8 if precision == "int8" else EngineSpec("folded", precision)]
    specs = [EngineSpec("folded", runtime.precision)]
    fits = runtime.device.type == "cpu" and runtime.precision == "bfloat16" and not reading.taps
    if fits and total > WORTH_QUANTISING:
        specs.append(INT8)
    if runtime.device.type == "cuda" and total > WORTH_COMPILING:
        specs.append(EngineSpec("compiled", runtime.precision))
    return specs


def agreement(outputs: list[Output], truth: list[Output]) -> Agreement:
    """Several batches' outputs against those of the float32 network.

    >>> one = [Output(torch.tensor([[2.0, 0.0]]))]
    >>> agreement([Output(torch.tensor([[2.1, 0.0]]))], one).holds
    True
    """
    logits, true = (torch.cat([one.logits.float() for one in some]) for some in (outputs, truth))
    log_p, log_q = true.log_softmax(1), logits.log_softmax(1)
    nats = float((log_p.exp() * (log_p - log_q)).sum(1).mean())
    labels = float((logits.argmax(1) == true.argmax(1)).float().mean())
    taps = [
        max(_relative_error(one.taps[tap], other.taps[tap]) for one, other in zip(outputs, truth, strict=True))
        for tap in truth[0].taps
    ]
    # NaN compares as not near.
    return Agreement(labels, nats if nats == nats else float("inf"), max(taps, default=0.0))


def _relative_error(value: Tensor, true: Tensor) -> float:
    if value.shape != true.shape:
        return float("inf")
    return float((value.float() - true.float()).norm() / true.float().norm().clamp_min(1e-12))


def seconds(engine: Engine, images: Inputs, taps: tuple[str, ...]) -> float:
    """The shortest of a few forward passes, after one to warm up."""
    times = []
    for _ in range(1 + TIMED):
        start = time.perf_counter()
        output = engine(images, taps)
        float(output.logits.sum())  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])
