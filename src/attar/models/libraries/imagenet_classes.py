"""Which of ImageNet's thousand classes a data set's class names mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from attar.errors import AttarError
from attar.models.libraries.imports import import_timm


def imagenet_rows(classes: Sequence[str]) -> list[int]:
    """The places of classes in the classifier of a network trained on ImageNet-1k.

    Names are WordNet numbers ("n01440764") or one of the words that ImageNet gives a class, in any spelling of spaces,
    hyphens and capitals.

    Raises:
        AttarError: a name that ImageNet does not know, with the nearest it does; one that several classes share.

    >>> imagenet_rows(["tench", "French_horn", "n03888257"])
    [0, 566, 701]
    """
    places = _places()
    rows = []
    for name in classes:
        found = places.get(_plain(name), [])
        if len(found) > 1:
            raise AttarError(
                f"ImageNet has {len(found)} classes called {name!r} ({found}); give numbers: teacher.classes=[...]"
            )
        if not found:
            near = difflib.get_close_matches(_plain(name), places, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttarError(
                f"ImageNet has no class {name!r}{hint} Give numbers, one for each class: teacher.classes=[...]"
            )
        rows += found
    return rows


def _places() -> dict[str, list[int]]:
    """Every name of every class, with the classes that have it."""
    import_timm()
    from timm.data import ImageNetInfo

    places: dict[str, list[int]] = {}
    info = ImageNetInfo()
    for row in range(info.num_classes()):
        names = [info.index_to_label_name(row), *info.index_to_description(row).split(",")]
        for name in dict.fromkeys(map(_plain, names)):
            places.setdefault(name, []).append(row)
    return places


def _plain(name: str) -> str:
    """Lower case, one space between words."""
    return " ".join(re.findall(r"\w+", name.lower().replace("_", " ").replace("'", "")))
