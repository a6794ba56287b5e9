"""Known methods as matrices: each is one choice of who learns from whom, over objects whose first is deployed.

The formulas of KD, DML, CL-ILR, ONE, OKDDip, BYOT, DKS and EED were read in public code, with its temperatures as the
defaults here (DML's and KD's are the papers'). UAKD and its symmetric control are RECONSTRUCTED from an abstract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from attar.errors import unknown
from attar.losses import KLDivergence, LogitsMSE
from attar.methods.common.distill_graph import DistillGraph, Imitation, Row, from_matrix, mean_of, others


def kd(objects: Sequence[str], temperature: float = 4.0) -> DistillGraph:
    """KD: the student learns from the mean of the others, which are its frozen teachers (one in the paper)."""
    student, *teachers = objects
    rows = [mean_of(teachers), *({} for _ in teachers)]
    matrix = [[row.get(name, 0.0) for name in objects] for row in rows]
    return from_matrix(objects, matrix, loss=KLDivergence(temperature), labels={student: 1.0})


def pairwise(objects: Sequence[str], weight: float, temperature: float) -> DistillGraph:
    """Everybody learns from each of the others, one edge for each pair."""
    matrix = [[weight * (learner != name) for name in objects] for learner in objects]
    return from_matrix(objects, matrix, "pairwise", loss=KLDivergence(temperature))


def dml(objects: Sequence[str], temperature: float = 1.0) -> DistillGraph:
    """DML: the mean over the peers of KL, each peer a target of its own."""
    return pairwise(objects, 1 / max(len(objects) - 1, 1), temperature)


def dks(objects: Sequence[str], temperature: float = 1.0) -> DistillGraph:
    """DKS: as DML, with weight 1 for every pair."""
    return pairwise(objects, 1.0, temperature)


def cl_ilr(objects: Sequence[str], temperature: float = 3.0) -> DistillGraph:
    """CL-ILR: each object learns from the mean of the others."""
    learners = objects if len(objects) > 1 else ()
    ensembles = {f"all_but_{name}": mean_of(others(objects, name)) for name in learners}
    imitations = tuple(Imitation(name, f"all_but_{name}") for name in learners)
    return DistillGraph(tuple(objects), imitations, ensembles, dict.fromkeys(objects, 1.0), KLDivergence(temperature))


def taught_by_one(objects: Sequence[str], members: Sequence[str], loss: nn.Module) -> DistillGraph:
    """Everybody learns from one mean."""
    alone = len(objects) == 1
    ensembles = {} if alone else {"ensemble": mean_of(members)}
    imitations = () if alone else tuple(Imitation(name, "ensemble") for name in objects)
    return DistillGraph(tuple(objects), imitations, ensembles, dict.fromkeys(objects, 1.0), loss)


def symmetric(objects: Sequence[str], temperature: float = 3.0) -> DistillGraph:
    """The control of UAKD: each object, a branch itself included, learns from the mean of all branches."""
    return taught_by_one(objects, objects[1:], KLDivergence(temperature))


def eed(objects: Sequence[str], temperature: float = 3.0) -> DistillGraph:
    """EED: each object learns the mean logits of all by their squared error, which has no temperature."""
    return taught_by_one(objects, objects, LogitsMSE())


def one(objects: Sequence[str], temperature: float = 3.0) -> DistillGraph:
    """ONE: each object learns from one gated ensemble, which learns from the labels."""
    plain = taught_by_one(objects, objects, KLDivergence(temperature))
    learned = tuple(plain.ensembles)
    return replace(plain, labels={**plain.labels, **dict.fromkeys(learned, 1.0)}, learned=learned)


def okddip(objects: Sequence[str], temperature: float = 3.0) -> DistillGraph:
    """OKDDip: each peer attends to all peers, the leader learns from their mean; sources learn too."""
    leader, *peers = objects
    ensembles = {f"attention_of_{peer}": mean_of(peers) for peer in peers}
    imitations = tuple(Imitation(peer, f"attention_of_{peer}") for peer in peers)
    if peers:
        ensembles, imitations = {**ensembles, "peers": mean_of(peers)}, (Imitation(leader, "peers"), *imitations)
    labels, loss = dict.fromkeys(objects, 1.0), KLDivergence(temperature)
    learned = tuple(f"attention_of_{peer}" for peer in peers)
    return DistillGraph(tuple(objects), imitations, ensembles, labels, loss, detach=False, learned=learned)


def byot(objects: Sequence[str], temperature: float = 3.0, share: float = 0.1) -> DistillGraph:
    """BYOT: the deepest teaches the others and learns from none; KL, whose gradient is its soft cross-entropy's."""
    deepest, *shallow = objects
    imitations = tuple(Imitation(name, deepest, share) for name in shallow)
    labels = dict.fromkeys(objects, 1 - share)
    return DistillGraph(tuple(objects), imitations, {}, labels, KLDivergence(temperature))


def uakd(
    main: str,
    groups: Mapping[str, Sequence[str]],
    temperature: float = 3.0,
    *,
    leader_teaches: bool = False,
    direction: Literal["all", "deeper"] = "all",
    ensemble_ce: bool = False,
    gated: bool = False,
) -> DistillGraph:
    """UAKD: the main object learns from all groups equally, a branch from the other groups. RECONSTRUCTED.

    Args:
        main: the deployed object, which teaches no other.
        groups: each group's branches; groups that fork later come later.
        temperature: of the KL.
        leader_teaches: the main object teaches the branches too, as one more group.
        direction: "deeper": a group learns only from later groups and the main object.
        ensemble_ce: the groups' ensembles learn from the labels.
        gated: the shares within a group are learnt for each sample.

    >>> print(uakd("main", {"A": ["a1", "a2"], "B": ["b1"]}))
         main   a1   a2  b1
    main    . 0.25 0.25 0.5
    a1      .    .    .   1
    a2      .    .    .   1
    b1      .  0.5  0.5   .
    """
    if direction not in ("all", "deeper"):
        raise unknown("direction", direction, ("all", "deeper"))
    names = list(groups)
    ensembles: dict[str, Row] = {name: mean_of(members) for name, members in groups.items()}
    imitations: list[Imitation] = []

    def teach(learner: str, sources: Sequence[str], called: str = "") -> None:
        if sources:
            source = sources[0] if len(sources) == 1 else called or "_and_".join(sources)
            if len(sources) > 1:
                ensembles[source] = mean_of(sources)
            imitations.append(Imitation(learner, source))

    teach(main, names)
    for number, (group, members) in enumerate(groups.items()):
        sources = names[number + 1 :] if direction == "deeper" else others(names, group)
        sources = [*sources, *([main] if leader_teaches or direction == "deeper" else [])]
        for member in members:
            # A group without another one to learn from falls back to CL-ILR among its members.
            if sources:
                teach(member, sources)
            else:
                teach(member, others(members, member), f"{group}_but_{member}")
    objects = (main, *(member for members in groups.values() for member in members))
    labels = dict.fromkeys((*objects, *(names if ensemble_ce else ())), 1.0)
    learned = tuple(names) if gated else ()
    return DistillGraph(objects, tuple(imitations), ensembles, labels, KLDivergence(temperature), learned=learned)


# The presets over a trunk and its branches; KD needs a frozen teacher and UAKD the groups.
PRESETS: dict[str, Callable[[Sequence[str], float], DistillGraph]] = {
    "byot": byot,
    "cl_ilr": cl_ilr,
    "dks": dks,
    "dml": dml,
    "eed": eed,
    "okddip": okddip,
    "one": one,
    "symmetric": symmetric,
}
