"""Distillation under DistributedDataParallel: torchrun --nproc_per_node=2 examples/own_loop_ddp.py"""

from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from own_loop_parts import build_method, dataset, loader
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

ACCUMULATE = 2


def main(epochs: int = 2, out: str = ".") -> torch.nn.Module:
    dist.init_process_group("gloo")  # "nccl" on GPUs
    method, leader = build_method(), dist.get_rank() == 0
    ddp = DistributedDataParallel(method)
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05, momentum=0.9)
    checkpoint, start = Path(out) / "checkpoint.pt", 0
    if checkpoint.exists():  # every process reads it
        state = torch.load(checkpoint)
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["epoch"] + 1

    sampler = DistributedSampler(dataset())
    batches = loader(sampler=sampler)
    for epoch in range(start, epochs):
        sampler.set_epoch(epoch)
        ddp.train()
        for step, (inputs, labels) in enumerate(batches):
            moves = (step + 1) % ACCUMULATE == 0 or step + 1 == len(batches)
            with nullcontext() if moves else ddp.no_sync():  # gradients are summed up once an update
                with torch.autocast("cpu", torch.bfloat16):
                    losses = ddp(inputs, labels, epoch=epoch, epochs=epochs, step=step)
                (losses["total"] / ACCUMULATE).backward()
            if moves:
                optimiser.step()
                optimiser.zero_grad()
        if leader:
            print(epoch, {edge: round(loss.item(), 3) for edge, loss in losses.items()})
            state = {"method": method.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}
            torch.save(state, checkpoint)
    if leader:
        torch.save(method.deployed().state_dict(), Path(out) / "student.pth")
    del ddp  # before the group: a DDP that outlives it can wait for ever in its destructor (gloo, torch 2.13)
    dist.destroy_process_group()
    return method


if __name__ == "__main__":
    main()
