"""How much a mistake on each class counts, where classes are not alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attar.data.images import ImageSet
from attar.errors import AttarError, unknown

BALANCED = "balanced"


def class_weights(
    given: str | Sequence[float] | Mapping[str, float] | None, images: ImageSet
) -> tuple[float, ...] | None:
    """The weight of every class in the cross-entropy with labels.

    Args:
        given: "balanced": N / (K n), of N images in K classes, n in the class, as scikit-learn has it; a number for
            each class, in their order; numbers by the names of classes, the others weighing 1; None: no weights.
        images: the training images.

    Raises:
        AttarError: it is none of these, a class is unknown or has no image to be balanced, a number is not above 0, or
            images have several labels.

    >>> import torch
    >>> pixels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    >>> pets = ImageSet(pixels, torch.tensor([0, 0, 0, 1]), ("cat", "dog"), "pets", (0.5,), (0.5,))
    >>> [round(weight, 3) for weight in class_weights("balanced", pets)]
    [0.667, 2.0]
    """
    names = images.classes
    if given is None:
        return None
    if images.multilabel:
        raise AttarError(
            f"data.class_weights weighs one class an image, those of {images.name!r} have several; leave it out"
        )
    if isinstance(given, str):
        if given != BALANCED:
            raise unknown(
                "value of data.class_weights:", given, [BALANCED, "a list", "a mapping of classes to numbers"]
            )
        return _balanced(images)
    if isinstance(given, Mapping):
        weights = {str(name): weight for name, weight in given.items()}
        for name in weights:
            if name not in names:
                raise unknown("class in data.class_weights:", name, names)
        given = [weights.get(name, 1.0) for name in names]
    if not isinstance(given, Sequence) or len(given) != len(names):
        found = f"{len(given)} numbers" if isinstance(given, Sequence) else repr(given)
        raise AttarError(f"data.class_weights must be one number for each of {len(names)} classes, got {found}")
    return tuple(_weight(name, weight) for name, weight in zip(names, given, strict=True))


def _weight(name: str, weight: object) -> float:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 < float(weight) < math.inf:  # type: ignore[arg-type]
        raise AttarError(f"data.class_weights: the weight of class {name!r} must be above 0, got {weight!r}")
    return float(weight)  # type: ignore[arg-type]


def _balanced(images: ImageSet) -> tuple[float, ...]:
    counts = images.labels.bincount(minlength=len(images.classes)).tolist()
    if 0 in counts:
        name = images.classes[counts.index(0)]
        raise AttarError(
            f"data.class_weights=balanced: class {name!r} has no training image; give the weights as numbers"
        )
    return tuple(len(images) / (len(counts) * count) for count in counts)
