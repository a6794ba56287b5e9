"""Two processes with unequal shares of what counts have the gradient of one with the whole batch."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import nn

from attar.data.loading.tensor_loader import TensorLoader
from attar.data.tensor_set import TensorSet
from attar.distributed.team import objective, team
from attar.methods import create_method

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo to join processes"
    ),
]


class Bigram(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(7, 7)

    def forward(self, ids):
        return self.table(ids)


def method_and_loader(share=(0, 1)):
    """Five sequences, in two shares two and three of them, of 1 to 5 tokens that count."""
    ids = torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(0))
    weight = (torch.arange(5) <= torch.arange(5)[:, None]).float()
    samples = TensorSet(ids[:, :-1], ids[:, 1:], "ids", 7, weight=weight)
    method = create_method("kd", teacher=Bigram(0).double(), student=Bigram(1).double(), task="language")
    return method, TensorLoader(samples, 5, seed=0, share=share)


def gradient(method, losses_of, batch):
    losses_of(batch).total.backward()
    return next(method.parameters()).grad


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    method, loader = method_and_loader((rank, 2))
    found = gradient(method, objective(method, team()), next(loader.epoch(0)))
    if rank == 0:
        torch.save(found, Path(folder) / "gradient.pt")
    dist.destroy_process_group()


def test_the_gradient_is_that_of_one_process():
    method, loader = method_and_loader()
    expected = gradient(method, method.batch_losses, next(loader.epoch(0)))
    with tempfile.TemporaryDirectory() as folder:
        processes.get_context("forkserver").set_forkserver_preload(["attar.train.loop", "attar.data.sources.digits"])
        processes.start_processes(work, (folder,), nprocs=2, start_method="forkserver")
        found = torch.load(Path(folder) / "gradient.pt", weights_only=True)
    torch.testing.assert_close(found, expected)
