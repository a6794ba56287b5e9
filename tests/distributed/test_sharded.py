"""A teacher in parts teaches what the whole one teaches, and each process holds its part only."""

from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import nn

from attar.data import load_data, loader_for
from attar.distributed.sharded import shard
from attar.distributed.team import objective, team
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import Frozen, create_model

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo to join processes"
)


class Reader(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        return images.flatten(1) @ self.layer.weight.T


def losses_of(name, members, split):
    """Losses and gradients of two batches, and how many numbers of the teacher a process holds."""
    torch.manual_seed(0)
    nets = [create_model(net, num_classes=10, in_channels=1, image_size=8) for net in ("resnet14", "resnet8")]
    method = create_method(name, teacher=nets[0], student=nets[1], image_shape=(1, 8, 8))
    splits = load_data("digits", val_fraction=0.05, train_size=30)
    loader, found = loader_for(splits.train, 15, seed=0, epochs=1, share=members.share), []
    batches = list(loader.epoch(0))
    held = [shard(frozen, batches[0].inputs) for frozen in method.frozen()] if split else [0]
    wrapped = objective(method.train(), members)
    for batch in batches:
        total = wrapped(replace(batch, phase=method.phases[0])).total
        total.backward()
        found.append(total.detach())
    return [*found, *(p.grad.clone() for p in method.parameters() if p.grad is not None)], held[0]


def work(rank, size, folder):
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=limit)
    results = {}
    for name in ("kd", "at"):
        whole, _ = losses_of(name, team(), split=False)
        parts, held = losses_of(name, team(), split=True)
        results[name] = (all(map(torch.equal, whole, parts)), len(whole), held)
    try:
        shard(Frozen(Reader()), torch.ones(2, 1, 8, 8))
    except AttarError as error:
        results["refused"] = str(error)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_a_sharded_teacher_teaches_the_same_and_each_process_holds_its_part(tmp_path):
    processes.get_context("forkserver").set_forkserver_preload(["attar.train.loop", "attar.data.sources.digits"])
    processes.start_processes(work, (2, tmp_path), nprocs=2, start_method="forkserver")
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    whole = sum(p.numel() for p in create_model("resnet14", num_classes=10, in_channels=1, image_size=8).parameters())
    for name in ("kd", "at"):
        assert one[name][0]
        assert other[name][0]
        assert one[name][1] > 20  # losses and gradients
        assert one[name][2] + other[name][2] == whole
        assert max(one[name][2], other[name][2]) < 0.51 * whole
    assert one["refused"].startswith("Reader cannot be sharded layer by layer (")
    assert "\n" not in one["refused"]


def test_one_process_has_nothing_to_share():
    with pytest.raises(AttarError, match="start them with torchrun"):
        shard(Frozen(nn.Linear(2, 2)), torch.zeros(1, 2))
