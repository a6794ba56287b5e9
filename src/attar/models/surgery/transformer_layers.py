"""The layers of transformers as taps: the probabilities of their self-attention, and the vector of the first token."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION, CLS = "attention", "cls"
TAP = re.compile(rf"layer(\d+)\.({ATTENTION}|{CLS})")


@dataclass(frozen=True)
class SelfAttention:
    """How one class of self-attention is built.

    Attributes:
        parts: its modules that put out queries and keys; one module puts out queries, keys and values side by side.
        heads: its attribute with the number of heads.
        inside: how its path continues that of its layer.
        causal: whether tokens attend to those before them alone; such layers have no class token.
    """

    parts: tuple[str, ...]
    heads: str
    inside: str
    causal: bool = False


BERT = SelfAttention(("query", "key"), "num_attention_heads", ".attention.self")
HF_VIT = SelfAttention(("q_proj", "k_proj"), "num_attention_heads", ".attention")
TIMM_VIT = SelfAttention(("qkv",), "num_heads", ".attn")
# By the names of classes, of transformers where no other package is named. Others may add a position's bias to the
# scores or turn the queries, so that what is computed here would not be what they compute.
KNOWN = {
    "BertSelfAttention": BERT,
    "RobertaSelfAttention": BERT,
    "CamembertSelfAttention": BERT,
    "XLMRobertaSelfAttention": BERT,
    "ElectraSelfAttention": BERT,
    "DistilBertSelfAttention": SelfAttention(("q_lin", "k_lin"), "n_heads", ".attention"),
    "ViTSelfAttention": SelfAttention(("query", "key"), "num_attention_heads", ".attention.attention"),
    "DeiTSelfAttention": SelfAttention(("query", "key"), "num_attention_heads", ".attention.attention"),
    "ViTAttention": HF_VIT,
    "DeiTAttention": HF_VIT,
    "GPT2Attention": SelfAttention(("c_attn",), "num_heads", ".attn", causal=True),
    "timm.Attention": TIMM_VIT,
}


@dataclass(frozen=True)
class TransformerLayer:
    """One layer: the path of its module, and its self-attention."""

    path: str
    attention: SelfAttention


def transformer_layers(net: nn.Module) -> list[TransformerLayer]:
    """The layers of a transformer whose self-attention is known, in their order; none of other networks.

    >>> transformer_layers(nn.Linear(2, 2))
    []
    """
    found = []
    for path, module in net.named_modules():
        kind = kind_of(module)
        # Earlier versions of transformers keep the attention's modules inside a module of one of these names, too.
        if kind is not None and path.endswith(kind.inside) and all(hasattr(module, part) for part in kind.parts):
            found.append(TransformerLayer(path.removesuffix(kind.inside), kind))
    return found


def kind_of(module: nn.Module) -> SelfAttention | None:
    """How a module's self-attention is built; None where it is none that is known."""
    for kind in type(module).__mro__:
        library = kind.__module__.partition(".")[0]
        name = kind.__name__ if library == "transformers" else f"{library}.{kind.__name__}"
        if name in KNOWN:
            return KNOWN[name]
    return None


def layer_taps(net: nn.Module) -> list[str]:
    """ "layer1.attention" (B, heads, N, N) and "layer1.cls" (B, D) of every layer."""
    names = []
    for number, layer in enumerate(transformer_layers(net), 1):
        names += [f"layer{number}.{ATTENTION}", *([] if layer.attention.causal else [f"layer{number}.{CLS}"])]
    return names


def layer_of_tap(net: nn.Module, tap: str) -> tuple[TransformerLayer, str] | None:
    """The layer that a tap means, and what of it; None for any other tap."""
    match = TAP.fullmatch(tap)
    if match is None or tap not in layer_taps(net):
        return None
    return transformer_layers(net)[int(match[1]) - 1], match[2]


def watch(net: nn.Module, layer: TransformerLayer, what: str, keep: Callable[[Tensor], None]) -> ExitStack:
    """Watch a layer during one call; `keep` gets the tap's value. The result ends it when it is closed."""
    caller, hooks = threading.get_ident(), ExitStack()

    def first_token(module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == caller:
            keep((output[0] if isinstance(output, tuple) else output)[:, 0])

    if what == CLS:
        hooks.enter_context(net.get_submodule(layer.path).register_forward_hook(first_token))
        return hooks
    kind, seen = layer.attention, dict[str, Tensor]()
    attention = net.get_submodule(layer.path + kind.inside)

    def part(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if threading.get_ident() == caller:
                seen[name] = output

        return see

    def finish(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if threading.get_ident() == caller:
            mask = named.get("attention_mask", inputs[1] if len(inputs) > 1 else None)
            keep(probabilities(module, kind, [seen[name] for name in kind.parts], mask))

    for name in kind.parts:
        hooks.enter_context(attention.get_submodule(name).register_forward_hook(part(name)))
    hooks.enter_context(attention.register_forward_hook(finish, with_kwargs=True))
    return hooks


def probabilities(module: Any, kind: SelfAttention, parts: list[Tensor], mask: Tensor | None) -> Tensor:
    """(B, heads, N, N): how much each token, down, attends to each, across; before any dropout.

    Rows of padding are all zero.

    Args:
        module: the self-attention.
        kind: how it is built.
        parts: what its modules of queries and keys put out.
        mask: (B, 1, 1 or N, N), which tokens are attended to: true, or 0 added to the scores; None: all.
    """
    heads = getattr(module, kind.heads)
    if len(parts) == 1:
        query, key, _ = parts[0].unflatten(-1, (3, heads, -1)).unbind(-3)
    else:
        query, key = (part.unflatten(-1, (heads, -1)) for part in parts)
    query, key = (getattr(module, norm, nn.Identity())(one) for norm, one in (("q_norm", query), ("k_norm", key)))
    scale = getattr(module, "scaling", getattr(module, "scale", query.shape[-1] ** -0.5))
    scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * scale
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if kind.causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is None:
        return scores.softmax(-1)
    attended = mask if mask.dtype == torch.bool else mask >= 0
    real = attended[..., 0, :] if attended.shape[-2] == 1 else attended.diagonal(dim1=-2, dim2=-1)
    return scores.masked_fill(~real[..., None, :], -torch.inf).softmax(-1) * real[..., None]
