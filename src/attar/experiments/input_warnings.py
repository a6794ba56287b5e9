"""Warnings about a job's inputs that do not stop a run but change what its numbers mean."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from attar.batch import first_tensor
from attar.data import FileSet, ImageSet, Samples, batches_of, eval_batches
from attar.models import are_probabilities, exchanged, observe

# A teacher below both of these has learnt little more than to guess: twice the chance, which two or three classes reach
# by guessing, and a fifth of the way from chance to certainty.
TIMES_CHANCE, ABOVE_CHANCE = 2.0, 0.2
# Predictions that are right this often once the classes are renamed come from weights with another order of classes.
RENAMED = 0.5
SAMPLE = 2000


def overlap(
    train: Samples, test: Samples, unlabelled: ImageSet | None = None, *, samples: str = "images"
) -> str | None:
    """A warning where samples of the test set are in the training set or among the unlabelled images, byte for byte.

    A warning and no error: published sets have such pairs too, and their numbers are comparable all the same. Images
    that stay in their files are not compared: each would have to be decoded first.
    """
    if isinstance(train, FileSet) or isinstance(test, FileSet):
        return None
    shown = [one for one in (train, unlabelled) if one is not None]
    seen = {_content(row) for one in shown for row in _rows(one)}
    count = sum(_content(row) in seen for row in _rows(test))
    if not count:
        return None
    also = " or among the unlabelled images" if unlabelled is not None else ""
    return (
        f"{count} of the {len(test)} test {samples} are in the training set{also}, byte for byte: the test scores are "
        "too good; remove them from one of the two"
    )


def _rows(samples: Samples) -> torch.Tensor:
    """What networks see of each sample, of several inputs the first."""
    return (samples.images if isinstance(samples, ImageSet) else first_tensor(samples.inputs)).cpu()


def _content(image: torch.Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def weak_teacher(number: int, teacher: nn.Module, images: ImageSet, top1: float, device: torch.device) -> str | None:
    """A warning where a teacher scores hardly above chance on its own task, with the likely cause.

    A warning and no error: some study bad teachers on purpose.

    Args:
        number: which teacher, from 0.
        teacher: the network.
        images: what it was measured on.
        top1: how much it got right, in 0..1.
        device: where to look for the cause.
    """
    chance = 1 / len(images.classes)
    if top1 >= min(TIMES_CHANCE * chance, chance + ABOVE_CHANCE * (1 - chance)):
        return None
    sample = images.subset(torch.arange(0, len(images), max(1, len(images) // SAMPLE)))
    renamed = renamed_accuracy(teacher, sample, device)
    cause = (
        f"with its classes renamed it would have {100 * renamed:.0f} %, so its weights have them in another order"
        if renamed >= RENAMED
        else "its weights were probably trained with other mean and std, another image size, or not at all"
    )
    scores = f"{100 * top1:.1f} % on {images.name!r}, where guessing has {100 * chance:.1f} %"
    return f"teacher {number + 1} has {scores}: {cause}"


def renamed_accuracy(teacher: nn.Module, images: ImageSet, device: torch.device) -> float:
    """The accuracy if each prediction meant the class it is most often given for."""
    table = confusion(teacher, images, device)
    return float(table.max(0).values.sum() / table.sum())


@torch.no_grad()
def confusion(teacher: nn.Module, images: ImageSet, device: torch.device) -> torch.Tensor:
    """(K, K) counts of a teacher's predictions, labels down, predictions across."""
    count = len(images.classes)
    teacher.to(device).eval()
    table = torch.zeros(count, count)
    for batch in batches_of(images, device):
        predicted = observe(teacher, batch.inputs).logits.argmax(1).cpu()
        table += torch.zeros(count, count).index_put_((batch.labels.cpu(), predicted), torch.ones(()), accumulate=True)
    return table


def exchanged_classes(number: int, teacher: nn.Module, images: ImageSet, device: torch.device) -> str | None:
    """A warning where renaming some of a teacher's classes would make it far better on them.

    Args:
        number: which teacher, from 0.
        teacher: the network.
        images: labelled images; of many, `SAMPLE` are looked at.
        device: where the teacher runs.
    """
    sample = images.subset(torch.arange(0, len(images), max(1, len(images) // SAMPLE)))
    moved = exchanged(confusion(teacher, sample, device))
    if not moved:
        return None
    names = ", ".join(repr(images.classes[one]) for one in moved[:4]) + (", ..." if len(moved) > 4 else "")
    return (
        f"teacher {number + 1} predicts {len(moved)} of {len(images.classes)} classes under each other's names "
        f"({names}): its weights have them in another order; give the rows of its classifier to use, "
        "teacher.classes=[...]"
    )


@torch.no_grad()
def probabilities(number: int, teacher: nn.Module, images: ImageSet, device: torch.device) -> str | None:
    """A warning where a teacher puts out probabilities and not logits; arguments as for `exchanged_classes`."""
    batch = next(iter(eval_batches(images.subset(torch.arange(min(16, len(images)))), 16, device)))
    if not are_probabilities(observe(teacher.to(device).eval(), batch.inputs).logits):
        return None
    return (
        f"teacher {number + 1} puts out probabilities (no row is negative, each sums to 1): a temperature then softens "
        "them twice, and students learn much less; take the softmax off its end"
    )
