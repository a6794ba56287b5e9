"""The best loop that a careful person writes by hand: the set in memory as bytes, crops and flips for whole batches,
bfloat16 (or --precision float32), channels last, a frozen teacher with its norms folded. Variant "cached": the
teacher's logits are known."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import common
import torch
import torch.nn.functional as F

from attar.models.surgery.folding import fold_norms


def varied(pixels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Cropped and flipped, the whole batch at once."""
    top, left = torch.randint(9, (2, len(index)), device=pixels.device)
    windows = pixels[index].unfold(2, 32, 1).unfold(3, 32, 1)
    images = windows[torch.arange(len(index), device=pixels.device), :, top, left]
    return torch.where(torch.rand(len(index), 1, 1, 1, device=pixels.device) < 0.5, images.flip(-1), images)


def steps(options: argparse.Namespace) -> Iterator[int]:
    teacher, student = common.networks(options)
    train = common.cifar(options).train
    student = student.to(memory_format=torch.channels_last).train()
    dtype = getattr(torch, options.precision)
    teacher = fold_norms(teacher).to(dtype=dtype, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(student.parameters(), nesterov=True, fused=True, **common.SGD)
    device = torch.device(options.device)
    mean, std = (255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (train.mean, train.std))
    pixels, all_labels = F.pad(train.images, (4, 4, 4, 4)).to(device), train.labels.to(device)
    known = torch.randn(len(train), 100, device=device).half()  # what they are makes no difference to the time
    while True:
        order = torch.randperm(len(train)).to(device)
        for step in range(len(order) // options.batch):
            index = order[step * options.batch : (step + 1) * options.batch]
            images = varied(pixels, index).float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
            labels = all_labels[index]
            with torch.no_grad():
                taught = known[index].float() if options.variant == "cached" else teacher(images.to(dtype)).float()
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = student(images).float()
            soft = F.kl_div(
                F.log_softmax(logits / common.TEMPERATURE, 1),
                F.log_softmax(taught / common.TEMPERATURE, 1),
                log_target=True,
                reduction="batchmean",
            )
            loss = common.CE * F.cross_entropy(logits, labels) + common.KD * common.TEMPERATURE**2 * soft
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            yield step


if __name__ == "__main__":
    options = common.arguments()
    common.timed(steps(options), options)
