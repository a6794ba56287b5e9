"""Vision transformers in stages: tokens travel as maps, so that taps and surgery see what a convolution would give."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.models.libraries.staged_network import LibraryStaged, names_of

# Transformers have no stages of their own; four is what the convolutional families have.
STAGES = 4
Pool = Literal["token", "avg", "all"]


def to_map(tokens: Tensor, prefix: int, size: tuple[int, int]) -> Tensor:
    """Tokens (B, prefix + H * W, C) as a map (B, (1 + prefix) * C, H, W).

    Patches come first; each token that is no patch (class, register) follows as C further channels, the same
    everywhere, so that nothing is lost and a later stage can go on from the map.

    >>> to_map(torch.zeros(2, 1 + 6, 5), 1, (2, 3)).shape
    torch.Size([2, 10, 2, 3])
    """
    batch, _, width = tokens.shape
    patches = tokens[:, prefix:].mT.reshape(batch, width, *size)
    if not prefix:
        return patches
    others = tokens[:, :prefix].reshape(batch, prefix * width, 1, 1).expand(-1, -1, *size)
    return torch.cat([patches, others], dim=1)


def to_tokens(x: Tensor, prefix: int) -> Tensor:
    """What `to_map` made, as tokens again."""
    batch, channels = x.shape[:2]
    width = channels // (1 + prefix)
    patches = x[:, :width].flatten(2).mT
    if not prefix:
        return patches
    others = x[:, width:, 0, 0].reshape(batch, prefix, width)
    return torch.cat([others, patches], dim=1)


class Entry(nn.Module):
    """A transformer up to its first block.

    Args:
        net: the transformer without its blocks and what follows them.
        prefix: how many tokens are no patches.
    """

    def __init__(self, net: nn.Module, prefix: int) -> None:
        super().__init__()
        self.net = net
        self.prefix = prefix


class TimmEntry(Entry):
    """As timm's VisionTransformer begins."""

    def forward(self, images: Tensor) -> Tensor:
        net: Any = self.net
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
        return to_map(x, self.prefix, net.patch_embed.dynamic_feat_size(images.shape[-2:]))


class TorchvisionEntry(Entry):
    """As torchvision's VisionTransformer begins."""

    def forward(self, images: Tensor) -> Tensor:
        net: Any = self.net
        x = net._process_input(images)
        x = torch.cat([net.class_token.expand(len(x), -1, -1), x], dim=1)
        side = net.image_size // net.patch_size
        return to_map(net.encoder.dropout(x + net.encoder.pos_embedding), self.prefix, (side, side))


class Blocks(nn.Sequential):
    """Some of the blocks, from map to map."""

    prefix = 0

    def forward(self, x: Tensor) -> Tensor:
        return to_map(super().forward(to_tokens(x, self.prefix)), self.prefix, (x.shape[-2], x.shape[-1]))


class Exit(nn.Module):
    """The last norm and the choice or average of tokens: (B, C).

    Args:
        norms: before and after it.
        prefix: how many tokens are no patches.
        pool: the first token, the average of the patches, or of all tokens.
    """

    def __init__(self, norms: tuple[nn.Module, nn.Module], prefix: int, pool: Pool) -> None:
        super().__init__()
        self.norm, self.fc_norm = norms
        self.prefix, self.pool = prefix, pool

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(to_tokens(x, self.prefix))
        chosen = tokens[:, 0] if self.pool == "token" else tokens[:, self.prefix * (self.pool == "avg") :].mean(1)
        return self.fc_norm(chosen)


def timm_vit(net: Any) -> LibraryStaged | None:
    """timm's VisionTransformer (ViT, DeiT) in stages; the network given is taken apart.

    None where tokens are dropped, pooled by attention, or where the classifier is no linear layer.
    """
    pool: Pool = "all" if net.pool_include_prefix else net.global_pool
    dropping = not isinstance(net.patch_drop, nn.Identity)
    if pool not in ("token", "avg", "all") or net.attn_pool is not None or dropping:
        return None
    if not isinstance(net.head, nn.Linear):
        return None
    names, prefix, head = names_of(net), net.num_prefix_tokens, net.head
    blocks, exit = list(net.blocks), [Exit((net.norm, net.fc_norm), prefix, pool), net.head_drop]
    for taken in ("blocks", "norm", "fc_norm", "head", "head_drop"):
        setattr(net, taken, nn.Identity())
    return LibraryStaged([TimmEntry(net, prefix)], even(blocks, prefix), exit, head, names)


def torchvision_vit(net: Any) -> LibraryStaged | None:
    """torchvision's VisionTransformer in stages; the network given is taken apart."""
    if [name for name, _ in net.heads.named_children()] != ["head"]:
        return None
    names, head = names_of(net), net.heads.head
    blocks, exit = list(net.encoder.layers), Exit((net.encoder.ln, nn.Identity()), 1, "token")
    net.encoder.layers, net.encoder.ln, net.heads = nn.Identity(), nn.Identity(), nn.Identity()
    return LibraryStaged([TorchvisionEntry(net, 1)], even(blocks, 1), [exit], head, names)


def patch_channels(net: nn.Module, channels: int) -> int:
    """How many of a map's channels, from the first, are its patches': all but those of class tokens and registers.

    Args:
        net: the network whose stage gave the map.
        channels: of the map.
    """
    prefix = next((module.prefix for module in net.modules() if isinstance(module, Blocks)), 0)
    return channels // (1 + prefix)


def even(blocks: list[nn.Module], prefix: int, kind: type[Blocks] = Blocks) -> list[list[nn.Module]]:
    """Blocks in even groups."""
    count = min(STAGES, len(blocks))
    ends = [len(blocks) * number // count for number in range(count + 1)]
    groups = [kind(*blocks[start:stop]) for start, stop in pairwise(ends)]
    for group in groups:
        group.prefix = prefix
    return [[group] for group in groups]
