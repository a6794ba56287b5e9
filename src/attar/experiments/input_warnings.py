"""Warnings about a job's inputs that do not stop a run but change what its numbers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from attar.batch import first_tensor
from attar.data import DrawnSet, FileSet, ImageSet, Samples, eval_batches
from attar.metrics.confusions import confusion_counts
from attar.metrics.predictions import Predictions, load_predictions, predictions_file
from attar.models import are_probabilities, exchanged, observe

# A teacher below both of these has learnt little more than to guess: twice the chance, which two or three classes reach
# by guessing, and a fifth of the way from chance to certainty.
TIMES_CHANCE, ABOVE_CHANCE = 2.0, 0.2
# Predictions that are right this often once the classes are renamed come from weights with another order of classes.
RENAMED = 0.5


def overlap(
    train: Samples, test: Samples, unlabelled: ImageSet | None = None, *, samples: str = "images"
) -> str | None:
    """A warning where samples of the test set are in the training set or among the unlabelled images, byte for byte.

    A warning and no error: published sets have such pairs too, and their numbers are comparable all the same. Images
    that stay in their files are not compared: each would have to be decoded first.
    """
    if isinstance(train, FileSet | DrawnSet) or isinstance(test, FileSet | DrawnSet):
        return None
    shown = [one for one in (train, unlabelled) if one is not None]
    seen = {one for samples in shown for one in _contents(samples)}
    count = sum(one in seen for one in _contents(test))
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


def _contents(samples: Samples) -> Iterator[bytes]:
    """A digest of each sample and of which of its entries count: one graph may train and test by other nodes."""
    weight = None if isinstance(samples, ImageSet | FileSet) else samples.weight
    for number, row in enumerate(_rows(samples)):
        digest = hashlib.blake2b(row.contiguous().numpy().data, digest_size=16)
        if weight is not None:
            digest.update(weight[number].cpu().contiguous().numpy().data)
        yield digest.digest()


def odd_teachers(
    teachers: Sequence[nn.Module],
    folders: Sequence[Path],
    test: Samples,
    device: torch.device,
    trained: Collection[int] = (),
) -> list[str]:
    """Lines about teachers that hardly beat guessing, exchange classes or put out probabilities.

    Args:
        teachers: the networks.
        folders: where each one's predictions for the test set are kept; without a file there is no line.
        test: the test set. Each check needs one class number for every sample, which is what an `ImageSet` has.
        device: where a teacher is tried on some images.
        trained: the numbers of teachers, from 0, that this run has trained.
    """
    lines = []
    for number, (net, folder) in enumerate(zip(teachers, folders, strict=True)):
        file = folder / predictions_file("teacher")
        if isinstance(test, ImageSet) and file.is_file():
            found = load_predictions(file)
            weak = weak_teacher(number, found, test, number in trained)
            lines += [weak or exchanged_classes(number, found, test)]
            lines += [probabilities(number, net, test, device)]
    return list(filter(None, lines))


def weak_teacher(number: int, found: Predictions, images: ImageSet, trained: bool = False) -> str | None:
    """A warning where a teacher scores hardly above chance on its own task, with the likely cause.

    A warning and no error: some study bad teachers on purpose.

    Args:
        number: which teacher, from 0.
        found: its predictions.
        images: what they are for.
        trained: whether this run has trained it.
    """
    chance, top1 = 1 / len(images.classes), float(found.correct.mean())
    if top1 >= min(TIMES_CHANCE * chance, chance + ABOVE_CHANCE * (1 - chance)):
        return None
    scores = f"{100 * top1:.1f} % on {images.name!r}, where guessing has {100 * chance:.1f} %"
    if trained:
        return f"teacher {number + 1} has {scores}: train it longer (teacher.epochs=), or give one with weights"
    table = confusion_counts(found, len(images.classes))
    # The accuracy if each prediction meant the class it is most often given for.
    renamed = table.max(0).sum() / table.sum()
    cause = (
        f"with its classes renamed it would have {100 * renamed:.0f} %, so its weights have them in another order"
        if renamed >= RENAMED
        else "its weights were probably trained with other mean and std, another image size, or not at all"
    )
    return f"teacher {number + 1} has {scores}: {cause}"


def exchanged_classes(number: int, found: Predictions, images: ImageSet) -> str | None:
    """A warning where renaming some of a teacher's classes would make it far better; arguments of `weak_teacher`."""
    moved = exchanged(torch.from_numpy(confusion_counts(found, len(images.classes))))
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
    """A warning where a teacher puts out probabilities and not logits.

    Args:
        number: which teacher, from 0.
        teacher: the network.
        images: the first few are looked at.
        device: where the teacher runs.
    """
    batch = next(iter(eval_batches(images.subset(torch.arange(min(16, len(images)))), 16, device)))
    if not are_probabilities(observe(teacher.to(device).eval(), batch.inputs).logits):
        return None
    return (
        f"teacher {number + 1} puts out probabilities (no row is negative, each sums to 1): a temperature then softens "
        "them twice, and students learn much less; take the softmax off its end"
    )
