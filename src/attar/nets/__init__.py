"""Networks: the zoo, staged networks and what is put around them."""

from attar.nets import mobilenet, resnet, shufflenet_v1, shufflenet_v2, vgg, wide_resnet  # noqa: F401, the zoo
from attar.nets.adapters import Adapter, SimKDProjector, adapter, match_size
from attar.nets.branches import Branch, Branched, bifurcate, default_branches
from attar.nets.bridges import Bridge
from attar.nets.engines import Engine, Folded, Kept, Plain
from attar.nets.fingerprint import fingerprint
from attar.nets.fresh import fresh_copy, reinitialise
from attar.nets.frozen import Frozen
from attar.nets.fusion import AFF, FDP
from attar.nets.inputs import ImageInput, InputAdapter, Preprocessed, adapt_input
from attar.nets.library import create, hugging_face  # noqa: F401, their specs can be built again
from attar.nets.library.families import as_staged
from attar.nets.library.stages import native_state
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
    "Engine",
    "Folded",
    "Frozen",
    "ImageInput",
    "InputAdapter",
    "Kept",
    "Layout",
    "ModelInfo",
    "MultiBranch",
    "Plain",
    "Preprocessed",
    "ProjectedNet",
    "SimKDProjector",
    "Staged",
    "Tapped",
    "adapt_input",
    "adapter",
    "as_staged",
    "bifurcate",
    "build",
    "classifier_of",
    "create_model",
    "default_branches",
    "dropping",
    "fingerprint",
    "fresh_copy",
    "has_tap",
    "list_models",
    "load_weights",
    "match_size",
    "merge",
    "model_info",
    "multi_branch",
    "native_state",
    "observe",
    "register_model",
    "reinitialise",
    "tap_shapes",
]
