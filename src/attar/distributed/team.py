"""One training in several processes, started by torchrun: who they are, what they agree on, who writes.

A process works on its slice of each batch; gradients, statistics of batch norm and losses between samples are those of
the whole batch, so that the result is that of one process but for rounding.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attar.batch import Batch, Counts
from attar.data.loading.device_loader import Part, part_of
from attar.distributed.synchronised import Gathered, seeing_everything
from attar.errors import AttarError, Stopped
from attar.files import write_json, write_text
from attar.knowledge import Losses
from attar.methods import Method
from attar.safety.invariants import checksums
from attar.schedules import value

T = TypeVar("T")
# How long a process that lost the others waits to be ended, so that the one that failed has the last word.
GRACE_SECONDS = 2.0
# Holds the name of the torchrun that began a run, so that its restart goes on with it.
LAUNCH = ".launch"
# One process may measure a large test set while the others wait.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Team:
    """The processes of a run. One process alone is a team too, to whom nothing here costs anything.

    Attributes:
        rank: which process this is, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leader(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """What a loader needs to know to give this process its slices."""
        return self.rank, self.size

    def wait(self) -> None:
        """A barrier: go on when all processes are here."""
        self.any(False)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process raised it; it waits for the processes but for no device."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised]

    def from_leader(self, make: Callable[[], T]) -> T:
        """What the leader made; the others wait for it."""
        if self.size == 1:
            return make()
        held = [make() if self.leader else None]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]  # type: ignore[return-value]

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through the block alone, then the others: for downloads, which one process should make."""
        if not self.leader:
            self.wait()
        yield
        if self.leader:
            self.wait()

    def summed(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all processes, numbers and tables; each has the same keys and shapes."""
        if self.size == 1 or not sums:
            return sums
        ordered = [sums[key] for key in sorted(sums)]
        together = torch.cat([one.float().flatten() for one in ordered])
        dist.all_reduce(together)
        parts = zip(ordered, together.split([one.numel() for one in ordered]), strict=True)
        return dict(zip(sorted(sums), (part.view(one.shape) for one, part in parts), strict=True))

    def check_same(self, method: Method) -> None:
        """Every process holds the same weights, bit for bit.

        Raises:
            AttarError: one does not.
        """
        if self.size == 1:
            return
        least = checksums(list(method.parameters()))
        most = least.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise AttarError(
                "the processes no longer have the same weights; do they run on machines with different software? "
                "`attar resume` goes on from the last checkpoint"
            )


def team() -> Team:
    """The processes that work together now."""
    if dist.is_available() and dist.is_initialized():
        return Team(dist.get_rank(), dist.get_world_size())
    return Team()


def join() -> Team:
    """Join the processes that torchrun started together with this one; without it, a team of one.

    Gloo joins them on the CPU, and NCCL on GPUs too, of which each process has one.

    Raises:
        AttarError: there are more processes on this machine than GPUs.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched() or dist.is_initialized():
        return team()
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if gpus:
        if int(os.environ["LOCAL_WORLD_SIZE"]) > gpus:
            raise AttarError(
                f"{os.environ['LOCAL_WORLD_SIZE']} processes for {gpus} GPUs; give torchrun --nproc_per_node={gpus}, "
                "or hide the GPUs with CUDA_VISIBLE_DEVICES="
            )
        torch.cuda.set_device(local)
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    # torchrun keeps its store when it starts processes again, and in it the addresses of those that died.
    store = dist.PrefixStore(f"start{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    atexit.register(leave)
    return team()


def leave() -> None:
    """The end of the team; what follows is computed alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch() -> str:
    """A name for the torchrun that started this process, the same after an elastic restart; "" without one."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return ""
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {socket.gethostname()} {os.getppid()}"


def sign(folder: Path) -> None:
    """Note in a run's folder which torchrun began it."""
    if launch():
        write_text(folder / LAUNCH, launch())


def begun_here(folder: Path, recipe: str) -> bool:
    """Whether a folder holds this recipe, begun by the torchrun that started this process again (--max-restarts)."""
    held = [folder / LAUNCH, folder / "recipe.yaml"]
    if not int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) or not all(file.is_file() for file in held):
        return False
    return [file.read_text(encoding="utf-8") for file in held] == [launch(), recipe]


@contextmanager
def surviving() -> Iterator[None]:
    """Report what ends this process to torchrun; one that only lost the others waits for the one that failed.

    Raises:
        AttarError: the other processes are gone and this one was not stopped.
    """
    try:
        yield
    except AttarError as error:
        report_to_torchrun(str(error))
        raise
    except Stopped as stopped:
        report_to_torchrun(f"stopped; the state is saved: attar resume {quote(str(stopped))}")
        raise
    except RuntimeError as error:
        if team().size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        time.sleep(GRACE_SECONDS)
        raise AttarError(
            f"process {team().rank} stops because another process of this run ended, see its message; "
            "`attar resume` goes on from the last checkpoint"
        ) from None


def report_to_torchrun(message: str) -> None:
    """The line that torchrun's own report of a failure ends with."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        record = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(time.time()))}}
        write_json(Path(file), {"message": record})


class Objective(nn.Module):
    """A method's losses on this process's slice, with the gradient of the whole batch's: what DDP wraps.

    Args:
        method: everything that learns.
        members: the processes.
    """

    def __init__(self, method: Method, members: Team) -> None:
        super().__init__()
        self.method, self.members = method, members

    def forward(self, batch: Batch) -> Losses:
        """The total's value is the slice's own; its gradient is what the slice adds to the batch's (`Batch.counts`)."""
        assert isinstance(batch, Part)
        size = self.members.size
        parts = [part_of(batch.whole, rank, size) for rank in range(size)]
        sizes = [part.stop - part.start for part in parts]
        # DDP divides by the number of processes, and so does the loop by that of accumulated batches.
        counts = batch.counts or Counts(batch.whole, batch.whole, summed_weight(batch), size)
        part = replace(batch, gather=lambda rows: Gathered.apply(rows, sizes), counts=counts)
        with seeing_everything(self.method.edges, sizes):
            return self.method.batch_losses(part)


def summed_weight(batch: Batch) -> Tensor | None:
    """The weight of a batch over all processes, each of which holds a slice; it stays on the device."""
    if batch.weight is None:
        return None
    weight = batch.weight.sum()
    dist.all_reduce(weight)
    return weight


def objective(method: Method, members: Team, epochs: int = 1) -> Callable[[Batch], Losses]:
    """What the loop calls on each batch: the method's own losses, or, in several processes, `Objective` under DDP."""
    if members.size == 1:
        return method.batch_losses
    # A phase, or a weight that is 0 in some epoch, leaves parameters without a gradient.
    weights = (value(edge.weight, epoch, epochs) for edge in method.edges for epoch in range(epochs))
    partial = len(method.phases) > 1 or 0.0 in weights
    wrapped = DistributedDataParallel(Objective(method, members), find_unused_parameters=partial)
    # Statistics are the same everywhere: nothing to send in each pass.
    wrapped.broadcast_buffers = False
    return wrapped
