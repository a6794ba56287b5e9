"""The registry of networks, and how a network is rebuilt from its saved spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from attar.errors import AttarError, unknown
from attar.models.surgery.staged import Staged
from attar.registry import Registry


@dataclass(frozen=True)
class ModelInfo:
    """A network that can be made by name.

    Attributes:
        name: what `create_model` knows it by.
        family: the kind of network.
        description: one line for listings.
        build: called with num_classes, in_channels and the options; and with image_size where its layers' sizes follow
            from it.
    """

    name: str
    family: str
    description: str
    build: Callable[..., Staged]

    @property
    def options(self) -> list[str]:
        """What `create_model` takes for this network beyond classes and images."""
        return [name for name in self._arguments if name not in ("num_classes", "in_channels", "image_size")]

    @property
    def takes_size(self) -> bool:
        """Whether `build` is given the images' size."""
        return "image_size" in self._arguments

    @property
    def _arguments(self) -> list[str]:
        parameters = inspect.signature(self.build).parameters.values()
        return [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]


def _of_function(name: str, make: Callable[..., Any]) -> ModelInfo:
    """A function that makes a network, called with those of num_classes, in_channels and image_size that it takes."""
    takes = inspect.signature(make).parameters
    sizes = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in SIZES]
    others = [one for key, one in takes.items() if key not in SIZES and one.kind is not one.VAR_KEYWORD]

    def build(**given: Any) -> Any:
        return make(**{key: value for key, value in given.items() if key not in SIZES or key in takes})

    build.__signature__ = inspect.Signature([*sizes, *(one.replace(kind=one.KEYWORD_ONLY) for one in others)])  # type: ignore[attr-defined]
    return ModelInfo(name, "own", f"a network that {name} makes", build)


SIZES = ("num_classes", "in_channels", "image_size")
MODELS: Registry[ModelInfo] = Registry("network", wrap=_of_function)


def register_model(name: str, *, family: str, description: str, build: Callable[..., Staged]) -> None:
    """Make a network known by name; a name that is taken is refused."""
    MODELS.add(ModelInfo(name, family, description, build))


Spec = Mapping[str, Any]
BUILDERS: dict[str, Callable[[Spec], nn.Module]] = {}


def build(spec: Spec) -> nn.Module:
    """A network rebuilt from its `spec`, newly initialised.

    A spec is plain data that survives JSON. Its "kind" ("model" where it has none) names its builder; other
    modules enter theirs in `BUILDERS`.

    Raises:
        AttarError: a spec of an unknown kind, or one that is no spec.

    >>> import attar.models
    >>> build({"name": "resnet20", "num_classes": 10}).classifier
    Linear(in_features=64, out_features=10, bias=True)
    """
    fields = dict(spec)
    kind = fields.pop("kind", "model")
    if kind not in BUILDERS:
        raise unknown("kind of spec", kind, BUILDERS)
    if kind == "model" and "name" not in fields:
        raise AttarError(f"the spec has no 'name' but {sorted(fields)}; give a network's spec attribute")
    return BUILDERS[kind](fields)
