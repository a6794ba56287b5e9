"""Distillation under Accelerate, in bfloat16: accelerate launch --num_processes 2 examples/own_loop_accelerate.py"""

from pathlib import Path

import torch
from accelerate import Accelerator
from own_loop_parts import build_method, loader


def main(epochs: int = 2, out: str = ".", cpu: bool = False) -> torch.nn.Module:
    accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2, cpu=cpu)
    method, checkpoint = build_method(), Path(out) / "checkpoint"
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05, momentum=0.9)
    wrapped, optimiser, batches = accelerator.prepare(method, optimiser, loader(shuffle=True))
    start = 0
    if checkpoint.exists():
        accelerator.load_state(checkpoint)
        start = int((checkpoint / "epochs").read_text())

    for epoch in range(start, epochs):
        batches.set_epoch(epoch)
        wrapped.train()
        for step, (inputs, labels) in enumerate(batches):
            with accelerator.accumulate(wrapped):
                losses = wrapped(inputs, labels, epoch=epoch, epochs=epochs, step=step)
                accelerator.backward(losses["total"])
                optimiser.step()
                optimiser.zero_grad()
        accelerator.print(epoch, {edge: round(loss.item(), 3) for edge, loss in losses.items()})
        accelerator.save_state(checkpoint)
        if accelerator.is_main_process:
            (checkpoint / "epochs").write_text(str(epoch + 1))
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        torch.save(method.deployed().state_dict(), Path(out) / "student.pth")
    return method


if __name__ == "__main__":
    main()
