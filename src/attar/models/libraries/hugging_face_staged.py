"""Image classifiers of transformers in stages: ViT, DeiT, Swin and ConvNeXt, from their own modules."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from attar.models.libraries.staged_network import LibraryStaged, Permute, names_of
from attar.models.libraries.tokens import Blocks, Exit, even, to_map, to_tokens
from attar.models.registry import BUILDERS, Spec

STAGED = "hugging_face_staged"


def staged_classifier(net: nn.Module) -> LibraryStaged | None:
    """A classifier of transformers as a staged network; None where its family is not known.

    Parameters are shared with it and it stays as it is. A ViT's and a DeiT's layers are four even groups; a Swin's
    stages begin where its maps become smaller, as timm's do. A DeiT with two classifiers has no single one.
    """
    family = FAMILIES.get(type(net).__name__)
    if family is None or not isinstance(classifier := getattr(net, "classifier", None), nn.Linear):
        return None
    path, parts = family
    entry, stages, exit = parts(net.get_submodule(path))
    staged = LibraryStaged(entry, stages, exit, classifier, names_of(net))
    config: Any = net.config
    side = getattr(config, "image_size", 0)
    if path in FIXED_SIZE and isinstance(side, int):
        staged.input_shape = (config.num_channels, side, side)
    # Of a kind with several classifiers, transformers chooses by the name.
    described = json.loads(config.to_json_string(use_diff=False)) | {"architectures": [type(net).__name__]}
    staged.spec = {"kind": STAGED, "config": described, "num_classes": classifier.out_features}
    staged.redraw = partial(_rebuilt, staged.spec)
    return staged


def _rebuilt(spec: Spec) -> LibraryStaged:
    from attar.models.libraries.hugging_face import create

    staged = staged_classifier(create(spec["config"], spec["num_classes"]).model)
    assert staged is not None  # it was one before
    return staged


BUILDERS[STAGED] = _rebuilt

# What comes before the stages, the stages, and what comes after them.
Parts = tuple[Sequence[nn.Module], Sequence[Sequence[nn.Module]], Sequence[nn.Module]]


def first(output: Any) -> Tensor:
    """The hidden states that a layer returns, alone or before its attention."""
    return output[0] if isinstance(output, tuple) else output


class Layers(Blocks):
    """Some layers of a ViT, from map to map."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = to_tokens(x, self.prefix)
        for layer in self:
            tokens = first(layer(tokens))
        return to_map(tokens, self.prefix, (x.shape[-2], x.shape[-1]))


class TokenEntry(nn.Module):
    """The embeddings of a ViT, as a map.

    Args:
        embeddings: its module.
        prefix: how many tokens are no patches.
    """

    def __init__(self, embeddings: nn.Module, prefix: int) -> None:
        super().__init__()
        self.embeddings, self.prefix = embeddings, prefix

    def forward(self, images: Tensor) -> Tensor:
        side: Any = self.embeddings.get_submodule("patch_embeddings.projection").stride
        size = (images.shape[-2] // side[0], images.shape[-1] // side[1])
        return to_map(self.embeddings(images), self.prefix, size)


def vit(net: Any, prefix: int) -> Parts:
    """Of a ViT or DeiT."""
    layers = list(net.layers if hasattr(net, "layers") else net.encoder.layer)
    exit = Exit((net.layernorm, nn.Identity()), prefix, "token")
    return [TokenEntry(net.embeddings, prefix)], even(layers, prefix, Layers), [exit]


class WindowEntry(nn.Module):
    """The embeddings of a Swin, as a map."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, images: Tensor) -> Tensor:
        tokens, size = self.embeddings(images)
        return to_map(tokens, 0, size)


class Merging(nn.Module):
    """The step to a map of half the size."""

    def __init__(self, merging: nn.Module) -> None:
        super().__init__()
        self.merging = merging

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return to_map(self.merging(to_tokens(x, 0), (height, width)), 0, ((height + 1) // 2, (width + 1) // 2))


class Windows(nn.Module):
    """The layers of one size of a Swin, from map to map."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        size, tokens = (x.shape[-2], x.shape[-1]), to_tokens(x, 0)
        for layer in self.layers:
            tokens = first(layer(tokens, size))
        return to_map(tokens, 0, size)


def swin(net: Any) -> Parts:
    """Of a Swin, whose own stages end with the step to the next one's size."""
    stages: list[list[nn.Module]] = []
    before: list[nn.Module] = []
    for stage in net.encoder.layers:
        stages.append([*before, Windows(stage.blocks)])
        before = [Merging(stage.downsample)] if stage.downsample is not None else []
    return [WindowEntry(net.embeddings)], stages, [Permute(0, 2, 3, 1), net.layernorm, Permute(0, 3, 1, 2)]


def convnext(net: Any) -> Parts:
    """Of a ConvNeXt, which averages before its last norm."""
    exit = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.layernorm]
    return [net.embeddings], [[stage] for stage in net.encoder.stages], exit


# Each class's path to its trunk, and the parts of that.
FAMILIES: dict[str, tuple[str, Callable[[nn.Module], Parts]]] = {
    "ViTForImageClassification": ("vit", partial(vit, prefix=1)),
    "DeiTForImageClassification": ("deit", partial(vit, prefix=2)),
    "SwinForImageClassification": ("swin", swin),
    "ConvNextForImageClassification": ("convnext", convnext),
    "ConvNextV2ForImageClassification": ("convnextv2", convnext),
}
# Trunks that take images of one size only.
FIXED_SIZE = ("vit", "deit", "swin")
