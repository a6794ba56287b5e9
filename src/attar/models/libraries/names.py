"""The libraries a network's name may begin with."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attar.errors import unknown
from attar.models.preprocessing import ImageInput


@dataclass(frozen=True)
class Library:
    """Where networks by name come from.

    Attributes:
        prefix: what the names begin with.
        names: every name, without the prefix.
        has: whether it knows a name.
        create: (name, num_classes, in_channels, side, options) to a network, newly initialised.
        expects: a name to what its published weights were trained on, and their number of classes.
        published: (name, side, options) to those weights.
    """

    prefix: str
    names: Callable[[], list[str]]
    has: Callable[[str], bool]
    create: Callable[[str, int, int, int, dict[str, Any]], nn.Module]
    expects: Callable[[str], tuple[ImageInput, int]]
    published: Callable[[str, int, dict[str, Any]], dict[str, Tensor]]


def _timm(module: ModuleType) -> Library:
    return Library("timm/", module.names, module.has, module.create, module.expects, module.published)


def _torchvision(module: ModuleType) -> Library:
    return Library("torchvision/", module.names, module.has, module.create, module.expects, module.published)


def _lite(module: ModuleType) -> Library:
    lite = module.LITE
    return Library(
        "", lambda: [*lite], lite.__contains__, module.create_lite, module.expects_lite, module.published_lite
    )


# A name's prefix, the module of its library and how to read it; nothing is imported before it is needed.
LIBRARIES: dict[str, tuple[str, Callable[[ModuleType], Library]]] = {
    "timm/": ("timm_models", _timm),
    "torchvision/": ("torchvision_models", _torchvision),
    "efficientnet_lite": ("timm_models", _lite),
}
# Networks that are files or folders and carry their weights.
FILES = ("hf/", "onnx/")
# Networks newly initialised from a configuration of transformers.
CONFIGS = "hf-config/"
# Networks on graphs, of layers of torch_geometric.
GRAPHS = "pyg/"
GRAPH_NETS = ("gat", "gcn", "gcnii", "sage")


def library_of(name: str) -> Library | None:
    """The library a name, or a pattern, belongs to; None for the zoo."""
    for start, (module, library) in LIBRARIES.items():
        if name.startswith(start):
            return library(importlib.import_module(f"attar.models.libraries.{module}"))
    return None


def outside(name: str) -> bool:
    """Whether a name is of a library or a file rather than of the zoo.

    >>> outside("timm/resnet18"), outside("resnet18")
    (True, False)
    """
    return name.startswith((*LIBRARIES, *FILES, CONFIGS, GRAPHS))


def library_names(pattern: str) -> list[str]:
    """The names of a library that match a shell pattern, where it begins as that library's do; sorted."""
    library = library_of(pattern)
    if library is None:
        return fnmatch.filter((GRAPHS + name for name in GRAPH_NETS), pattern)
    return sorted(fnmatch.filter((library.prefix + name for name in library.names()), pattern))


def checked_name(library: Library, name: str) -> str:
    """A name without its library's prefix.

    Raises:
        AttarError: the library has no such network; the message has the nearest that it has.
    """
    short = name.removeprefix(library.prefix)
    if not library.has(short):
        raise unknown("network", name, [library.prefix + one for one in library.names()])
    return short
