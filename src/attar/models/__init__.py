"""Networks: the zoo, staged networks and what is put around them."""

from attar.models.class_order import are_probabilities, class_rows, exchanged, recorded_classes
from attar.models.create import create_model, list_models, model_info
from attar.models.fingerprint import fingerprint
from attar.models.frozen import Engine, Frozen, Plain
from attar.models.frozen_ensemble import FrozenEnsemble, TeacherRule
from attar.models.libraries import (  # noqa: F401, their specs can be built again
    causal_lm,
    graph_nets,
    hugging_face,
    text_classifier,
)
from attar.models.libraries.families import as_staged
from attar.models.libraries.lora import LowRank
from attar.models.libraries.staged_network import native_state
from attar.models.preprocessing import ImageInput, InputAdapter, Preprocessed, adapt_input
from attar.models.registry import ModelInfo, build, register_model
from attar.models.surgery.adapters import Adapter, SimKDProjector, adapter, match_size
from attar.models.surgery.branches import Branch, Branched, bifurcate, default_branches
from attar.models.surgery.bridges import Bridge
from attar.models.surgery.encoder_decoder import EncoderDecoder
from attar.models.surgery.ensemble import Ensemble
from attar.models.surgery.fusion import AFF, FDP
from attar.models.surgery.projected import ProjectedNet
from attar.models.surgery.reinitialise import fresh_copy, reinitialise
from attar.models.surgery.reparam import MultiBranch, dropping, merge, multi_branch
from attar.models.surgery.staged import Block, Layout, Staged
from attar.models.surgery.taps import Tapped, class_count, classifier_of, has_tap, observe, tap_shapes
from attar.models.weights import load_weights
from attar.models.zoo import csinet, csrnet, mobilenet, resnet, shufflenet_v1, shufflenet_v2, vgg, wide_resnet  # noqa: F401

__all__ = [
    "AFF",
    "FDP",
    "Adapter",
    "Block",
    "Branch",
    "Branched",
    "Bridge",
    "EncoderDecoder",
    "Engine",
    "Ensemble",
    "Frozen",
    "FrozenEnsemble",
    "ImageInput",
    "InputAdapter",
    "Layout",
    "LowRank",
    "ModelInfo",
    "MultiBranch",
    "Plain",
    "Preprocessed",
    "ProjectedNet",
    "SimKDProjector",
    "Staged",
    "Tapped",
    "TeacherRule",
    "adapt_input",
    "adapter",
    "are_probabilities",
    "as_staged",
    "bifurcate",
    "build",
    "class_count",
    "class_rows",
    "classifier_of",
    "create_model",
    "default_branches",
    "dropping",
    "exchanged",
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
    "recorded_classes",
    "register_model",
    "reinitialise",
    "tap_shapes",
]
