"""Text classifiers of transformers, newly initialised from a configuration or read from a local folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Inputs
from attar.errors import AttarError, first_line
from attar.extras import quiet
from attar.models.libraries.configurations import configuration, plain_configuration
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.staged_network import drawn_as_whole, drawn_elsewhere
from attar.models.registry import BUILDERS, Spec
from attar.models.surgery.staged import Layout, Staged
from attar.models.surgery.taps import logits_of

# Those whose layers are staged; they differ in the names of their parts alone.
FAMILIES = ("bert", "roberta", "camembert", "xlm-roberta", "electra")
HEADED = "ForSequenceClassification"


class TextNet(nn.Module):
    """A text classifier of transformers that is not staged: tensors by name to logits (B, K).

    Args:
        model: of transformers.
        config: its configuration as plain data, which rebuilds it.
    """

    input_dtype = torch.int64

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.takes = tuple(inspect.signature(type(model).forward).parameters)
        self.input_shape: tuple[int, ...] | None = None
        self.spec: dict[str, Any] = {"kind": "text_classifier", "config": dict(config)}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        named = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return logits_of(self.model(input_ids, **{key: one for key, one in named.items() if key in self.takes}))


class StagedEncoder(Staged):
    """A BERT-like classifier in stages: the embeddings, each layer, and the classifier of the first token.

    Taps are (B, L, D) hidden states, "layer1.attention" (B, heads, L, L) and "layer1.cls" (B, D), ...; "pooled" (B, D)
    is what the classifier sees. Hidden states of padding are zero, so a stage that runs alone finds it, too.

    Args:
        model: of transformers, of one of `FAMILIES`; its modules are taken over.
        config: its configuration as plain data.
    """

    input_dtype = torch.int64
    embeddings: nn.Module
    dense: nn.Linear

    def __init__(self, model: Any, config: Mapping[str, Any]) -> None:
        body = getattr(model, model.base_model_prefix)
        layers = body.encoder.layer
        names = tuple(f"stage{number}" for number in range(1, len(layers) + 1))
        projected = hasattr(body, "embeddings_project")
        stem = ("embeddings", "embeddings_project") if projected else ("embeddings",)
        super().__init__(Layout(stem, names, ("dense", "linear")))
        self.embeddings = body.embeddings
        if projected:
            self.embeddings_project = body.embeddings_project
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)
        head = model.classifier
        own = isinstance(head, nn.Linear)
        self.dense = body.pooler.dense if own else head.dense
        self.linear: nn.Linear = head if own else head.out_proj
        self.dropout = nn.Dropout((model if own else head).dropout.p)
        # Before the dense layer, too, where the family has its own head.
        self.twice = not own
        self.gelu = model.config.model_type == "electra"
        self.deviation = model.config.initializer_range
        padding = body.embeddings.position_embeddings.padding_idx
        self.longest = model.config.max_position_embeddings - (0 if padding is None else padding + 1)
        self.spec = {"kind": "text_classifier", "config": dict(config)}
        for module in self.modules():
            if next(module.parameters(recurse=False), None) is not None:
                # `initialise` draws it; the attribute marks that it can be drawn.
                module.reset_parameters = drawn_elsewhere  # type: ignore[assignment]

    @torch.no_grad()
    def initialise(self) -> None:
        """Everything as BERT draws it: normal weights, biases 0, norms 1, the embedding of padding 0."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.deviation)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    module.weight[module.padding_idx].zero_()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.features({key: one for key, one in named.items() if one is not None}).logits

    def stem(self, images: Inputs) -> Tensor:
        inputs = images if isinstance(images, dict) else {"input_ids": images}
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if ids.shape[1] > self.longest:
            raise AttarError(
                f"sentences have {ids.shape[1]} tokens, the network takes {self.longest}; give a smaller "
                "data.max_length, or max_position_embeddings among the network's options"
            )
        x = self.embeddings(input_ids=ids, token_type_ids=inputs.get("token_type_ids"))
        if hasattr(self, "embeddings_project"):
            x = self.embeddings_project(x)
        return x if mask is None else x * (mask != 0)[..., None]

    def context(self, inputs: Inputs, x: Tensor) -> Tensor | None:
        """(B, L) which tokens are no padding; None: as `inputs` have no mask, all."""
        mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
        return None if mask is None else mask != 0

    def run_stage(self, index: int, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        kept = (x != 0).any(-1) if context is None else context
        found = getattr(self, self.layout.stages[index])(x, attention_mask=kept[:, None, None, :])
        # Earlier versions of transformers return a tuple.
        x = (found[0] if isinstance(found, tuple) else found) * kept[..., None]
        return x, x

    def average(self, x: Tensor) -> Tensor:
        first = self.dropout(x[:, 0]) if self.twice else x[:, 0]
        vector = self.dense(first)
        return self.dropout(nn.functional.gelu(vector) if self.gelu else vector.tanh())


def create(name: str, classes: int, vocabulary: Mapping[str, int], options: Mapping[str, Any]) -> nn.Module:
    """A newly initialised classifier.

    Args:
        name: the kind of configuration ("bert"), or a folder with a config.json.
        classes: how many there are.
        vocabulary: vocab_size and pad_token_id of the data's tokenizer.
        options: entries of the configuration (num_hidden_layers, hidden_size, num_attention_heads, ...).

    Raises:
        AttarError: transformers is missing, or does not know the kind or an option.
    """
    return made(configuration(name, options, {**vocabulary, "num_labels": classes}))


def made(config: Any) -> nn.Module:
    """The network of a configuration, newly initialised."""
    transformers = import_transformers()
    try:
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    except (ValueError, KeyError, TypeError) as error:
        raise AttarError(f"transformers makes no text classifier of this configuration: {first_line(error)}") from None
    return wrapped(model)


def wrapped(model: Any) -> nn.Module:
    """A classifier of transformers as a network of ours: staged where its family is."""
    config = plain_configuration(model.config)
    fitting = model.config.model_type in FAMILIES and model.config._attn_implementation == "sdpa"
    if fitting and not getattr(model.config, "is_decoder", False):
        return StagedEncoder(model, config)
    net = TextNet(model, config)
    drawn_as_whole(net, partial(_rebuilt, net.spec))
    return net


def from_folder(folder: Path, classes: int, vocabulary: int, same: bool) -> nn.Module:
    """A classifier with the weights of a folder that save_pretrained wrote; a bare encoder gets a new classifier.

    Args:
        folder: with a config.json and safetensors weights.
        classes: how many the data have.
        vocabulary: how many tokens the data's tokenizer has.
        same: whether a classifier of another number of classes is refused; otherwise it begins anew.

    Raises:
        AttarError: there are no such weights, or the tokenizer has more tokens than the network.
    """
    transformers = import_transformers()
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():  # it lists the weights of a new classifier as missing
            model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=classes,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise AttarError(f"{folder} cannot be loaded: {first_line(error)}; save it with save_pretrained") from None
    other = sorted(str(one[0]) for one in loading["mismatched_keys"])
    if other and (same or any("classifier" not in key for key in other)):
        raise AttarError(f"hf/{folder} has other classes than the data's {classes} ({other[0]}); give one of those")
    encoder = model.base_model_prefix + "."
    if lacking := sorted(key for key in loading["missing_keys"] if key.startswith(encoder) and "pooler" not in key):
        raise AttarError(f"{folder} lacks {len(lacking)} weights (first {lacking[0]!r}); save it with save_pretrained")
    if model.config.vocab_size < vocabulary:
        raise AttarError(
            f"hf/{folder} has a vocabulary of {model.config.vocab_size} tokens, the data's tokenizer {vocabulary}; "
            "teacher and student need the tokenizer of the data (data.tokenizer=)"
        )
    return wrapped(model.float())


def is_text(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is a text classifier's, or that of an encoder which can become one."""
    if any(str(one).endswith(HEADED) for one in config.get("architectures") or []):
        return True
    auto = import_transformers().models.auto.modeling_auto
    kind = str(config.get("model_type", ""))
    return (
        kind in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        and kind not in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    )


def is_bare(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of an encoder without a classifier, which has to be trained before it teaches."""
    headed = any(str(one).endswith(HEADED) for one in config.get("architectures") or [])
    return not headed and is_text(config)


def _rebuilt(spec: Spec) -> nn.Module:
    transformers = import_transformers()
    config = dict(spec["config"])
    return made(transformers.AutoConfig.for_model(config.pop("model_type"), **config))


BUILDERS["text_classifier"] = _rebuilt
