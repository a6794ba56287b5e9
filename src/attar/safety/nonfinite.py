"""Detect and localise non-finite values without a host sync at each step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attar.accel.runtime import Runtime
from attar.batch import Batch
from attar.errors import AttarError
from attar.files import write_bytes
from attar.knowledge import Losses, Output
from attar.methods import Method
from attar.methods.common.trial import unchanged

# How often an accelerator is asked; on the CPU looking costs nothing and happens each step.
READ_EVERY = 50


class Watch:
    """Remembers, on the device, the first step whose loss or gradient was not finite, and holds all updates from then.

    Fused optimisers skip their update on the device where `found_inf` is 1 (mixed-precision scalers do the same), so
    that the weights stay those that the bad step began with however late anybody looks.

    Args:
        device: where the losses are.
        every: read the flag each so many steps; None: each step on the CPU, every READ_EVERY elsewhere.
    """

    def __init__(self, device: torch.device, every: int | None = None) -> None:
        self.every = every or (1 if device.type == "cpu" else READ_EVERY)
        self._unread = 0
        # Of each look: the step and phase. On the device: how many went well, and whether one has not.
        self._looks: list[tuple[int, str]] = []
        self._well = torch.zeros((), device=device)
        self._hold = torch.zeros((), device=device)

    def guard(self, learner: torch.optim.Optimizer) -> None:
        """Hold back this optimiser's updates after a bad step.

        One that is not fused does not read `found_inf`: it gets no gradients, which waits for the device at each step.
        """
        if getattr(learner, "_step_supports_amp_scaling", False):
            learner.found_inf = self._hold  # type: ignore[attr-defined]
            return
        if not hasattr(learner, "held_by"):
            learner.register_step_pre_hook(_drop_gradients)
        learner.held_by = self._hold  # type: ignore[attr-defined]

    @torch.no_grad()
    def saw(self, value: Tensor, step: int, phase: str = "") -> None:
        """Note a loss, or the norm of a gradient, of a step of this epoch; waits for nothing."""
        self._looks.append((step, phase))
        value = value.detach().to(self._hold.device)  # no gradients at all have a norm on the CPU
        # A number less itself is 0, but neither a NaN nor an infinity is.
        self._hold.masked_fill_((value - value).ne(0), 1.0)
        self._well.add_(1).sub_(self._hold)

    def bad(self, now: bool = False) -> tuple[int, str] | None:
        """The first bad step and its phase, if it is time to look and there was one; looking waits for the device."""
        self._unread += 1
        if not now and self._unread < self.every:
            return None
        self._unread, well = 0, int(self._well)
        return self._looks[well] if well < len(self._looks) else None


def _drop_gradients(learner: torch.optim.Optimizer, *_: object) -> None:
    if learner.held_by:  # type: ignore[attr-defined]
        learner.zero_grad(set_to_none=True)


@dataclass
class Finding:
    """What one batch does to a method.

    Attributes:
        total: the loss.
        terms: each edge's loss before its weight.
        edge: the first edge whose loss, or whose gradient, is not finite.
        place: the first thing on the way that is not finite: a parameter, the images, a module's output, a gradient.
    """

    total: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    edge: str | None = None
    place: str | None = None

    @property
    def bad(self) -> bool:
        return self.edge is not None or self.place is not None


def examine(method: Method, batch: Batch, runtime: Runtime) -> Finding:
    """Run one batch forward and backward in its phase and find where the first number that is not finite appears.

    Training mode, and the method's state is as before afterwards.
    """
    finding = Finding(place=first_bad(method, batch))
    with unchanged(method), torch.random.fork_rng(devices=[]):
        batch.address.seed_layers(runtime.device)  # as the loop does
        with watched(method.train()) as seen, runtime.computing():
            losses = method.batch_losses(batch)
        finding.total = float(losses.total.detach())
        finding.terms = {key: float(term.detach()) for key, term in losses.terms.items()}
        if not torch.isfinite(losses.total):
            bad = (key for key, term in losses.terms.items() if not torch.isfinite(term))
            finding.edge = next(bad, "the weighted sum")
            finding.place = finding.place or next(iter(seen), None)
        elif not finding.bad:
            finding.edge, finding.place = bad_gradient(method, losses)
    return finding


def first_bad(method: Method, batch: Batch) -> str | None:
    """A parameter or buffer, or the inputs, that are not finite before anything is computed."""
    networks = {"method": method, **{f"frozen network {n}": one.module for n, one in enumerate(method.frozen())}}
    for owner, network in networks.items():
        for name, tensor in network.state_dict().items():
            if not torch.isfinite(tensor).all():
                return f"the state {name!r} of the {owner}"
    return None if all(torch.isfinite(tensor).all() for tensor in tensors(batch.inputs)) else "the inputs"


@contextmanager
def watched(method: Method) -> Iterator[list[str]]:
    """A list that fills with the modules whose output is not finite, in the order they ran."""
    seen: list[str] = []

    def look(name: str, value: Any) -> None:
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors(value)):
            seen.append(f"the output of {name}")

    def hook(name: str, module: nn.Module) -> RemovableHandle:
        return module.register_forward_hook(lambda _, __, value: look(f"{name} ({type(module).__name__})", value))

    networks = [("", method), *((f"frozen network {n}: ", one.module) for n, one in enumerate(method.frozen()))]
    hooks = [
        hook(owner + (name or "the whole"), module)
        for owner, network in networks
        for name, module in network.named_modules()
        if module is not method
    ]
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module returned."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value.detach()
    elif isinstance(value, Output):
        yield from tensors([value.logits, *value.taps.values()])
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def bad_gradient(method: Method, losses: Losses) -> tuple[str | None, str | None]:
    """The edge and the parameter where a finite loss has a gradient that is not, or one too large for its norm."""
    named = [(name, parameter) for name, parameter in method.named_parameters() if parameter.requires_grad]
    for key, term in losses.terms.items():
        if not term.requires_grad or not losses.weights[key]:
            continue
        gradients = torch.autograd.grad(
            losses.weights[key] * term, [p for _, p in named], retain_graph=True, allow_unused=True
        )
        for (name, _), gradient in zip(named, gradients, strict=True):
            if gradient is not None and not torch.isfinite(gradient).all():
                return key, f"the gradient of {name!r}"
        if not torch.isfinite(nn.utils.get_total_norm([one for one in gradients if one is not None])):
            return key, f"the norm of its gradient: the loss is {float(term.detach()):.3g}, and the squares overflow"
    return None, None


def fail(method: Method, batches: list[Batch], runtime: Runtime, file: Path) -> NoReturn:
    """Find the guilty batch of these, save it with the state it met, and stop.

    Raises:
        AttarError: always.
    """
    findings = [examine(method, batch, runtime) for batch in batches]
    batch, finding = next(
        ((b, f) for b, f in zip(batches, findings, strict=True) if f.bad), (batches[-1], findings[-1])
    )
    where = batch.address
    failure = {
        "inputs": batch.inputs,
        "labels": batch.labels,
        "index": batch.index,
        "weight": batch.weight,
        "mixed": batch.mixed,
        "labelled": batch.labelled,
        "address": vars(where),
        "phase": batch.phase,
        "epochs": batch.epochs,
        "precision": runtime.precision,
        "total": finding.total,
        "terms": finding.terms,
        "method": method.state_dict(),
    }
    write_bytes(file, _saved(failure))
    what = f"the loss is {finding.total:g}"
    if torch.isfinite(torch.tensor(finding.total)):
        what = "a gradient is not finite" if finding.bad else "a number was not finite, and is when computed again,"
    edge = "" if finding.edge is None else f": edge {finding.edge!r}"
    raise AttarError(
        f"{what} at epoch {where.epoch + 1}, step {where.step}{edge}"
        f"{f', first in {finding.place}' if finding.place else ''}; the batch and the state are in {file} "
        "(`attar replay` explains it); try a lower optim.lr or optim.clip_norm=1"
    )


def _saved(failure: dict[str, Any]) -> bytes:
    """A failure as the bytes of its file: written by torch itself, a full disk would be no OSError."""
    buffer = io.BytesIO()
    torch.save(failure, buffer)
    return buffer.getvalue()


def gradient_norm(learner: torch.optim.Optimizer) -> Tensor:
    """The norm of all gradients of an optimiser together; it is finite only where each of them is."""
    return nn.utils.get_total_norm([p.grad for p in moved_by(learner) if p.grad is not None])


def moved_by(learner: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All that an optimiser moves."""
    return [parameter for group in learner.param_groups for parameter in group["params"]]
