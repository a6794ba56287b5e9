"""Distillation under DistributedDataParallel: torchrun --nproc_per_node=2 examples/loop_ddp.py"""

import torch
import torch.distributed as dist
from loop_parts import build_method, dataset, loader
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler


def main(epochs: int = 1) -> torch.nn.Module:
    dist.init_process_group("gloo")  # "nccl" on GPUs
    method = build_method()
    ddp = DistributedDataParallel(method)
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05)
    sampler = DistributedSampler(dataset())
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for step, (inputs, labels) in enumerate(loader(sampler=sampler)):
            optimiser.zero_grad()
            ddp(inputs, labels, epoch=epoch, epochs=epochs, step=step)["total"].backward()
            optimiser.step()
    del ddp  # before the group: a DDP that outlives it can wait for ever in its destructor (gloo, torch 2.13)
    dist.destroy_process_group()
    return method


if __name__ == "__main__":
    main()
