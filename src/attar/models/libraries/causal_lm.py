"""Causal language models of transformers, newly initialised from a configuration or read from a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, PairError, first_line
from attar.models.libraries.configurations import configuration, plain_configuration
from attar.models.libraries.imports import import_transformers
from attar.models.libraries.staged_network import drawn_elsewhere
from attar.models.registry import BUILDERS, Spec
from attar.models.surgery.staged import Layout, Staged
from attar.models.surgery.taps import logits_of

# A first token's logits follow from it alone up to this share of the largest.
AHEAD = 1e-5


class CausalNet(nn.Module):
    """A causal language model of transformers as a network: token ids (B, L), or inputs by name, to logits (B, L, V).

    Args:
        model: of transformers.
        config: its configuration as plain data, which rebuilds it.
    """

    input_dtype = torch.int64

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.input_shape: tuple[int, ...] | None = None
        self.spec: dict[str, Any] = {"kind": "causal_lm", "config": dict(config)}

    def forward(self, input_ids: Tensor, **named: Tensor) -> Tensor:
        return logits_of(self.model(input_ids=input_ids, use_cache=False, **named))


class StagedGPT2(Staged):
    """GPT-2 in stages: the embeddings, each block, and the last norm with the vocabulary's logits.

    Taps are (B, L, D) hidden states; "pooled" is their average over the tokens. Sequences are whole: no token is
    padding.

    Args:
        model: a GPT2LMHeadModel; its modules are taken over.
        config: its configuration as plain data.
    """

    input_dtype = torch.int64
    wte: nn.Embedding
    wpe: nn.Embedding

    def __init__(self, model: Any, config: Mapping[str, Any]) -> None:
        body, own = model.transformer, not model.config.tie_word_embeddings
        names = tuple(f"stage{number}" for number in range(1, len(body.h) + 1))
        super().__init__(Layout(("wte", "wpe", "drop"), names, ("ln_f", *(["lm_head"] if own else []))))
        self.wte, self.wpe, self.drop = body.wte, body.wpe, body.drop
        for name, block in zip(names, body.h, strict=True):
            self.add_module(name, block)
        self.ln_f = body.ln_f
        if own:
            self.lm_head = model.lm_head
        self.spec = {"kind": "causal_lm", "config": dict(config)}
        self.deviation, self.depth = model.config.initializer_range, len(body.h)
        for module in self.modules():
            if next(module.parameters(recurse=False), None) is not None:
                # `initialise` draws it; the attribute marks that it can be drawn.
                module.reset_parameters = drawn_elsewhere  # type: ignore[assignment]

    @torch.no_grad()
    def initialise(self) -> None:
        """Everything as GPT-2 draws it: normal, narrower where a block ends by the root of twice the depth."""
        for name, parameter in self.named_parameters():
            part = name.rpartition(".")[0]
            if isinstance(self.get_submodule(part), nn.LayerNorm):
                nn.init.constant_(parameter, float(name.endswith("weight")))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                narrower = (2 * self.depth) ** 0.5 if part.endswith("c_proj") else 1.0
                nn.init.normal_(parameter, std=self.deviation / narrower)

    def stem(self, images: Tensor) -> Tensor:
        length = images.shape[1]
        if length > self.wpe.num_embeddings:
            raise AttarError(
                f"sequences have {length} tokens, the network takes {self.wpe.num_embeddings}; give a smaller "
                "data.block_size, or n_positions among the network's options"
            )
        return self.drop(self.wte(images) + self.wpe.weight[:length])

    def final(self, x: Tensor) -> Tensor:
        return self.ln_f(x)

    def average(self, x: Tensor) -> Tensor:
        return x.mean(1)

    def output(self, final: Tensor, pooled: Tensor) -> Tensor:
        return F.linear(final, self.lm_head.weight if hasattr(self, "lm_head") else self.wte.weight)

    @property
    def classifier(self) -> nn.Linear:
        if hasattr(self, "lm_head"):
            return self.lm_head
        raise PairError("the logits share the weights of the embeddings; choose a method that needs no classifier")


def create(name: str, vocabulary: int, options: Mapping[str, Any]) -> nn.Module:
    """A newly initialised language model by the kind of its configuration.

    Args:
        name: "gpt2", "llama", ..., as transformers calls it (model_type), or a folder with a config.json.
        vocabulary: how many tokens there are.
        options: entries of the configuration (n_layer, n_embd, n_head, n_positions for gpt2).

    Raises:
        AttarError: transformers is missing or does not know the kind or an option.
    """
    transformers = import_transformers()
    kinds = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not Path(name).is_dir() and name in transformers.CONFIG_MAPPING and name not in kinds:
        raise AttarError(
            f"hf-config/{name} is no language model; hf-config/ makes those and, for sentences, text classifiers: for "
            "images give timm/NAME, torchvision/NAME or hf/FOLDER"
        )
    unset = {"bos_token_id": None, "eos_token_id": None}
    return made(configuration(name, {**unset, **options}, {"vocab_size": vocabulary}))


def made(config: Any) -> nn.Module:
    """The network of a configuration: staged where its family is, else with logits and module paths as taps."""
    transformers = import_transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError) as error:
        raise AttarError(f"transformers makes no language model of this configuration: {first_line(error)}") from None
    return wrapped(model)


def wrapped(model: Any) -> nn.Module:
    """A language model of transformers as a network of ours.

    Raises:
        AttarError: its attention looks ahead, as that of encoders does.
    """
    if looks_ahead(model):
        remedy = "give the option is_decoder=true" if hasattr(model.config, "is_decoder") else "choose a decoder (gpt2)"
        kind = model.config.model_type
        raise AttarError(f"{kind} sees the tokens that it is to predict, so no score of it would be true; {remedy}")
    config = plain_configuration(model.config)
    staged = model.config.model_type == "gpt2" and not model.config.add_cross_attention
    return StagedGPT2(model, config) if staged else CausalNet(model, config)


@torch.no_grad()
def looks_ahead(model: Any) -> bool:
    """Whether the logits of a first token change with the second."""
    if model.device.type == "meta":
        return False
    training = model.training
    model.eval()
    pairs = torch.tensor([[[0, second]] for second in (0, 1)], device=model.device)
    one, other = (model(input_ids=ids).logits[0, 0] for ids in pairs)
    model.train(training)
    return bool((one - other).abs().max() > AHEAD * one.abs().max())


def from_folder(folder: Path, vocabulary: int) -> nn.Module:
    """A language model with the weights of a folder that save_pretrained wrote.

    Raises:
        AttarError: there are no safetensors weights, or the model has another vocabulary than the tokenizer.
    """
    transformers = import_transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise AttarError(f"{folder} cannot be loaded: {first_line(error)}; save it with save_pretrained") from None
    if model.config.vocab_size != vocabulary:
        raise AttarError(
            f"hf/{folder} has a vocabulary of {model.config.vocab_size} tokens, the data's tokenizer {vocabulary}; "
            "teacher and student need the tokenizer of the data (data.tokenizer=)"
        )
    return wrapped(model.float())  # as it is saved it may be bfloat16, in which small updates are lost


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is a language model's."""
    named = config.get("architectures") or [""]
    return any(str(one).endswith(("ForCausalLM", "LMHeadModel")) for one in named)


def _rebuilt(spec: Spec) -> nn.Module:
    transformers = import_transformers()
    config = dict(spec["config"])
    return made(transformers.AutoConfig.for_model(config.pop("model_type"), **config))


BUILDERS["causal_lm"] = _rebuilt
