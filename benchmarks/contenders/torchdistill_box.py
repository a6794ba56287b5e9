"""torchdistill's training box, driven as its image classification example drives it; float32 is all it offers here."""

from __future__ import annotations

from collections.abc import Iterator

import common
import pipeline
import torch
from torch.utils.data import RandomSampler
from torchdistill.core.distillation import DistillationBox
from torchdistill.misc.log import MetricLogger, SmoothedValue

options = common.arguments()
teacher, student = common.networks(options)


kd_loss = {
    "key": "KDLoss",
    "kwargs": {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
        "temperature": common.TEMPERATURE,
        "alpha": common.CE,
        "reduction": "batchmean",
    },
}
box = DistillationBox(
    teacher,
    student,
    {"train": pipeline.PilCifar(options)},
    {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": options.batch, "num_workers": pipeline.WORKERS, "drop_last": True},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": dict(common.SGD)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd_loss, "weight": 1.0}}},
        },
    },
    torch.device("cpu"),
    None,
    False,
    1,
)


def steps() -> Iterator[int]:
    metrics = MetricLogger(delimiter="  ")
    metrics.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    student.train()
    box.pre_epoch_process(epoch=0)
    while True:
        for step, (images, labels, extra) in enumerate(box.train_data_loader):
            loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss=loss)
            metrics.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            yield step


common.timed(steps(), options)
