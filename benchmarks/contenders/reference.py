"""A loop in the style of the reference repositories: PIL images from workers, float32, NCHW, the loss and two
accuracies read from the device in every step, features collected whether or not they are used."""

from __future__ import annotations

from collections.abc import Iterator

import common
import pipeline
import torch
import torch.nn.functional as F

from attar.models import observe

options = common.arguments()
teacher, student = common.networks(options)
student.train()
optimiser = torch.optim.SGD(student.parameters(), **common.SGD)
TAPS = ("stage1", "stage2", "stage3")


def soft_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    log_p = F.log_softmax(logits / common.TEMPERATURE, dim=1)
    q = F.softmax(taught / common.TEMPERATURE, dim=1)
    return F.kl_div(log_p, q, reduction="sum") * common.TEMPERATURE**2 / logits.shape[0]


def accuracies(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    hits = logits.topk(5, 1).indices.t().eq(labels.view(1, -1))
    return [hits[:k].reshape(-1).float().sum().item() * 100 / len(labels) for k in (1, 5)]


def steps() -> Iterator[int]:
    seen: list[list[float]] = []
    while True:
        for step, (images, labels) in enumerate(pipeline.loader(options)):
            images, labels = images.to(options.device), labels.to(options.device)
            said = observe(student, images, TAPS)
            with torch.no_grad():
                taught = observe(teacher, images, TAPS)
            hard = F.cross_entropy(said.logits, labels)
            loss = common.CE * hard + common.KD * soft_loss(said.logits, taught.logits)
            seen.append([loss.item(), *accuracies(said.logits, labels)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield step


common.timed(steps(), options)
