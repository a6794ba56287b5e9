"""The training loop, flat: it reads from top to bottom, and nothing in it calls back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from attar.accel.compiled_steps import compiled
from attar.accel.runtime import Runtime
from attar.batch import Batch
from attar.data import ImageSet, Loader, eval_batches
from attar.distributed.preflight import differs
from attar.distributed.team import Team, objective, team
from attar.errors import AttarError, Stopped
from attar.files import write_text
from attar.knowledge import Losses, owner
from attar.losses import CrossEntropy
from attar.methods import Method
from attar.methods.base import no_grad_clone
from attar.metrics import evaluate
from attar.recipe import Recipe
from attar.safety.invariants import Invariants
from attar.safety.nonfinite import Watch, fail, gradient_norm, moved_by
from attar.safety.signals import stop_requests
from attar.train import checkpoint as checkpoints
from attar.train.checkpoint import Checkpoint
from attar.train.ema import Ema
from attar.train.logging import lines
from attar.train.optim import optimiser
from attar.train.progress import Progress
from attar.train.running_means import RunningMeans
from attar.train.schedules import learning_rate
from attar.train.turns import Steps

Learners = dict[str, torch.optim.Optimizer]


@dataclass(frozen=True)
class Places:
    """The files of one training inside its run folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.pt"


def steps(
    method: Method,
    loader: Loader,
    val: ImageSet | None,
    recipe: Recipe,
    runtime: Runtime,
    places: Places,
    progress: Progress,
) -> Steps[None]:
    """Train a method to the end of its recipe, from its checkpoint where there is one; yields after every batch.

    In several processes (`attar.distributed.team`) each works on its slice of every batch and the first one writes.
    The method holds the weights of `recipe.select` afterwards. Every epoch ends with a checkpoint and a line in
    metrics.jsonl; a long one has a checkpoint every `recipe.checkpoint_minutes` too.

    Raises:
        AttarError: a loss or a gradient is not finite, with the batch and the state saved first; the disk is full; or
            a promise of the run is broken (`attar.safety.invariants`).
        Stopped: the process was asked to stop (SIGINT, SIGTERM); the state is saved first.
    """
    members = team()
    smooth_labels(method, recipe.optim.label_smoothing)
    if warning := weigh_labels(method, loader.whole().images.class_weights):
        progress.say(warning)
    if warning := differs(method, loader, members):
        progress.say(warning)
    losses_of: Callable[[Batch], Losses] = objective(method, members, recipe.epochs)
    if runtime.compiled and members.size == 1:
        losses_of = compiled(method, runtime, recipe.optim.accumulate)
    learners = {phase: optimiser(method.trainable(phase), recipe.optim) for phase in method.phases}
    ema = Ema(method, recipe.optim.ema) if recipe.optim.ema else None
    state, note = members.from_leader(lambda: checkpoints.restore(places.checkpoint))
    if state is None:
        state = Checkpoint(method.state_dict(), {})
    else:
        resume(state, method, learners, ema)
        progress.say(note or f"going on at epoch {state.epoch + 1}, step {state.step}")

    accumulate = recipe.optim.accumulate
    invariants, saved = Invariants(method, progress.say), time.monotonic()
    with stop_requests() as stop, torch.random.fork_rng(devices=[]):
        for epoch in range(state.epoch, recipe.epochs):
            method.train()
            # The sums of before count once, with the leader.
            running, start = RunningMeans(state.running if members.leader else {}), time.perf_counter()
            watch = Watch(runtime.device)
            for learner in learners.values():
                watch.guard(learner)
            invariants.start_epoch(epoch)
            for batch in loader.epoch(epoch, state.step):
                step = batch.address.step
                rate = learning_rate(recipe.optim, epoch * len(loader) + step, len(loader), recipe.epochs)
                # An epoch's last group of batches may be smaller.
                group = min(accumulate, len(loader) - step // accumulate * accumulate)
                complete = (step + 1) % accumulate == 0 or step + 1 == len(loader)
                # Dropout layers draw from the global generator: it follows from the address too.
                torch.manual_seed(batch.address.generator("layers").initial_seed() + members.rank)
                for phase, learner in learners.items():
                    with runtime.computing():
                        losses = losses_of(replace(batch, phase=phase))
                    watch.saw(losses.total, step, phase)
                    (losses.total / group).backward()
                    running.add(losses, batch, first_phase=phase == method.phases[0])
                    invariants.saw(losses, step, phase)
                    if complete:
                        norm = gradient_norm(learner)
                        watch.saw(norm, step, phase)
                        if recipe.optim.clip_norm is not None:
                            nn.utils.clip_grads_with_norm_(moved_by(learner), recipe.optim.clip_norm, norm)
                        update(learner, rate)
                if not complete:
                    yield
                    continue
                last, due = step + 1 == len(loader), time.monotonic() - saved > 60 * recipe.checkpoint_minutes
                due, stopping = members.any(due, stop.requested)
                if bad := watch.bad(now=last or due or stopping):
                    if members.leader:
                        fail(method, group_of(loader, epoch, bad, method, accumulate), runtime, places.failure)
                    members.wait()
                if ema:
                    ema.update()
                progress.step(epoch, step, running)
                if (due or stopping) and not last:
                    state = snapshot(state, method, learners, ema, epoch, step + 1, members.summed(running.sums))
                    keep(state, places, members)
                    saved = time.monotonic()
                    if stopping:
                        raise Stopped(str(places.folder))
                yield
            invariants.end_epoch(epoch)
            members.check_same(method)
            running = RunningMeans(members.summed(running.sums))
            seconds = time.perf_counter() - start
            record = {"epoch": epoch + 1, "lr": rate, **running.means()}
            with ema.applied() if ema else nullcontext():
                record |= members.from_leader(lambda: validate(method.deployed(), val, loader, runtime))
                keep_best(state, record, method)
            state = snapshot(state, method, learners, ema, epoch + 1, 0)
            state.metrics.append(record)
            keep(state, places, members)
            saved = time.monotonic()
            progress.epoch(record, seconds)
            if members.any(stop.requested)[0]:
                raise Stopped(str(places.folder))
    if recipe.select == "best" and "state" in state.best:
        method.load_state_dict(state.best["state"])
    elif ema:
        method.load_state_dict(ema.state)


def update(learner: torch.optim.Optimizer, rate: float) -> None:
    """One optimiser step at a learning rate."""
    for group in learner.param_groups:
        group["lr"] = rate
    learner.step()
    learner.zero_grad(set_to_none=True)


def group_of(loader: Loader, epoch: int, bad: tuple[int, str], method: Method, accumulate: int) -> list[Batch]:
    """The batches whose gradients were added up at a step and phase, made again from their addresses."""
    step, phase = bad
    batches = itertools.islice(loader.whole().epoch(epoch, step // accumulate * accumulate), accumulate)
    return [replace(batch, phase=phase) for batch in batches]


def validate(net: nn.Module, val: ImageSet | None, loader: Loader, runtime: Runtime) -> dict[str, float]:
    """Accuracy and NLL on the validation set, where there is one."""
    if val is None:
        return {}
    with runtime.computing():
        scores = evaluate(net, eval_batches(val, loader.batch_size, loader.device))
    return {"val_top1": 100 * scores.top1, "val_nll": scores.nll}


def keep_best(state: Checkpoint, record: dict[str, float], method: Method) -> None:
    """Remember the weights with the best validation accuracy, the earlier ones where two are equal."""
    if "val_top1" in record and record["val_top1"] > state.best.get("val_top1", -1.0):
        state.best = {
            "val_top1": record["val_top1"],
            "epoch": record["epoch"],
            "state": no_grad_clone(method.state_dict()),
        }


def snapshot(
    state: Checkpoint,
    method: Method,
    learners: Learners,
    ema: Ema | None,
    epoch: int,
    step: int,
    sums: dict[str, torch.Tensor] | None = None,
) -> Checkpoint:
    """The state of now, with the history of before."""
    return Checkpoint(
        method.state_dict(),
        {phase: learner.state_dict() for phase, learner in learners.items()},
        epoch,
        step,
        sums or {},
        ema.state if ema else None,
        state.best,
        state.metrics,
    )


def keep(state: Checkpoint, places: Places, members: Team) -> None:
    """Write the records of the finished epochs and the checkpoint; nobody goes on before they are on the disk."""
    if members.leader:
        if not state.step:
            write_text(places.metrics, lines(state.metrics))
        checkpoints.save(places.checkpoint, state)
    members.wait()


def resume(state: Checkpoint, method: Method, learners: Learners, ema: Ema | None) -> None:
    """Put a checkpoint's tensors back."""
    try:
        method.load_state_dict(state.method)
        for phase, learner in learners.items():
            learner.load_state_dict(state.optimiser[phase])
    except (RuntimeError, ValueError, KeyError):
        raise AttarError(
            "the checkpoint is of another recipe; restore recipe.yaml, or start again in a new out="
        ) from None
    if ema and state.ema:
        ema.state = {name: tensor.to(ema.state[name].device) for name, tensor in state.ema.items()}


def smooth_labels(method: Method, amount: float) -> None:
    """Label smoothing in every edge whose teacher is the labels, mixed ones too."""
    for edge in method.edges:
        if amount and owner(edge.source) == "labels" and isinstance(edge.loss, CrossEntropy):
            edge.loss.label_smoothing = amount


def weigh_labels(method: Method, weights: tuple[float, ...] | None) -> str | None:
    """Class weights in every edge whose teacher is the labels, mixed ones too; a warning where there is none."""
    if weights is None:
        return None
    losses = [edge.loss for edge in method.edges if owner(edge.source) == "labels"]
    weighed = [loss for loss in losses if isinstance(loss, CrossEntropy)]
    for loss in weighed:
        loss.class_weights = weights
    if weighed:
        return None
    return f"warning: {method.name!r} has no cross-entropy with the labels, so data.class_weights change nothing in it"
