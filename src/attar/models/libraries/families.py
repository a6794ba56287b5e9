"""The families of timm, torchvision and transformers that are staged, and where each keeps its parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from attar.models.libraries.hugging_face_staged import staged_classifier
from attar.models.libraries.staged_network import Family, LibraryStaged, Permute, assemble
from attar.models.libraries.tokens import timm_vit, torchvision_vit

RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")

TIMM = {
    "ResNet": Family(
        entry=("conv1", "bn1", "act1", "maxpool"),
        stages=RESNET_STAGES,
        classifier="fc",
        pool="global_pool",
        dropout="drop_rate",
    ),
    "ConvNeXt": Family(
        entry=("stem",),
        stages=("stages.0", "stages.1", "stages.2", "stages.3"),
        exit=("norm_pre", "head.global_pool", "head.norm?", "head.flatten", "head.pre_logits?", "head.drop"),
        classifier="head.fc",
    ),
    "EfficientNet": Family(
        entry=("conv_stem", "bn1"),
        units=("blocks[:]",),
        exit=("conv_head", "bn2"),
        classifier="classifier",
        pool="global_pool",
        dropout="drop_rate",
    ),
    "MobileNetV3": Family(
        entry=("conv_stem", "bn1"),
        units=("blocks[:]",),
        exit=("global_pool", "conv_head", "norm_head", "act2"),
        classifier="classifier",
        dropout="drop_rate",
    ),
    "RegNet": Family(
        entry=("stem",),
        stages=("s1", "s2", "s3", "s4"),
        exit=("final_conv",),
        classifier="head.fc",
        pool="head.global_pool",
        dropout="head.drop",
    ),
    "VGG": Family(
        units=("features[:]",),
        opens=True,
        exit=("pre_logits",),
        classifier="head.fc",
        pool="head.global_pool",
        dropout="head.drop",
    ),
    "SwinTransformer": Family(
        entry=("patch_embed",),
        stages=("layers.0", "layers.1", "layers.2", "layers.3"),
        exit=("norm", partial(Permute, 0, 3, 1, 2)),
        classifier="head.fc",
        channels_last=True,
        pool="head.global_pool",
        dropout="head.drop",
    ),
}

TORCHVISION = {
    "ResNet": Family(entry=("conv1", "bn1", "relu", "maxpool"), stages=RESNET_STAGES, classifier="fc"),
    "ConvNeXt": Family(
        entry=("features[:1]",),
        units=("features[1:]",),
        exit=("avgpool", "classifier.0"),
        classifier="classifier.2",
    ),
    "EfficientNet": Family(
        entry=("features[:1]",),
        units=("features[1:-1]",),
        exit=("features[-1:]",),
        classifier="classifier.1",
        dropout="classifier.0",
    ),
    "MobileNetV2": Family(
        entry=("features[:1]",),
        units=("features[1:-1]",),
        exit=("features[-1:]",),
        classifier="classifier.1",
        dropout="classifier.0",
    ),
    "MobileNetV3": Family(
        entry=("features[:1]",),
        units=("features[1:-1]",),
        exit=("features[-1:]", "avgpool", nn.Flatten, "classifier[:3]"),
        classifier="classifier.3",
    ),
    "RegNet": Family(
        entry=("stem",),
        stages=("trunk_output.block1", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4"),
        classifier="fc",
    ),
    "VGG": Family(
        units=("features[:]",),
        opens=True,
        exit=("avgpool", nn.Flatten, "classifier[:-1]"),
        classifier="classifier.6",
    ),
    "SwinTransformer": Family(
        entry=("features.0",),
        stages=("features[1:2]", "features[2:4]", "features[4:6]", "features[6:8]"),
        exit=("norm", partial(Permute, 0, 3, 1, 2)),
        classifier="head",
        channels_last=True,
    ),
}

# Families whose tokens need more than a list of modules.
TRANSFORMERS: dict[str, Callable[[nn.Module], LibraryStaged | None]] = {
    "timm": timm_vit,
    "torchvision": torchvision_vit,
}


def as_staged(net: nn.Module) -> LibraryStaged | None:
    """A network of timm, torchvision or transformers as a staged one; None where it is none, or of no known family.

    Parameters are shared, not copied; hand over a deepcopy to keep the network as it is, since timm's and torchvision's
    vision transformers are taken apart. Known are ResNet, ConvNeXt, EfficientNet, MobileNet V2 and V3, RegNet, VGG, ViT
    and DeiT, and Swin; of transformers the classifiers ViT, DeiT, Swin, ConvNeXt and ConvNeXt V2. A stage begins where
    the map becomes smaller; a transformer's blocks are four even groups.

    >>> as_staged(nn.Linear(2, 2)) is None
    True
    """
    library = type(net).__module__.partition(".")[0]
    kind = type(net).__name__
    if library == "transformers":
        return staged_classifier(net)
    if kind == "VisionTransformer" and library in TRANSFORMERS:
        return TRANSFORMERS[library](net)
    family = {"timm": TIMM, "torchvision": TORCHVISION}.get(library, {}).get(kind)
    return assemble(net, family) if family else None
