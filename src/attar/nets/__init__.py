"""Networks: the zoo, staged networks and what is put around them."""

from attar.nets import mobilenet, resnet, shufflenet_v1, shufflenet_v2, vgg, wide_resnet  # noqa: F401, the zoo
from attar.nets.adapters import Adapter, SimKDProjector, adapter, match_size
from attar.nets.branches import Branch, Branched, bifurcate, default_branches
from attar.nets.bridges import Bridge
from attar.nets.fresh import fresh_copy, reinitialise
from attar.nets.frozen import Frozen
from attar.nets.fusion import AFF, FDP
from attar.nets.projected import ProjectedNet
from attar.nets.registry import ModelInfo, build, create_model, list_models, model_info, register_model
from attar.nets.reparam import MultiBranch, dropping, merge, multi_branch
from attar.nets.staged import Block, Layout, Staged
from attar.nets.taps import Tapped, classifier_of, has_tap, observe, tap_shapes
from attar.nets.weights import load_weights

__all__ = [
    "AFF",
    "FDP",
    "Adapter",
    "Block",
    "Branch",
    "Branched",
    "Bridge",
    "Frozen",
    "Layout",
    "ModelInfo",
    "MultiBranch",
    "ProjectedNet",
    "SimKDProjector",
    "Staged",
    "Tapped",
    "adapter",
    "bifurcate",
    "build",
    "classifier_of",
    "create_model",
    "default_branches",
    "dropping",
    "fresh_copy",
    "has_tap",
    "list_models",
    "load_weights",
    "match_size",
    "merge",
    "model_info",
    "multi_branch",
    "observe",
    "register_model",
    "reinitialise",
    "tap_shapes",
]
