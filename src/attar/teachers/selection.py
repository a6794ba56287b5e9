"""Engine selection for frozen teachers: the fastest engine whose outputs agree with the float32 network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from attar.accel.compiled_steps import WORTH_COMPILING
from attar.accel.engine_spec import INT8, PLAIN, EngineSpec
from attar.accel.runtime import Runtime
from attar.batch import Batch, Inputs
from attar.data import Samples
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
# ... and each tap is this near (norm of the difference over the norm), in eight bits twice as far.
TAPS = 0.05
# Quantising takes some ten seconds; it is tried where the bfloat16 teacher would compute for longer than this.
WORTH_QUANTISING = 120.0
# Eight bits must be so many times as fast as what they replace.
CLEARLY = 1.2
TIMED = 3
# What is not faster is timed so many times again.
AGAIN = 3
Once = Callable[[str, str, Callable[[], Any]], Any]


def choose_now(what: str, of: str, choose: Callable[[], Any]) -> Any:
    """A choice that nobody made before."""
    return choose()


@dataclass(frozen=True)
class Agreement:
    """How near an engine is to the network in float32.

    Attributes:
        labels: share of images with the same class.
        nats: mean KL divergence of the class distributions.
        taps: the largest relative error of a tap; 0 without one.
        outputs: that of an output that is no distribution; None where outputs are logits of classes.
    """

    labels: float
    nats: float
    taps: float
    outputs: float | None = None

    def holds(self, spec: EngineSpec) -> bool:
        """Whether that is near enough for such an engine."""
        near = self.labels >= LABELS and self.nats <= NATS and (self.outputs is None or self.outputs <= TAPS)
        return near and self.taps <= most_error(spec)

    def __str__(self) -> str:
        if self.outputs is not None:
            return f"outputs and features within {100 * max(self.outputs, self.taps):.1f} %"
        features = f", features within {100 * self.taps:.1f} %" if self.taps else ""
        return (
            f"same class for {100 * self.labels:.1f} % of the outputs, {max(self.nats, 0.0):.4f} nats apart{features}"
        )


def most_error(spec: EngineSpec) -> float:
    """How far a tap of such an engine may be off."""
    return 2 * TAPS if spec.kind == INT8.kind else TAPS


def not_used(spec: EngineSpec) -> str:
    """What an engine that is not near enough would need."""
    return f" (not used: at least {100 * LABELS:g} %, {NATS} nats, features {100 * most_error(spec):g} %)"


class Engines:
    """Makes engines, each once for the same weights: the seeds of a job share those that its methods use.

    Args:
        images: the training set, which calibrates the eight-bit engine.
    """

    def __init__(self, images: Samples) -> None:
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
        if spec.kind == INT8.kind:
            return cast(Int8, self.make(module, INT8)).cut() if spec.cut else Int8(module, self.images)
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
    method: Method,
    batches: list[Batch],
    runtime: Runtime,
    precision: str,
    engines: Engines,
    passes: int,
    once: Once = choose_now,
) -> tuple[tuple[EngineSpec, ...], list[str]]:
    """An engine for every frozen network of a method.

    Args:
        method: as it will be trained.
        batches: images as training will show them; all are compared, the first is timed.
        runtime: of the student.
        precision: auto, or the one to use where it agrees (float32, bfloat16, int8).
        engines: where they are made.
        passes: how many images the run will show the teacher.
        once: once(name, what is read, choose) gives the record of an engine that was chosen before in place of
            choose(); such an engine is not timed again, only compared.

    Returns:
        The choices, and a line for the log about each.
    """
    chosen, lines = [], []
    with torch.no_grad():
        read = zip(method.frozen(), teacher_usage(method, batches[0]), strict=True)
        for number, (frozen, reading) in enumerate(read, 1):
            if not reading.output:
                chosen.append(PLAIN)
                lines.append(f"teacher {number} is computed by the method in a way of its own")
                continue
            trial = Trial(frozen, reading, batches, runtime, precision, engines, passes, method.task.output)
            record = once(f"engine {number}", f"taps {', '.join(sorted(reading.taps)) or 'none'}", trial.record)
            spec, line = trial.outcome(EngineSpec.from_json(record))
            if reading.taps and spec != PLAIN and ignores_logits(method, frozen, batches[0]):
                spec, line = replace(spec, cut=True), line + "; cut after the last feature it is asked for"
            chosen.append(spec)
            lines.append(f"teacher {number} {line}")
    return tuple(chosen), lines


@dataclass
class Trial:
    """The engines of one frozen network, tried on images; arguments as of `choose_engines`.

    Attributes:
        output: what the task calls outputs; "logits" are compared as distributions.
    """

    frozen: Frozen
    reading: TeacherUsage
    batches: list[Batch]
    runtime: Runtime
    precision: str
    engines: Engines
    passes: int
    output: str
    found: tuple[EngineSpec, str] | None = None

    def record(self) -> dict[str, Any]:
        """The engine that is chosen now, by agreement and time, as plain data."""
        self.found = self._fastest()
        return self.found[0].to_json()

    def outcome(self, spec: EngineSpec) -> tuple[EngineSpec, str]:
        """The engine, and a line for the log: that of the trial, or one that was chosen before where it agrees here."""
        spec = replace(spec, cut=False)
        if self.found and self.found[0] == spec:
            return self.found
        if spec == PLAIN:
            return spec, f"computes {spec}, as chosen before"
        near, _ = self._tried(spec, timed=False)
        if isinstance(near, str):
            return PLAIN, f"computes {PLAIN}; chosen before, {spec}: {near}"
        line = f"{spec}, chosen before: {near}"
        return (spec, f"computes {line}") if near.holds(spec) else (PLAIN, f"computes {PLAIN}; {line}{not_used(spec)}")

    def _fastest(self) -> tuple[EngineSpec, str]:
        """Of the candidates, from slow to fast, the last that agrees and is faster than those before it.

        Unasked, eight bits, or compiling, must be clearly faster. A precision that is asked for is used where it
        agrees, whatever it takes.
        """
        usual = self._seconds(PLAIN)
        best, before, lines = PLAIN, usual, []
        total = usual * self.passes / len(self.batches[0])
        for spec in _candidates(self.runtime, self.precision, total):
            near, took = self._tried(spec)
            if isinstance(near, str):
                lines.append(f"{spec}: {near}")
                continue
            needed = 1.0 if spec.kind == "folded" else CLEARLY
            for _ in range(AGAIN):  # a busy machine slows either of the two
                if took * needed < before:
                    break
                usual, took = min(usual, self._seconds(PLAIN)), min(took, self._seconds(spec))
                before = usual if best == PLAIN else before
            lines.append(f"{spec}: {usual / took:.2f} times the speed, {near}")
            if not near.holds(spec):
                lines[-1] += not_used(spec)
            elif self.precision != "auto" or took * needed < before:
                best, before = spec, took
            else:
                lines[-1] += " (not used: not faster)"
        return best, f"computes {best}; tried on {sum(map(len, self.batches))} samples: " + "; ".join(lines)

    def _tried(self, spec: EngineSpec, timed: bool = True) -> tuple[Agreement | str, float]:
        """How near an engine is to the float32 network, or why there is none; and the seconds of a batch."""
        try:
            with self.runtime.computing():
                engine = self.engines.make(self.frozen.module, spec)
                outputs = [engine(one, self.reading.taps) for one in self.images]
                near = agreement(outputs, self.truth, distributions=self.output == "logits")
            return near, self._seconds(spec) if timed else 0.0
        except Exception as error:  # whatever a compiler or another library trips over: another engine will do
            return f"not to be had ({first_line(error)})", 0.0

    def _seconds(self, spec: EngineSpec) -> float:
        with self.runtime.computing():
            return seconds(self.engines.make(self.frozen.module, spec), self.images[0], self.reading.taps)

    @property
    def images(self) -> list[Inputs]:
        return [batch.inputs for batch in self.batches]

    @cached_property
    def truth(self) -> list[Output]:
        """What the network puts out in float32."""
        with torch.autocast(self.runtime.device.type, enabled=False):
            return [Plain(self.frozen.module)(one, self.reading.taps) for one in self.images]


def _candidates(runtime: Runtime, precision: str, total: float) -> list[EngineSpec]:
    """Engines worth trying: only what computes in the precision asked for."""
    if precision != "auto":
        return [INT8 if precision == "int8" else EngineSpec("folded", precision)]
    specs = [EngineSpec("folded", runtime.precision)]
    fits = runtime.device.type == "cpu" and runtime.precision == "bfloat16"
    if fits and total > WORTH_QUANTISING:
        specs.append(INT8)
    if runtime.device.type == "cuda" and total > WORTH_COMPILING:
        specs.append(EngineSpec("compiled", runtime.precision))
    return specs


def agreement(outputs: list[Output], truth: list[Output], distributions: bool = True) -> Agreement:
    """Several batches' outputs against those of the float32 network.

    Args:
        outputs: what an engine gave.
        truth: what the network gives.
        distributions: whether outputs are logits of classes, (B, K) or (B, L, K); others are compared as taps are.

    >>> one = [Output(torch.tensor([[2.0, 0.0]]))]
    >>> agreement([Output(torch.tensor([[2.1, 0.0]]))], one).holds(INT8)
    True
    """
    labels, nats, apart = 1.0, 0.0, None
    if distributions:
        logits, true = (torch.cat([one.logits.float().flatten(0, -2) for one in some]) for some in (outputs, truth))
        log_p, log_q = true.log_softmax(1), logits.log_softmax(1)
        nats = float((log_p.exp() * (log_p - log_q)).sum(1).mean())
        labels = float((logits.argmax(1) == true.argmax(1)).float().mean())
    else:
        apart = max(_relative_error(one.logits, other.logits) for one, other in zip(outputs, truth, strict=True))
    taps = [
        max(_relative_error(one.taps[tap], other.taps[tap]) for one, other in zip(outputs, truth, strict=True))
        for tap in truth[0].taps
    ]
    # NaN compares as not near.
    return Agreement(labels, nats if nats == nats else float("inf"), max(taps, default=0.0), apart)


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
