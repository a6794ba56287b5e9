"""An image classifier in a folder that transformers' save_pretrained wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from attar.errors import AttarError, first_line
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.staged_network import drawn_as_whole
from attar.models.preprocessing import ImageInput
from attar.models.registry import BUILDERS, Spec
from attar.models.surgery.taps import logits_of

# PIL's numbers, as preprocessor_config.json gives them.
RESAMPLING = {2: "bilinear", 3: "bicubic"}


class HuggingFaceNet(nn.Module):
    """A transformers classifier that takes images and returns logits; its own modules are below "model".

    Args:
        model: the classifier.
        config: its configuration as plain data, which rebuilds it.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.input_shape: tuple[int, int, int] | None = None
        self.spec: dict[str, Any] = {"kind": "hugging_face", "config": dict(config)}

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(pixel_values=images))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON of the folder.

    Raises:
        AttarError: it is missing, or is no JSON.
    """
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise AttarError(f"{file} is missing or no JSON; give a folder written by save_pretrained") from None
    if not isinstance(held, dict):
        raise AttarError(f"{file} is no JSON object; give a folder written by save_pretrained")
    return held


def create(config: Mapping[str, Any], num_classes: int | None = None) -> HuggingFaceNet:
    """A network from its configuration, newly initialised; only code of transformers itself is run.

    Raises:
        AttarError: transformers is missing, or does not know this kind of network as an image classifier.
    """
    transformers = import_transformers()
    # Code that the folder names is never run.
    known = {key: value for key, value in config.items() if key not in ("auto_map", "num_labels")}
    if num_classes is not None and num_classes != labels(config):
        known |= {"id2label": {number: f"{number}" for number in range(num_classes)}, "label2id": {}}
    try:
        made = transformers.AutoConfig.for_model(known.pop("model_type", ""), **known)
        model = transformers.AutoModelForImageClassification.from_config(made)
    except (ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        raise AttarError(f"transformers makes no image classifier of this config.json: {reason}") from None
    net = HuggingFaceNet(model, json.loads(made.to_json_string(use_diff=False)))
    drawn_as_whole(net, partial(_rebuilt, net.spec))
    return net


def labels(config: Mapping[str, Any]) -> int:
    """How many classes a configuration names; transformers' default is 2."""
    named = config.get("id2label")
    return len(named) if named else int(config.get("num_labels", 2))


def weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder, read by transformers, which knows the names of its earlier versions.

    Raises:
        AttarError: there is no safetensors file, or it does not hold the network of the config.json; pickles and code
            in the folder are not touched.
    """
    transformers = import_transformers()
    transformers.utils.logging.disable_progress_bar()
    try:
        net, loading = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = first_line(error)
        raise AttarError(f"{folder} cannot be loaded: {reason}; save it with save_pretrained") from None
    if lacking := sorted(loading["missing_keys"]):
        raise AttarError(f"{folder} lacks {len(lacking)} weights (first {lacking[0]!r}); save it with save_pretrained")
    return net.state_dict()


def expects(folder: Path, config: Mapping[str, Any]) -> ImageInput | None:
    """The image settings of preprocessor_config.json; None where there is none."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return None
    held = read_json(file)
    plain = not held.get("do_normalize", True)
    mean, std = ([0.0] * 3, [1.0] * 3) if plain else (held["image_mean"], held["image_std"])
    side = config.get("image_size") or held.get("crop_size") or held.get("size")
    if isinstance(side, Mapping):
        side = side.get("height") or side.get("shortest_edge")
    if not isinstance(side, int):
        raise AttarError(f"{file} does not say the side of the images; give its 'size' as a number")
    return ImageInput(tuple(mean), tuple(std), side, RESAMPLING.get(held.get("resample", 2), "bilinear"))


def _rebuilt(spec: Spec) -> HuggingFaceNet:
    return create(spec["config"])


BUILDERS["hugging_face"] = _rebuilt
