"""Which settings of a short training pay, chosen on images kept apart: resnet56 -> resnet20 on CIFAR-100.

Two rounds, all trainings of a round in lockstep (`lockstep.py`). 45,000 images train, 5,000 of the training set choose;
the test set is not looked at. Round 1 tries every arm with seed 0. Round 2 trains the best of each method with two more
seeds; of those, the best mean of three seeds is chosen. Every training counts as a trial, and the file holds them all.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from statistics import mean
from typing import Any

import torch
from common import Record, arguments, left, log
from lockstep import Arm, frozen_teacher, together

from attar.data import load_data

# 125 divides 45,000 and 50,000: every batch is full.
BASE = ["teacher=resnet56", "student=resnet20", "data=cifar100", "epochs=40", "batch_size=125", "optim.schedule=linear"]
BASE += ["optim.warmup=4", "optim.lr=0.2", "precision=bfloat16"]
TINY = ["teacher=resnet14", "student=resnet8", "data=cifar100", "epochs=1", "batch_size=25", "optim.schedule=linear"]
TINY += ["optim.lr=0.1", "precision=float32"]
ONECYCLE = ("optim.schedule=onecycle", "optim.warmup=0")
BUNDLE = ("optim.decay_vectors=false", "student.options={zero_gamma: true}")
# Levers that do not concern the teacher; KD and the student alone each try them all.
COMMON: dict[str, tuple[str, ...]] = {
    "onecycle .2": ONECYCLE,
    "linear .2": (),
    "linear .4": ("optim.lr=0.4",),
    "linear .1": ("optim.lr=0.1",),
    "wd 1e-3": ("optim.weight_decay=1e-3",),
    "wd 2.5e-4": ("optim.weight_decay=2.5e-4",),
    "bundle": BUNDLE,
    "ema .995": ("optim.ema=0.995",),
    "rex .2": ("optim.schedule=rex",),
    "alternating flips": ("data.augment={flip: alternate}",),
}
OF_KD: dict[str, tuple[str, ...]] = {
    "T 2": ("method.temperature=2",),
    "no labels": ("method.ce=0", "method.kd=1"),
    "half labels": ("method.ce=0.5", "method.kd=0.5"),
}
DKD = ("method=dkd", "method.warmup=0", "method.beta=2")
METHODS: dict[str, tuple[str, ...]] = {"kd": ("method=kd",), "alone": ("method=supervised",), "dkd": DKD}
# How many of each method go into the second round.
SECOND = {"kd": 3, "alone": 2, "dkd": 1}


def first_round() -> list[Arm]:
    """Every arm with seed 0, the ones that matter most first: time may leave out the last."""
    kd = [Arm(f"kd, {name}", (*METHODS["kd"], *changes)) for name, changes in (COMMON | OF_KD).items()]
    alone = [Arm(f"alone, {name}", (*METHODS["alone"], *changes)) for name, changes in COMMON.items()]
    smooth = Arm("alone, smoothing .05", (*METHODS["alone"], "optim.label_smoothing=0.05"))
    dkd = [Arm(f"dkd, linear {rate}", (*DKD, f"optim.lr={rate}")) for rate in (0.1, 0.2)]
    turns = [arm for pair in zip(kd, alone, strict=False) for arm in pair]
    return [*turns, *kd[len(alone) :], *dkd, smooth]


def method_of(name: str) -> str:
    return name.partition(",")[0]


def best(found: list[dict[str, Any]], method: str, count: int) -> list[dict[str, Any]]:
    """The arms of a method with the best accuracy on the images kept apart."""
    arms = [one for one in found if method_of(one["name"]) == method]
    return sorted(arms, key=lambda one: -one["top1"])[:count]


def chosen(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each method the arm with the best mean over the most seeds."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        groups[one["name"]].append(one)
    picked = {}
    for method in METHODS:
        arms = [group for name, group in groups.items() if method_of(name) == method]
        if arms:
            group = max(arms, key=lambda group: (len(group), mean(one["top1"] for one in group)))
            top1 = [one["top1"] for one in group]
            picked[method] = {"name": group[0]["name"], "overrides": group[0]["overrides"], "val_top1": top1}
    return picked


def main() -> None:
    options: argparse.Namespace = arguments(__doc__)
    device = torch.device(options.device)
    base = TINY if options.tiny else BASE
    sizes = {"train_size": 250} if options.tiny else {}
    splits = load_data("cifar100", root=options.data, download=False, val_fraction=0.1, seed=0, **sizes)
    assert splits.val is not None
    held_out = splits.val.subset(torch.arange(200)) if options.tiny else splits.val
    record = Record(options.out / "levers.json", {"base": base, "train": len(splits.train), "val": len(held_out)})
    teacher = frozen_teacher(base[0].partition("=")[2], options.weights or None, len(splits.train.classes), device)
    arms = first_round()[:: 8 if options.tiny else 1]
    if not record.has("round 1"):
        share = 0.68 * left(options)
        record.add("round 1", asdict(together(arms, base, splits, teacher, device, held_out, share, log)))
        record.add("chosen", chosen(record.content["results"]["round 1"]["arms"]))
    first = record.content["results"]["round 1"]["arms"]
    again = [
        Arm(one["name"], tuple(one["overrides"]), seed)
        for method, count in SECOND.items()
        for one in best(first, method, count)
        for seed in (1, 2)
    ]
    if not record.has("round 2") and again:
        record.add("round 2", asdict(together(again, base, splits, teacher, device, held_out, left(options), log)))
    trials = first + record.content["results"].get("round 2", {}).get("arms", [])
    record.add("trials", len(trials))
    record.add("chosen", chosen(trials))
    for method, one in record.content["results"]["chosen"].items():
        log(f"{method}: {one['name']}, validation {[round(top1, 2) for top1 in one['val_top1']]}")


if __name__ == "__main__":
    main()
