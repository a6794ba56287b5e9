"""Distillation as a task of timm's training script (tried with timm 1.0.31): python examples/own_loop_timm.py"""

from pathlib import Path

import timm.optim
import timm.utils
import torch
from own_loop_parts import build_method, loader
from timm.task import TrainingTask, resume_task_checkpoint
from torch.nn.parallel import DistributedDataParallel

import attar


class DistillationTask(TrainingTask):
    """What timm's train.py takes for its `task`; `steps` is the number of batches in an epoch."""

    def __init__(self, method: attar.Method, steps: int, epochs: int) -> None:
        super().__init__(next(method.parameters()).device)
        self.method = self.trainable_module = method
        self.eval_model = method.deployed()
        self.steps, self.epochs, self.done = steps, epochs, 0

    def prepare_distributed(self, device_ids=None, **options):
        if self.device.type == "cpu":
            device_ids = None  # train.py names the device, which DistributedDataParallel takes of GPUs alone
        self.trainable_module = DistributedDataParallel(self.method, device_ids, **options)
        return self

    def get_eval_model(self, module=None, ema=False):
        if not ema:
            return self.eval_model
        return self.trainable_module_ema.module.deployed() if self.has_ema() else None  # it averages the whole method

    def forward(self, input, target):
        epoch, step = divmod(self.done, self.steps)
        self.done += self.training
        losses = self.trainable_module(input, target, epoch=epoch, epochs=self.epochs, step=step)
        return {"loss": losses.pop("total"), **losses}

    def get_task_state(self, module=None, ema=False):
        return {} if ema else {"method": self.method.state_dict(), "done": self.done}

    def load_task_state(self, state, strict=True, module=None, ema=False):
        if not ema:
            self.method.load_state_dict(state["method"], strict)
            self.done = state["done"]


def main(epochs: int = 2, out: str = ".", accumulate: int = 2) -> torch.nn.Module:
    batches = loader(shuffle=True)
    task = DistillationTask(build_method(), len(batches), epochs)
    optimiser = timm.optim.create_optimizer_v2(task.method, "momentum", lr=0.05, momentum=0.9)
    saver = timm.utils.CheckpointSaver(task.eval_model, optimiser, checkpoint_dir=out, task=task)
    checkpoint = Path(out) / "last.pth.tar"
    start = resume_task_checkpoint(task, checkpoint, optimiser, log_info=False) if checkpoint.exists() else 0

    for epoch in range(start, epochs):
        torch.manual_seed(epoch)  # the order of the images, and dropout: a resumed run draws the same
        task.train()
        for step, (inputs, labels) in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16):
                result = task(inputs, labels)
            (result["loss"] / accumulate).backward()
            if (step + 1) % accumulate == 0 or step + 1 == len(batches):  # no gradient is left for the next epoch
                optimiser.step()
                optimiser.zero_grad()
        print(epoch, {edge: round(loss.item(), 3) for edge, loss in result.items()})
        saver.save_checkpoint(epoch)
    torch.save(task.method.deployed().state_dict(), Path(out) / "student.pth")
    return task.method


if __name__ == "__main__":
    main()
