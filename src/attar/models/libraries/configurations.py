"""Configurations of transformers by the kind of network, or out of a folder's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.errors import AttarError, first_line, unknown
from attar.models.libraries.hugging_face import read_json
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.names import CONFIGS

# Entries of a config.json that name code or files, which are never followed, and those that follow from the data.
LEFT_OUT = ("auto_map", "_name_or_path", "architectures", "id2label", "label2id", "num_labels")


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
        known = {key: value for key, value in read_json(folder / "config.json").items() if key not in LEFT_OUT}
        kind = str(known.pop("model_type", ""))
    try:
        made = transformers.AutoConfig.for_model(kind, **{**known, **options, **data})
    except (ValueError, KeyError, TypeError) as error:
        raise AttarError(f"{CONFIGS}{name}: {first_line(error)}") from None
    plain = type(made)().to_dict()
    if strange := [option for option in options if option not in plain]:
        raise unknown(f"option of {CONFIGS}{name}", strange[0], sorted(plain))
    return made
