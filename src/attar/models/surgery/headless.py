"""A network without its classifier: it puts out the features that the classifier would see."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from torch import Tensor, nn

from attar.errors import AttarError
from attar.knowledge import logits_of
from attar.models.registry import BUILDERS, Spec, build
from attar.models.surgery.taps import NoClassifier, classifier_of

Net = TypeVar("Net", bound=nn.Module)


class FeatureNetwork(nn.Module):
    """A network whose outputs are features already, marked as such.

    Args:
        net: images to features (B, D).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.classifier = net, NoClassifier()
        self.input_shape = getattr(net, "input_shape", None)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(logits_of(self.net(images)))


def headless(net: Net) -> Net:
    """The same network, its classifier taken out: forward(images) -> features (B, D), the tap "pooled".

    Args:
        net: it is changed, and ends in a linear layer.

    Raises:
        AttarError: it does not.

    >>> import torch
    >>> from attar.models.create import create_model
    >>> net = headless(create_model("resnet8", num_classes=10))
    >>> net(torch.zeros(2, 3, 32, 32)).shape, net.spec["kind"]
    (torch.Size([2, 64]), 'headless')
    """
    classifier = classifier_of(net)
    if isinstance(classifier, NoClassifier):
        return net
    path = next((name for name, module in net.named_modules() if module is classifier), "")
    if not path:
        raise AttarError(f"{type(net).__name__} is nothing but a linear layer; give a network before it")
    net.set_submodule(path, NoClassifier())
    inner = getattr(net, "spec", None)
    changed = cast(Any, net)
    changed.spec = None if inner is None else {"kind": "headless", "num_classes": 0, "network": inner}
    return net


def _headless(spec: Spec) -> nn.Module:
    return headless(build(spec["network"]))


BUILDERS["headless"] = _headless
