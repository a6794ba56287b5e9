"""The training loop, flat: it reads from top to bottom, and nothing in it calls back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from attar.batch import Batch
from attar.data import DeviceLoader, ImageSet, eval_batches
from attar.errors import AttarError, Stopped
from attar.files import write_atomically, write_text
from attar.knowledge import Losses
from attar.losses import CrossEntropy
from attar.measure import evaluate
from attar.methods import Method
from attar.methods.base import no_grad_clone
from attar.recipe import Recipe
from attar.train import checkpoint as checkpoints
from attar.train.checkpoint import Checkpoint
from attar.train.ema import Ema
from attar.train.metrics import lines
from attar.train.optim import optimiser
from attar.train.progress import Progress
from attar.train.runtime import Runtime
from attar.train.schedules import learning_rate
from attar.train.tally import Tally

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


def fit(
    method: Method,
    loader: DeviceLoader,
    val: ImageSet | None,
    recipe: Recipe,
    runtime: Runtime,
    places: Places,
    progress: Progress,
) -> None:
    """Train a method to the end of its recipe, from its checkpoint where there is one.

    The method holds the weights of `recipe.select` afterwards. Every epoch ends with a checkpoint and a line in
    metrics.jsonl.

    Raises:
        AttarError: the loss is not a finite number; the batch and the state are saved first.
        Stopped: the process was asked to stop (SIGINT, SIGTERM); the state is saved first.
    """
    smooth_labels(method, recipe.optim.label_smoothing)
    learners = {turn: optimiser(method.trainable(turn), recipe.optim) for turn in method.turns}
    ema = Ema(method, recipe.optim.ema) if recipe.optim.ema else None
    state, note = checkpoints.restore(places.checkpoint)
    if state is None:
        state = Checkpoint(method.state_dict(), {})
    else:
        resume(state, method, learners, ema)
        progress.say(note or f"going on at epoch {state.epoch + 1}, step {state.step}")

    accumulate = recipe.optim.accumulate
    with stop_requests() as stop, torch.random.fork_rng(devices=[]):
        for epoch in range(state.epoch, recipe.epochs):
            method.train()
            tally, start = Tally(state.tally), time.perf_counter()
            for batch in loader.epoch(epoch, state.step):
                step = batch.address.step
                rate = learning_rate(recipe.optim, epoch * len(loader) + step, len(loader), recipe.epochs)
                # An epoch's last group of batches may be smaller.
                group = min(accumulate, len(loader) - step // accumulate * accumulate)
                complete = (step + 1) % accumulate == 0 or step + 1 == len(loader)
                # Dropout layers draw from the global generator: it follows from the address too.
                torch.manual_seed(batch.address.generator("layers").initial_seed())
                for turn, learner in learners.items():
                    with runtime.autocast():
                        losses = method.batch_losses(replace(batch, turn=turn))
                    stop_if_not_finite(losses, batch, method, places)
                    (losses.total / group).backward()
                    tally.add(losses, batch, first_turn=turn == method.turns[0])
                    if complete:
                        update(learner, rate, recipe.optim.clip_norm)
                if not complete:
                    continue
                if ema:
                    ema.update()
                progress.step(epoch, step, tally)
                if stop.requested and step + 1 < len(loader):
                    state = snapshot(state, method, learners, ema, epoch, step + 1, tally)
                    checkpoints.save(places.checkpoint, state)
                    raise Stopped(str(places.folder))
            seconds = time.perf_counter() - start
            record = {"epoch": epoch + 1, "lr": rate, **tally.means()}
            with ema.applied() if ema else nullcontext():
                record |= validate(method.deployed(), val, loader, runtime)
                keep_best(state, record, method)
            state = snapshot(state, method, learners, ema, epoch + 1, 0)
            state.metrics.append(record)
            write_text(places.metrics, lines(state.metrics))
            checkpoints.save(places.checkpoint, state)
            progress.epoch(record, seconds)
            if stop.requested:
                raise Stopped(str(places.folder))
    if recipe.select == "best" and "state" in state.best:
        method.load_state_dict(state.best["state"])
    elif ema:
        method.load_state_dict(ema.state)


def update(learner: torch.optim.Optimizer, rate: float, clip_norm: float | None) -> None:
    """One optimiser step at a learning rate."""
    for group in learner.param_groups:
        group["lr"] = rate
    if clip_norm is not None:
        nn.utils.clip_grad_norm_([p for group in learner.param_groups for p in group["params"]], clip_norm)
    learner.step()
    learner.zero_grad(set_to_none=True)


def validate(net: nn.Module, val: ImageSet | None, loader: DeviceLoader, runtime: Runtime) -> dict[str, float]:
    """Accuracy and NLL on the validation set, where there is one."""
    if val is None:
        return {}
    with runtime.autocast():
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
    tally: Tally | None = None,
) -> Checkpoint:
    """The state of now, with the history of before."""
    return Checkpoint(
        method.state_dict(),
        {turn: learner.state_dict() for turn, learner in learners.items()},
        epoch,
        step,
        tally.sums if tally else {},
        ema.state if ema else None,
        state.best,
        state.metrics,
    )


def resume(state: Checkpoint, method: Method, learners: Learners, ema: Ema | None) -> None:
    """Put a checkpoint's tensors back."""
    try:
        method.load_state_dict(state.method)
        for turn, learner in learners.items():
            learner.load_state_dict(state.optimiser[turn])
    except (RuntimeError, ValueError, KeyError):
        raise AttarError(
            "the checkpoint is of another recipe; restore recipe.yaml, or start again in a new out="
        ) from None
    if ema and state.ema:
        ema.state = {name: tensor.to(ema.state[name].device) for name, tensor in state.ema.items()}


def smooth_labels(method: Method, amount: float) -> None:
    """Label smoothing in every edge whose teacher is the labels."""
    for edge in method.edges:
        if amount and edge.source == "labels" and isinstance(edge.loss, CrossEntropy):
            edge.loss.label_smoothing = amount


def stop_if_not_finite(losses: Losses, batch: Batch, method: Method, places: Places) -> None:
    """Stop at a NaN or infinite loss, naming the edge, with the batch and the state saved for a replay."""
    if torch.isfinite(losses.total):
        return
    edge = next((key for key, term in losses.terms.items() if not torch.isfinite(term)), "the weighted sum")
    failure = {
        "images": batch.images,
        "labels": batch.labels,
        "index": batch.index,
        "address": vars(batch.address),
        "epochs": batch.epochs,
        "terms": {key: float(term.detach()) for key, term in losses.terms.items()},
        "method": method.state_dict(),
    }
    write_atomically(places.failure, lambda temporary: torch.save(failure, temporary))
    raise AttarError(
        f"the loss is {float(losses.total.detach()):g} at epoch {batch.address.epoch + 1}, step {batch.address.step}: "
        f"edge {edge!r}; the batch and the state are in {places.failure}; try a lower optim.lr or optim.clip_norm=1"
    )


@dataclass
class StopRequest:
    """Whether somebody asked the run to stop."""

    requested: bool = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM become a request that the loop honours after the step; a second one interrupts at once."""
    stop = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals stay as they are
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
