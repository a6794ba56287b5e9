"""timm's logit-distillation task in the step of its training script, with what that script offers switched on:
bfloat16 autocast and channels last. Images come from the usual pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import common
import pipeline
import torch
from timm.task import LogitDistillationTask
from torch import nn

options = common.arguments()
train = common.cifar(options).train
teacher, student = (net.to(memory_format=torch.channels_last) for net in common.networks(options))
for net in (teacher, student):
    # The task asks its networks for this, as timm's own have it.
    net.pretrained_cfg = {"mean": train.mean, "std": train.std}
    net.num_classes, net.in_chans = 100, 3
task = LogitDistillationTask(
    student_model=student,
    teacher_model=teacher,
    criterion=nn.CrossEntropyLoss(),
    task_loss_weight=common.CE,
    distill_loss_weight=common.KD,
    temperature=common.TEMPERATURE,
    device=torch.device("cpu"),
    verbose=False,
)
task.train()
optimiser = torch.optim.SGD(student.parameters(), nesterov=True, **common.SGD)


def steps() -> Iterator[int]:
    while True:
        for step, (images, labels) in enumerate(pipeline.loader(options, persistent_workers=True)):
            images = images.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = task(images, labels)["loss"]
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            yield step


common.timed(steps(), options)
