"""Multi-branch blocks: a convolution trained as several and deployed as one, exactly."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, PairError
from attar.models.registry import BUILDERS, build
from attar.models.surgery.folding import conv_with, folded, kernel_and_bias, units
from attar.models.surgery.staged import Staged

Net = TypeVar("Net", bound=nn.Module)
SIDES = (3, 5)


class MultiBranch(nn.Module):
    """Several KxK convolutions, a Kx1 and a 1xK in place of one KxK, each with its own batch norm, summed.

    Where the convolution had no norm of its own, the branches have biases instead. The weights are drawn anew, each
    branch's independently: Kaiming normal over the fan out, biases 0. In eval mode `merged` is the same function.

    Args:
        conv: the convolution to replace, which must satisfy `qualifies`; strides and groups are kept.
        norm: its batch norm, whose eps and momentum are kept; None for branches with biases.
        duplicates: how many KxK branches.

    Raises:
        AttarError: no KxK branch, or a convolution that cannot be restructured.

    >>> block = MultiBranch(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
    >>> sum(parameter.numel() for parameter in block.parameters())  # 33 * 16 * 16 + 10 * 16
    8608
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, duplicates: int = 3) -> None:
        super().__init__()
        if duplicates < 1:
            raise AttarError(f"duplicates is {duplicates}; a multi-branch block needs one KxK branch or more")
        if not qualifies(conv):
            raise AttarError(f"{conv} cannot have branches; give a 3x3 or 5x5 one that is padded to keep the centre")
        self.side = side = conv.kernel_size[0]
        shapes = [(side, side)] * duplicates + [(side, 1), (1, side)]
        self.branches = nn.ModuleList(branch(conv, norm, shape) for shape in shapes)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """The sum over the branches.

        Args:
            x: (B, C, H, W).
            keep: (B, branches) or (1, branches), each branch's factor; None is 1 throughout.
        """
        # One call a branch: stacking the kernels into one convolution was measured and is slower on CPUs.
        outputs = [one(x) for one in self.branches]
        if keep is not None:
            factors = keep.to(outputs[0].dtype).unbind(dim=1)
            outputs = [y * factor.view(-1, 1, 1, 1) for y, factor in zip(outputs, factors, strict=True)]
        return reduce(torch.add, outputs)

    @torch.no_grad()
    def merged(self, chosen: Sequence[int] | None = None) -> nn.Conv2d:
        """One convolution with bias that equals the block in eval mode.

        Args:
            chosen: the numbers of the branches to merge; None is all of them.

        Raises:
            AttarError: no branch is chosen.
        """
        parts = [self.branches[number] for number in (range(len(self.branches)) if chosen is None else chosen)]
        if not parts:
            raise AttarError("no branch is chosen; a convolution needs at least one")
        kernels, biases = zip(*(kernel_and_bias(*cast(nn.Sequential, part)) for part in parts), strict=True)
        weight = reduce(torch.add, [centred(kernel, self.side) for kernel in kernels])
        square = cast(nn.Sequential, self.branches[0])[0]
        return conv_with(cast(nn.Conv2d, square), weight, reduce(torch.add, biases))


def branch(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, kernel: tuple[int, int]) -> nn.Sequential:
    """A convolution of another kernel in the place of `conv`, with a norm like `norm`, or with a bias."""
    where: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    own = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel,
        cast(tuple[int, int], conv.stride),
        padding=(kernel[0] // 2, kernel[1] // 2),
        groups=conv.groups,
        bias=norm is None,
        **where,
    )
    nn.init.kaiming_normal_(own.weight, mode="fan_out", nonlinearity="relu")
    if norm is not None:
        return nn.Sequential(own, nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, **where))
    nn.init.zeros_(cast(Tensor, own.bias))
    return nn.Sequential(own)


def centred(kernel: Tensor, side: int) -> Tensor:
    """A KxK, Kx1 or 1xK kernel amid zeros: a column stands in column K // 2, a row in row K // 2.

    >>> centred(torch.ones(1, 1, 3, 1), 3)[0, 0].tolist()
    [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    high, wide = (side - kernel.shape[-2]) // 2, (side - kernel.shape[-1]) // 2
    return F.pad(kernel, (wide, wide, high, high))


def qualifies(conv: nn.Conv2d) -> bool:
    """Whether the branches of a convolution stay aligned: 3x3 or 5x5, padded by half, undilated."""
    side = conv.kernel_size[0]
    aligned = conv.padding == (side // 2, side // 2) and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    return side in SIDES and conv.kernel_size == (side, side) and aligned


def blocks(net: nn.Module) -> list[MultiBranch]:
    """The multi-branch blocks of a network, in the order of its modules."""
    return [module for module in net.modules() if isinstance(module, MultiBranch)]


def multi_branch(net: Net, duplicates: int = 3) -> Net:
    """A copy of any network with a `MultiBranch` for every 3x3 and 5x5 convolution and its norm.

    1x1 convolutions and those of 7x7 and more stay, with the copy's weights; the blocks are drawn anew. The norm that
    a block takes in (see `folding.units`) becomes an identity. A convolution without a norm of its own, as all 3x3
    ones of a pre-activation network, gets branches with biases.

    Args:
        net: any network of `Conv2d` and `BatchNorm2d`; it is left as it is.
        duplicates: how many KxK branches each block has.

    Raises:
        AttarError: no convolution qualifies, or there are blocks in the network already.

    >>> from attar.models import create_model
    >>> net = create_model("resnet32")
    >>> [sum(p.numel() for p in one.parameters()) for one in (net, multi_branch(net), merge(multi_branch(net)))]
    [472756, 1711796, 471620]
    """
    if blocks(net):
        raise AttarError(f"{type(net).__name__} has multi-branch blocks already; give the plain network")
    copied = copy.deepcopy(net)
    found = [unit for unit in units(copied) if qualifies(unit.conv)]
    if not found:
        raise PairError(f"{type(net).__name__} has no padded 3x3 or 5x5 Conv2d; multi-branch blocks need one")
    for unit in found:
        unit.replace(MultiBranch(unit.conv, unit.norm, duplicates))
    if isinstance(copied, Staged) and copied.spec is not None:
        copied.spec = {"kind": "multi_branch", "network": copied.spec, "duplicates": duplicates}
    return copied


@torch.no_grad()
def merge(net: Net) -> Net:
    """A copy of a network with every block merged into one convolution: its eval mode, exactly, as a plain network.

    The other norms are folded too where they follow a convolution, but for those in a module called "downsample":
    the authors' code leaves the shortcuts' alone. Which norm a convolution feeds is read off the order of the modules
    (`folding.units`), so a norm that stands behind a convolution has to read it, and it alone. Computed in float64,
    kept in the network's own type.

    Args:
        net: what `multi_branch` made; it is left as it is, mode and all.

    Raises:
        AttarError: there is no block in the network, because it is merged already, say.

    >>> from attar.models import create_model
    >>> net = multi_branch(create_model("resnet8")).eval()
    >>> images = torch.ones(2, 3, 32, 32)
    >>> torch.allclose(merge(net)(images), net(images), atol=1e-4)
    True
    """
    if not blocks(net):
        raise AttarError(f"{type(net).__name__} has no multi-branch block; merge what multi_branch(net) made")
    merged = copy.deepcopy(net)
    for parent in list(merged.modules()):
        for name, child in parent.named_children():
            if isinstance(child, MultiBranch):
                setattr(parent, name, child.merged().train(child.training))
    for unit in units(merged):
        if unit.norm is not None and "downsample" not in unit.path.split("."):
            unit.replace(folded(unit.conv, unit.norm))
    if isinstance(merged, Staged):
        plain = (merged.spec or {}).get("network")
        merged.spec = {"kind": "merged", "network": plain} if plain else None
    return merged


@contextmanager
def dropping(
    net: nn.Module,
    rate: float,
    rows: int,
    generator: torch.Generator,
    own: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Inside, this thread's passes through a network in training mode drop branches; nothing is left behind.

    Every branch of every block is kept with probability 1 - rate, independently, and scaled by 1 / (1 - rate), so
    that the expected sum is the whole one. In eval mode, or with a rate of 0, nothing is drawn.

    Args:
        net: a network with multi-branch blocks.
        rate: in [0, 1).
        rows: as many independent draws as there are samples in a batch, or 1 for all samples alike.
        generator: what to draw from, on the network's device.
        own: chooses the rows of this process, where the draws are for more; None: all.
    """
    with ExitStack() as hooks:
        if net.training and rate > 0:
            found = blocks(net)
            widths = [len(block.branches) for block in found]
            keep = torch.empty(rows, sum(widths), device=generator.device)
            keep.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
            keep = keep if own is None else own(keep)
            for block, mask in zip(found, keep.split(widths, dim=1), strict=True):
                hooks.enter_context(block.register_forward_pre_hook(handing(mask), with_kwargs=True))
        yield


def handing(mask: Tensor) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
    """A hook that gives a block its factors in the passes of the thread that made it."""
    caller = threading.get_ident()

    def give(
        module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        return (inputs, {**options, "keep": mask}) if threading.get_ident() == caller else None

    return give


BUILDERS["multi_branch"] = lambda spec: multi_branch(build(spec["network"]), spec["duplicates"])
BUILDERS["merged"] = lambda spec: merge(multi_branch(build(spec["network"])))
