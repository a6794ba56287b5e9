"""Configurations of transformers by the kind of network, or out of a folder's config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.errors import AttarError, first_line, unknown
from attar.models.libraries.hugging_face import read_json
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.names import CONFIGS

# Entries of a configuration that are no options: its kind, names of code and files, which are never followed, and what
# follows from the data and the library.
LEFT_OUT = (
    "model_type", "auto_map", "_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype",
    "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "id2label", "label2id", "num_labels",
)  # fmt: skip


def configuration(name: str, options: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    """A configuration, for a network that is newly initialised.

    Args:
        name: "gpt2", "bert", ..., as transformers calls it (model_type); or a folder with a config.json.
        options: entries to change (n_layer, num_hidden_layers, ...).
        data: entries that follow from the data and stand above all others.

    Raises:
        AttarError: transformers is missing or does not know the kind or an option.
    """
    transformers = import_transformers()
    known: dict[str, Any] = {}
    folder, kind = Path(name).expanduser(), name
    if folder.is_dir():
        held = read_json(folder / "config.json")
        known = {key: value for key, value in held.items() if key not in LEFT_OUT}
        kind = str(held.get("model_type", ""))
    try:
        made = transformers.AutoConfig.for_model(kind, **{**known, **options, **data})
    except (ValueError, KeyError, TypeError) as error:
        raise AttarError(f"{CONFIGS}{name}: {first_line(error)}") from None
    usual = type(made)().to_dict()
    if strange := [option for option in options if option not in usual]:
        raise unknown(f"option of {CONFIGS}{name}", strange[0], sorted(usual))
    return made


def named_configuration(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and options that make a network of this configuration, without what follows from the data."""
    kind = str(config["model_type"])
    usual = plain_configuration(import_transformers().AutoConfig.for_model(kind))
    changed = {key: value for key, value in config.items() if key in usual and value != usual[key]}
    return f"{CONFIGS}{kind}", {key: value for key, value in changed.items() if key not in LEFT_OUT}


def named_kind(name: str) -> str:
    """A network's name, with the kind of network in place of a folder that holds its configuration.

    >>> named_kind("hf-config/bert"), named_kind("resnet8")
    ('hf-config/bert', 'resnet8')
    """
    file = Path(name.removeprefix(CONFIGS)).expanduser() / "config.json"
    if not name.startswith(CONFIGS) or not file.is_file():
        return name
    return f"{CONFIGS}{read_json(file).get('model_type', '')}"


def plain_configuration(config: Any) -> dict[str, Any]:
    """A configuration as what JSON holds."""
    return dict(json.loads(config.to_json_string(use_diff=False)))
