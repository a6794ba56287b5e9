"""Distillation in a plain PyTorch loop, in bfloat16, with accumulated batches; started again, it goes on exactly."""

from pathlib import Path

import torch
from own_loop_parts import build_method, loader

ACCUMULATE = 2


def main(epochs: int = 2, out: str = ".") -> torch.nn.Module:
    method = build_method()
    optimiser = torch.optim.SGD(method.trainable(), lr=0.05, momentum=0.9)  # the student and its bridge
    method.check_optimiser(optimiser)
    batches = loader(shuffle=True)
    checkpoint, start = Path(out) / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["epoch"] + 1

    for epoch in range(start, epochs):
        torch.manual_seed(epoch)  # the order of the images, and dropout: a resumed run draws the same
        method.train()  # the teacher stays in eval mode
        for step, (inputs, labels) in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16):
                losses = method(inputs, labels, epoch=epoch, epochs=epochs, step=step)
            (losses["total"] / ACCUMULATE).backward()
            if (step + 1) % ACCUMULATE == 0 or step + 1 == len(batches):  # no gradient is left for the next epoch
                optimiser.step()
                optimiser.zero_grad()
        print(epoch, {edge: round(loss.item(), 3) for edge, loss in losses.items()})
        state = {"method": method.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}
        torch.save(state, checkpoint)
    torch.save(method.deployed().state_dict(), Path(out) / "student.pth")
    return method


if __name__ == "__main__":
    main()
