"""Distillation under Accelerate, in bfloat16: accelerate launch --num_processes 2 examples/loop_accelerate.py"""

import torch
from accelerate import Accelerator
from loop_parts import build_method, loader


def main(epochs: int = 1, cpu: bool = False) -> torch.nn.Module:
    accelerator = Accelerator(mixed_precision="bf16", cpu=cpu)
    method = build_method()
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05)
    wrapped, optimiser, batches = accelerator.prepare(method, optimiser, loader(shuffle=True))
    for epoch in range(epochs):
        for step, (inputs, labels) in enumerate(batches):
            optimiser.zero_grad()
            accelerator.backward(wrapped(inputs, labels, epoch=epoch, epochs=epochs, step=step)["total"])
            optimiser.step()
    return method


if __name__ == "__main__":
    main()
