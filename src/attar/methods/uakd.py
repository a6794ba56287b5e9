"""UAKD: branches of several stages, in groups whose ensembles teach the other groups and the network itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError, unknown
from attar.knowledge import Knowledge, Output, Transfer
from attar.losses import MSE
from attar.methods.base import Method
from attar.methods.common.distill_graph import DistillGraph
from attar.methods.common.graph_presets import PRESETS, uakd
from attar.methods.common.stage_pairs import require_staged
from attar.methods.registry import register
from attar.models import Branch, Branched, bifurcate, default_branches, tap_shapes
from attar.models.surgery.staged import averaged

STUDENT = "student"


@register(
    "uakd",
    title="A Unified Asymmetric Knowledge Distillation Framework",
    paper="doi:10.1007/s11063-024-11606-z",
    year=2024,
    family="self",
    needs=("stages", "branches"),
)
class UAKD(Method):
    """A Unified Asymmetric Knowledge Distillation Framework (Ye et al., Neural Processing Letters 2024).

    RECONSTRUCTED from the abstract, which alone was found. It commits to one framework with the known methods as
    special cases, asymmetric transfers, shallow and wide branches at several stages, and ensembles of groups; every
    formula and default here is ours or an ancestor's.

        L = sum over objects CE(o_i) + alpha omega(epoch) * sum over objects KL(o_i <- t_i)
        KL(q <- p) = T^2 KL(p_T || q_T), p detached;  omega = exp(-5 (1 - min(epoch, ramp) / ramp)^2)

    The objects are the student and branches that fork from it. Branches of one stage form a group, whose ensemble is
    its mean logits. The student learns from the mean of the groups' ensembles and teaches no other; a branch learns
    from the mean of the other groups' ensembles, or, where its group is the only one, from its fellows. `method.plan`
    is the matrix of this as data: `print(method.plan)`.
    T, alpha and ramp are those of the public ONE and OKDDip code; the shape of the branches follows DKS.
    Deviates: no small number is added to the target's softmax, as the ancestors do.

    Args:
        student: the staged network to train and deploy.
        rule: who learns from whom: "uakd"; "symmetric", its control, where all learn from the mean of all branches;
            or an ancestor over the same objects: "byot", "cl_ilr", "dks", "dml", "eed", "okddip", "one".
        alpha: weight of distillation (1).
        temperature: T, of whatever rule (3); `attar.methods.common.graph_presets` has ancestors at their own settings.
        ramp: epochs until distillation has its full weight (80 of 300); set it for shorter runs, 0 is at once.
        depth_ratio: blocks of a branch's stages as a share of the student's (0.5).
        width_mult: channels of a branch's stages as a multiple of the student's (2).
        replicas: branches at each stage but the last (2).
        branches: the branches themselves, each a `Branch` or a mapping of its fields, instead of those three.
        group_by: "stage" or "shape"; a branch's own `group` comes first.
        ensemble: a group's "mean", or a "gate" over its members that learns from the labels (needs ensemble_ce).
        ensemble_ce: the groups' ensembles learn from the labels.
        leader_teaches: the student teaches the branches too, as one more group.
        direction: "all", or "deeper": a group learns only from groups that fork later and from the student.
        ilr: divide the gradient that enters the trunk at a fork by its number of children, as CL-ILR does.
        feature_weight: of the squared distance between pooled features, projected to the student's width, and their
            mean over the objects (0).
        image_shape: (C, H, W) of one image, for gates; by default the network's own.

    Raises:
        AttarError: the student is not staged, an option has an unknown value, or it does not go with the rule.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        rule: str = "uakd",
        alpha: float = 1.0,
        temperature: float = 3.0,
        ramp: int = 80,
        depth_ratio: float = 0.5,
        width_mult: float = 2.0,
        replicas: int = 2,
        branches: Sequence[Branch | Mapping[str, Any]] | None = None,
        group_by: Literal["stage", "shape"] = "stage",
        ensemble: Literal["mean", "gate"] = "mean",
        ensemble_ce: bool = False,
        leader_teaches: bool = False,
        direction: Literal["all", "deeper"] = "all",
        ilr: bool = False,
        feature_weight: float = 0.0,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        trunk = require_staged(self.name, STUDENT, student)
        if ensemble not in ("mean", "gate"):
            raise unknown("ensemble", ensemble, ("mean", "gate"))
        if ensemble == "gate" and not ensemble_ce:
            raise AttarError("uakd: nothing would teach the gate; give method.ensemble_ce=true")
        self.alpha, self.ramp, self.feature_weight = alpha, ramp, feature_weight
        forks = default_branches(trunk, depth_ratio, width_mult, replicas) if branches is None else branches
        self.net = bifurcate(trunk, forks, ilr)
        selective = {
            "ensemble_ce": ensemble_ce,
            "leader_teaches": leader_teaches,
            "direction": direction,
            "gated": ensemble == "gate",
        }
        self.plan = plan(rule, grouped(self.net.forks, group_by), temperature, selective)
        learner = Attention if rule == "okddip" else Gates
        self.shares = learner(self.net, self.plan, image_shape) if self.plan.learned else None
        width = trunk.classifier.in_features
        self.projections = nn.ModuleDict(
            {name: nn.Linear(_width(self.net, name), width) for name in self.net.forks} if feature_weight else {}
        )

    def run(self, batch: Batch) -> Knowledge:
        trunk, branches = self.net(batch.images)
        knowledge = Knowledge(batch, student=trunk, **branches)
        self.plan.enter(knowledge, self.shares(trunk, branches) if self.shares else {})
        if self.projections:
            self._enter_features(knowledge, trunk, branches)
        return knowledge

    def _enter_features(self, knowledge: Knowledge, trunk: Output, branches: Mapping[str, Output]) -> None:
        """Add every object's pooled features at the student's width, and their mean."""
        features = {STUDENT: trunk.tap("pooled")}
        features |= {name: self.projections[name](branches[name].tap("pooled")) for name in branches}
        for name, feature in features.items():
            knowledge.add(f"{name}.projected", feature)
        knowledge.add("features.mean", torch.stack([*features.values()]).mean(0))

    def transfers(self) -> Iterable[Transfer]:
        yield from self.plan.transfers(self.alpha, self.ramp)
        for name in (STUDENT, *self.projections) if self.projections else ():
            yield Transfer("features.mean", f"{name}.projected", MSE("batchmean"), weight=self.feature_weight)

    def deployed(self) -> nn.Module:
        return self.net.trunk


def plan(
    rule: str, groups: Mapping[str, Sequence[str]], temperature: float, selective: Mapping[str, Any]
) -> DistillGraph:
    """The rule over the student and its groups; the selective options belong to the rule "uakd" alone."""
    if rule == "uakd":
        return uakd(STUDENT, groups, temperature, **selective)
    if rule not in PRESETS:
        raise unknown("rule", rule, ["uakd", *PRESETS])
    if chosen := [name for name, value in selective.items() if value not in (False, "all")]:
        raise AttarError(f"uakd: {', '.join(chosen)} belongs to method.rule=uakd, not to {rule!r}; leave it out")
    return PRESETS[rule]([STUDENT, *(name for members in groups.values() for name in members)], temperature)


def grouped(forks: Mapping[str, Branch], by: str) -> dict[str, list[str]]:
    """The names of each group's branches, groups that fork earlier first.

    >>> grouped({"a": Branch(2), "b": Branch(1), "c": Branch(2)}, "stage")
    {'group1': ['b'], 'group2': ['a', 'c']}
    """
    if by not in ("stage", "shape"):
        raise unknown("group_by", by, ("stage", "shape"))
    shapes = list(dict.fromkeys((fork.depth_ratio, fork.width_mult) for fork in forks.values()))
    groups: dict[str, list[str]] = {}
    for name, fork in sorted(forks.items(), key=lambda item: item[1].stage):
        number = fork.stage if by == "stage" else shapes.index((fork.depth_ratio, fork.width_mult)) + 1
        groups.setdefault(fork.group or f"group{number}", []).append(name)
    return groups


def _width(net: Branched, name: str) -> int:
    """The width of an object's pooled features."""
    part = net.branches[name] if name in net.forks else net.trunk
    return require_staged(UAKD.name, name, part).classifier.in_features


class Gates(nn.Module):
    """ONE's gate for each ensemble: the trunk's map where its first member forks, averaged, to the members' shares."""

    def __init__(self, net: Branched, graph: DistillGraph, image_shape: tuple[int, int, int] | None) -> None:
        super().__init__()
        self.taps = {
            name: f"stage{min(net.forks[part].stage for part in graph.row(name) if part in net.forks)}"
            for name in graph.learned
        }
        widths = {tap: shape[0] for tap, shape in tap_shapes(net.trunk, [*self.taps.values()], image_shape).items()}
        self.gates = nn.ModuleDict({name: gate(widths[self.taps[name]], len(graph.row(name))) for name in self.taps})

    def forward(self, trunk: Output, branches: Mapping[str, Output]) -> dict[str, Tensor]:
        return {name: self.gates[name](averaged(trunk.tap(tap))) for name, tap in self.taps.items()}


def gate(width: int, members: int) -> nn.Sequential:
    """Pooled features to shares that sum to 1 for each sample."""
    return nn.Sequential(nn.Linear(width, members), nn.BatchNorm1d(members), nn.ReLU(), nn.Softmax(dim=1))


class Attention(nn.Module):
    """OKDDip's shares: how well each peer's query matches every peer's key, both linear in its pooled features."""

    def __init__(self, net: Branched, graph: DistillGraph, image_shape: tuple[int, int, int] | None) -> None:
        super().__init__()
        self.learned = graph.learned
        # Shares are read in the plan's order, which need not be that of the forks.
        self.peers = graph.objects[1:]
        # An eighth of the features, as in OKDDip; peers of different widths meet in it.
        size = max(net.trunk.classifier.in_features // 8, 1)
        self.queries, self.keys = (
            nn.ModuleDict({name: nn.Linear(_width(net, name), size, bias=False) for name in net.forks})
            for _ in range(2)
        )

    def forward(self, trunk: Output, branches: Mapping[str, Output]) -> dict[str, Tensor]:
        queries, keys = (
            torch.stack([embed[name](branches[name].tap("pooled")) for name in self.peers], dim=1)
            for embed in (self.queries, self.keys)
        )
        shares = (queries @ keys.mT).softmax(dim=2)
        return dict(zip(self.learned, shares.unbind(1), strict=True))
