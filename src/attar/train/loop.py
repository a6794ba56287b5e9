"""The training loop: `fit` is the algorithm, `Fit` holds its state and its steps, in the order they run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from attar.accel.compiled_steps import compiled
from attar.accel.runtime import Runtime
from attar.batch import Address, Batch, Counts
from attar.data import Loader, Samples, eval_batches
from attar.distributed.preflight import differs
from attar.distributed.team import Team, objective, team
from attar.errors import AttarError, Stopped
from attar.files import write_text
from attar.knowledge import Losses
from attar.methods import Method
from attar.methods.base import no_grad_clone
from attar.metrics import Measure, Metrics, score
from attar.recipe import Recipe
from attar.safety.invariants import Invariants
from attar.safety.nonfinite import Watch, fail, gradient_norm, moved_by
from attar.safety.signals import StopRequest, stop_requests
from attar.train import checkpoint as checkpoints
from attar.train.checkpoint import Checkpoint
from attar.train.component_sgd import ComponentSGD
from attar.train.ema import Ema
from attar.train.label_losses import smooth_labels, weigh_labels
from attar.train.logging import lines
from attar.train.optim import BY_COMPONENT, check_components, for_method, optimiser
from attar.train.progress import Progress
from attar.train.rate_factors import SCALE, scale_by_layer, scale_by_network
from attar.train.running_means import RunningMeans
from attar.train.schedules import learning_rate

Optimisers = dict[str, torch.optim.Optimizer]


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


def fit(
    method: Method,
    loader: Loader,
    val: Samples | None,
    recipe: Recipe,
    runtime: Runtime,
    places: Places,
    progress: Progress,
) -> None:
    """Train a method to the end of its recipe, from its checkpoint where there is one.

    In several processes (`attar.distributed.team`) each works on its slice of every batch and the first one writes.
    The method holds the weights of `recipe.select` afterwards. Every epoch ends with a checkpoint and a line in
    metrics.jsonl; a long one has a checkpoint every `recipe.checkpoint_minutes` too.

    Raises:
        AttarError: a loss or a gradient is not finite, with the batch and the state saved first; the disk is full; or
            a promise of the run is broken (`attar.safety.invariants`).
        Stopped: the process received SIGINT or SIGTERM; the state is saved first.
    """
    run = Fit(method, loader, val, recipe, runtime, places, progress)
    with stop_requests() as stop, torch.random.fork_rng(devices=[]):
        for epoch in range(run.state.epoch, recipe.epochs):
            if run.out_of_patience():
                break
            run.start_epoch(epoch)
            for batch in loader.epoch(epoch, run.state.step):
                run.step(batch)
                if run.completes_group(batch.address.step):
                    run.after_update(batch.address, stop)
            run.end_epoch(epoch, stop)
    run.select_weights()


class Fit:
    """One training in progress: `fit` calls the methods in the order in which they stand here.

    Arguments as for `fit`.

    Attributes:
        optimisers: one for each optimiser phase of the method.
        ema: the averaged weights, where the recipe asks for them.
        state: the latest checkpoint, with the history of the finished epochs.
    """

    def __init__(
        self,
        method: Method,
        loader: Loader,
        val: Samples | None,
        recipe: Recipe,
        runtime: Runtime,
        places: Places,
        progress: Progress,
    ) -> None:
        self.method, self.loader, self.val, self.recipe = method, loader, val, recipe
        self.runtime, self.places, self.progress = runtime, places, progress
        self.members = team()
        optim, note = for_method(method, recipe)
        if note:
            progress.log(note)
        if warning := smooth_labels(method, recipe.optim.label_smoothing):
            progress.log(warning)
        if warning := weigh_labels(method, loader.whole().images.class_weights):
            progress.log(warning)
        if warning := differs(method, loader, self.members):
            progress.log(warning)
        self.losses_of: Callable[[Batch], Losses] = objective(method, self.members, recipe.epochs)
        by_component = self.recipe.optim.name in BY_COMPONENT
        # Compiled graphs are gone after one backward pass.
        if runtime.compiled and self.members.size == 1 and not by_component:
            self.losses_of = compiled(method, runtime, recipe.optim.accumulate)
        self.optimisers = {phase: optimiser(method.trainable(phase), optim) for phase in method.phases}
        for one in self.optimisers.values():
            if recipe.optim.layer_decay is not None:
                scale_by_layer(one, method, recipe.optim.layer_decay)
            if factors := method.rate_factors():
                scale_by_network(one, factors)
        check_components(method, recipe.optim, self.members.size)
        self.ema = Ema(method, recipe.optim.ema) if recipe.optim.ema else None
        self.state = self._restored()
        self.invariants, self._saved_at = Invariants(method, recipe.epochs, progress.log), time.monotonic()

    def _restored(self) -> Checkpoint:
        """The checkpoint of the run's folder, put back; the state of now where there is none."""
        state, note = self.members.from_leader(lambda: checkpoints.restore(self.places.checkpoint))
        if state is None:
            return Checkpoint(self.method.state_dict(), {})
        put_back(state, self.method, self.optimisers, self.ema)
        trained = state.epoch >= self.recipe.epochs
        going_on = "all epochs are trained" if trained else f"going on at epoch {state.epoch + 1}, step {state.step}"
        self.progress.log(note or going_on)
        return state

    def out_of_patience(self) -> bool:
        """Whether no epoch of the last `recipe.patience` has the best validation measure; a line says so."""
        patience, best = self.recipe.patience, self.state.best.get("epoch")
        if patience is None or best is None or self.state.epoch - best < patience or self.state.step:
            return False
        self.progress.log(f"stopped after epoch {self.state.epoch}: the best validation was after epoch {best}")
        return True

    def start_epoch(self, epoch: int) -> None:
        """Begin the epoch's sums and checks; those of an interrupted epoch go on, with the leader."""
        self.method.train()
        self.running = RunningMeans(self.method.task, self.state.running if self.members.leader else {})
        self._begun_at = time.perf_counter()
        self.watch = Watch(self.runtime.device)
        for one in self.optimisers.values():
            self.watch.guard(one)
        self.invariants.start_epoch(epoch)

    def step(self, batch: Batch) -> None:
        """Forward and backward in each phase, and an update where the batch completes its group."""
        epoch, step, optim = batch.address.epoch, batch.address.step, self.recipe.optim
        steps = len(self.loader)
        self.rate = self.rate_at(batch.address)
        # An epoch's last group of accumulated batches may be smaller.
        first = step // optim.accumulate * optim.accumulate
        group = min(optim.accumulate, steps - first)
        if group > 1:
            batch = replace(batch, counts=self._counts(epoch, range(first, first + group)))
        batch.address.seed_layers(self.runtime.device, self.members.rank)
        for phase, one in self.optimisers.items():
            with self.runtime.computing():
                losses = self.losses_of(replace(batch, phase=phase))
            self.watch.saw(losses.total, step, phase)
            backward(losses, group, one)
            self.running.add(losses, batch, first_phase=phase == self.method.phases[0])
            self.invariants.saw(losses, step, phase)
            if self.completes_group(step):
                norm = gradient_norm(one)
                self.watch.saw(norm, step, phase)
                if optim.clip_norm is not None:
                    clip(one, optim.clip_norm, norm)
                update(one, self.rate)

    def rate_at(self, address: Address) -> float:
        """The learning rate of a step, by the recipe's schedule."""
        steps = len(self.loader)
        return learning_rate(self.recipe.optim, address.epoch * steps + address.step, steps, self.recipe.epochs)

    def _counts(self, epoch: int, steps: Sequence[int]) -> Counts:
        """How much accumulated batches hold together, over all processes."""
        first, *rest = (self.loader.counts(epoch, step) for step in steps)
        whole = sum(rest, first)
        return replace(whole, parts=len(steps) * self.members.size)

    def completes_group(self, step: int) -> bool:
        """Whether the optimisers move after this step: it ends a group of accumulated batches, or the epoch."""
        return (step + 1) % self.recipe.optim.accumulate == 0 or step + 1 == len(self.loader)

    def after_update(self, address: Address, stop: StopRequest) -> None:
        """Look for non-finite values, average the weights, and save where it is time or the run is to stop."""
        epoch, step, members = address.epoch, address.step, self.members
        last = step + 1 == len(self.loader)
        due = time.monotonic() - self._saved_at > 60 * self.recipe.checkpoint_minutes
        due, stopping = members.any(due, stop.requested)
        if bad := self.watch.bad(now=last or due or stopping):
            if members.leader:
                batches = group_of(self.loader, epoch, bad, self.recipe.optim.accumulate)
                fail(self.method, batches, self.runtime, self.places.failure)
            members.wait()
        if self.ema:
            self.ema.update()
        self.progress.step(epoch, step, self.running)
        if (due or stopping) and not last:
            self._save(epoch, step + 1, members.summed(self.running.sums))
            if stopping:
                raise Stopped(str(self.places.folder))

    def end_epoch(self, epoch: int, stop: StopRequest) -> None:
        """Check the run's invariants, validate, and save the epoch's record with the state."""
        self.invariants.end_epoch(epoch)
        self.members.check_same(self.method)
        running = RunningMeans(self.method.task, self.members.summed(self.running.sums))
        seconds = time.perf_counter() - self._begun_at
        record = {"epoch": epoch + 1, "lr": self.rate, **running.means()}
        with self.ema.applied() if self.ema else nullcontext():
            record |= self.members.from_leader(self._validate)
            keep_best(self.state, record, self.method, self.method.task.metrics().primary)
        self.state.metrics.append(record)
        self._save(epoch + 1, 0)
        self.progress.epoch(record, seconds)
        if self.members.any(stop.requested)[0]:
            raise Stopped(str(self.places.folder))

    def _validate(self) -> dict[str, float]:
        return validate(self.method.deployed(), self.val, self.loader, self.runtime, self.method.task.metrics())

    def _save(self, epoch: int, step: int, sums: dict[str, Tensor] | None = None) -> None:
        """Write the state of now, to go on at this epoch and step, with the history of before."""
        self.state = Checkpoint(
            self.method.state_dict(),
            {phase: one.state_dict() for phase, one in self.optimisers.items()},
            epoch,
            step,
            sums or {},
            self.ema.state if self.ema else None,
            self.state.best,
            self.state.metrics,
        )
        write(self.state, self.places, self.members)
        self._saved_at = time.monotonic()

    def select_weights(self) -> None:
        """Leave the method with the weights that the recipe selects: the best ones, the averaged ones, or the last."""
        if self.recipe.select == "best" and "state" in self.state.best:
            self.method.load_state_dict(self.state.best["state"])
        elif self.ema:
            self.method.load_state_dict(self.ema.state)


def backward(losses: Losses, group: int, optimiser: torch.optim.Optimizer) -> None:
    """The gradient of a batch that is one of a group; by component where the optimiser wants that."""
    if isinstance(optimiser, ComponentSGD):
        optimiser.backward({name: loss / group for name, loss in losses.components.items()})
    else:
        (losses.total / group).backward()


def clip(optimiser: torch.optim.Optimizer, most: float, norm: Tensor) -> None:
    """Scale an optimiser's gradients so that their norm is at most `most`."""
    nn.utils.clip_grads_with_norm_(moved_by(optimiser), most, norm)
    if isinstance(optimiser, ComponentSGD):
        optimiser.scale((most / (norm + 1e-6)).clamp(max=1.0))


def update(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """One optimiser step at a learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def group_of(loader: Loader, epoch: int, bad: tuple[int, str], accumulate: int) -> list[Batch]:
    """The batches whose gradients were added up at a step and phase, made again from their addresses."""
    step, phase = bad
    batches = itertools.islice(loader.whole().epoch(epoch, step // accumulate * accumulate), accumulate)
    return [replace(batch, phase=phase) for batch in batches]


def validate(
    net: nn.Module, val: Samples | None, loader: Loader, runtime: Runtime, metrics: Metrics
) -> dict[str, float]:
    """The task's watched measures on the validation set, where there is one, as "val_MEASURE"."""
    if val is None:
        return {}
    with runtime.computing():
        scores = score(net, eval_batches(val, loader.batch_size, loader.device), metrics)
    return {f"val_{one.name}": one.scale * scores[one.name] for one in metrics.watched}


def keep_best(state: Checkpoint, record: dict[str, float], method: Method, primary: Measure) -> None:
    """Keep the weights with the best validation measure, the earlier ones where two are equal."""
    key = f"val_{primary.name}"
    if key in record and primary.better(record[key], state.best.get(key)):
        state.best = {
            key: record[key],
            "epoch": record["epoch"],
            "state": no_grad_clone(method.state_dict()),
        }


def write(state: Checkpoint, places: Places, members: Team) -> None:
    """Write the finished epochs' records and the checkpoint; every process waits until they are on the disk."""
    if members.leader:
        if not state.step:
            write_text(places.metrics, lines(state.metrics))
        checkpoints.save(places.checkpoint, state)
    members.wait()


def put_back(state: Checkpoint, method: Method, optimisers: Optimisers, ema: Ema | None) -> None:
    """Put a checkpoint's tensors back."""
    try:
        method.load_state_dict(state.method)
        for phase, one in optimisers.items():
            one.load_state_dict(state.optimiser[phase])
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):  # torch has no one error for it
        raise AttarError(
            "the checkpoint is of another recipe, or damaged; restore recipe.yaml, or start again in a new out="
        ) from None
    if ema and state.ema:
        ema.state = {name: tensor.to(ema.state[name].device) for name, tensor in state.ema.items()}
