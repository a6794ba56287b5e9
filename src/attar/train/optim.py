"""Optimisers by name."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from attar.choices import OPTIMISERS, decay_groups, register_optimiser
from attar.errors import AttarError
from attar.methods import Method
from attar.recipe import OptimRecipe, Recipe
from attar.train.component_sgd import ComponentSGD

# Those that take one backward pass for each component.
BY_COMPONENT = ("dot", "deepkd")

# Defaults of a recipe that names an optimiser: of one-cycle SGD at batch 128; of AdamW those of torch.
SGDS = {"lr": 0.2, "weight_decay": 5e-4}


def optimiser(parameters: list[nn.Parameter], recipe: OptimRecipe) -> Optimizer:
    """The optimiser that a recipe names, over everything that learns."""
    made: Optimizer = OPTIMISERS[recipe.name].make(parameters, recipe)
    return made


# Fused, which changes no result but its rounding.
@register_optimiser("sgd", title="SGD with optim.momentum, L2 penalty optim.weight_decay", **SGDS)
def sgd(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    made = SGD(
        decay_groups(parameters, optim),
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov and optim.momentum > 0,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    made.register_step_pre_hook(start_late_momenta)
    return made


def start_late_momenta(made: Optimizer, *_: object) -> None:
    """A momentum of 0 for parameters whose first gradient comes after that of others, which fused SGD cannot take.

    So it is where an edge's weight is 0 in the first epochs: what it alone reaches begins to learn later.
    """
    for group in made.param_groups:
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [parameter for parameter in moved if made.state[parameter].get("momentum_buffer") is None]
        if group["momentum"] and len(late) < len(moved):
            for parameter in late:
                made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


@register_optimiser("adamw", title="AdamW (arXiv:1711.05101), decoupled optim.weight_decay", lr=1e-3, weight_decay=1e-2)
def adamw(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """Adam with decoupled weight decay; its defaults are those of torch."""
    return AdamW(decay_groups(parameters, optim), lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


@register_optimiser("dot", title="SGD; momentum + optim.delta for distillation, - for the labels", **SGDS)
def dot(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """DOT, Distillation-Oriented Trainer (Zhao et al., ICCV 2023, arXiv:2307.08436).

    One backward pass more than SGD. As in the authors' code, weight decay belongs to the labels' part, and a parameter
    that only one part reaches has the plain momentum. Theirs has no Nesterov momentum: optim.nesterov=false.
    """
    return by_component(parameters, optim, {"task": optim.momentum - optim.delta, "*": optim.momentum + optim.delta})


@register_optimiser(
    "deepkd", title="SGD; momentum + optim.delta for labels and other classes, - for the target class", **SGDS
)
def deepkd(parameters: list[nn.Parameter], optim: OptimRecipe) -> Optimizer:
    """The optimiser of DeepKD (arXiv:2505.15133): a momentum for each of labels, target class and everything else.

    Two backward passes more than SGD. Edges between outputs are parted for it where their loss allows
    (`Method.part_target_class`), as the authors part KD, DKD, MLKD and CRLD. Of a method without such an edge the
    teacher's gradients are one group, and the optimiser is `dot` (`for_method`).

    Deviates from the authors' code, where the labels' part has the target class's momentum wherever both reach a
    parameter, against its own configuration, and where weight decay belongs to the target class's part: here each part
    has the momentum that is configured, and weight decay belongs to the labels' part. Parted KL is exactly KL; theirs
    has the batch's mean of 1 - p_t,y times the batch's mean of NCKD, and on MLKD and CRLD DKD's terms in its place.
    """
    return by_component(parameters, optim, {"target": optim.momentum - optim.delta, "*": optim.momentum + optim.delta})


def for_method(method: Method, recipe: Recipe) -> tuple[OptimRecipe, str]:
    """The optimiser's settings for a method, whose edges `deepkd` parts, and a line for the log, or "".

    Where no edge has a part of the target class, the published momenta of `deepkd` would be alike for all that is
    there, which is SGD with another momentum; so labels and teacher are set apart by the momenta of `dot`.

    Raises:
        AttarError: edges are parted by the label's class, and there are images without one class as their label.

    >>> import attar
    >>> nets = dict(teacher=attar.create_model("resnet14"), student=attar.create_model("resnet8"))
    >>> recipe = attar.read_recipe(optim={"name": "deepkd"})
    >>> [for_method(attar.create_method(name, **nets), recipe)[0].name for name in ("dkd", "at")]
    ['deepkd', 'dot']
    """
    optim, data = recipe.optim, recipe.data
    if optim.name != "deepkd" or method.name == "supervised":
        return optim, ""
    if not method.part_target_class():
        line = (
            f"optim.name=deepkd: no edge of {method.name!r} has a part of the target class; as dot, labels against rest"
        )
        return replace(optim, name="dot"), line
    several = "mixed images" if data.mixup or data.cutmix else "images without labels" if data.unlabelled else ""
    if several:
        raise AttarError(
            f"optim.name=deepkd parts the label's class from the others, which {several} do not have; give "
            "optim.name=dot, or leave data.mixup, data.cutmix and data.unlabelled out"
        )
    return optim, ""


def check_components(method: Method, optim: OptimRecipe, processes: int, compiled: bool = False) -> None:
    """An optimiser with a momentum for each component needs edges of two components, and one process.

    With the labels alone, as teachers and the student alone are trained, there is one component and it is SGD.

    Args:
        method: what it trains, as `for_method` has left it.
        optim: of the recipe.
        processes: that work on the training.
        compiled: whether the recipe wants compiled steps.

    Raises:
        AttarError: it has not, its rate is to be found, compiled steps are wanted, or a momentum is outside [0, 1).
    """
    if optim.name not in BY_COMPONENT:
        return
    if optim.range_test:
        raise AttarError(f"optim.lr=auto is not for optim.name={optim.name}; give a number")
    if processes > 1:
        raise AttarError(f"optim.name={optim.name} runs in one process; leave torchrun out, or give optim.name=sgd")
    if compiled:
        raise AttarError(f"optim.name={optim.name} runs without compiled steps; leave compile= out")
    optimiser([nn.Parameter(torch.zeros(1))], optim)
    components = {edge.component for edge in method.edges}
    if method.name != "supervised" and len(components) < 2:
        (only,) = components
        source = "the labels" if only == "task" else "other networks"
        raise AttarError(
            f"optim.name={optim.name}: all edges of method {method.name!r} are from {source}, one group; give "
            "optim.name=sgd, or a method that learns from the labels and from a teacher (kd, dkd, at)"
        )


def by_component(parameters: list[nn.Parameter], optim: OptimRecipe, momenta: dict[str, float]) -> ComponentSGD:
    """SGD with a momentum for each component."""
    nesterov = optim.nesterov and optim.momentum > 0
    groups = decay_groups(parameters, optim)
    return ComponentSGD(groups, optim.lr, momenta, optim.momentum, optim.weight_decay, nesterov)
