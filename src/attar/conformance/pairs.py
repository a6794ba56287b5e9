"""Which methods run on a pair of networks, found by trying one batch, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from attar.batch import Batch
from attar.conformance.probe import check
from attar.errors import PairError, first_line
from attar.methods.registry import create_method, method_info
from attar.models.copying import copied

ROWS = 4


def methods_for(
    teacher: nn.Module | None,
    student: nn.Module,
    names: Iterable[str],
    image_shape: tuple[int, int, int],
    classes: int,
) -> Iterator[tuple[str, str]]:
    """Each method with why it does not run on these networks; "" where it does.

    Where the networks lack what the method needs, `method_info(name).runs_on` has those that do not.

    Args:
        teacher: None: only methods that do without are tried.
        student: the network to train.
        names: the methods.
        image_shape: (C, H, W) of one image.
        classes: of both networks.

    >>> from attar.models import create_model
    >>> nets = create_model("resnet14", 6), create_model("resnet8", 6)
    >>> dict(methods_for(*nets, ["kd", "iakd"], (3, 8, 8), 6))
    {'kd': '', 'iakd': ''}
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % classes
    for name in names:
        info = method_info(name)
        if info.needs_teacher and teacher is None:
            yield name, "needs a teacher"
            continue
        images = torch.randn(ROWS, *image_shape, generator=generator)
        try:
            method = create_method(
                name,
                teacher=copied(teacher) if teacher is not None and info.takes_teacher else None,
                student=copied(student),
                image_shape=image_shape,
            )
            method.setup(labels)
            views = dict.fromkeys(method.views(), images + 0.1)
            check(method, Batch(images, labels, torch.arange(ROWS), epochs=2, views=views))
        except PairError as error:
            yield name, error.reason
        except Exception as error:  # a method may fail on networks in any way; every reason is reported
            yield name, first_line(error)
        else:
            yield name, ""
