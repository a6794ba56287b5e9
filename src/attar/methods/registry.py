"""The table of methods: each with a record of where it comes from and what it needs from a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import nn

from attar.errors import AttarError, unknown
from attar.methods.base import Composed, Method
from attar.methods.common.edge_options import EdgeOptions, LogitEdges, Weights
from attar.methods.common.layer_schedules import ALL
from attar.methods.common.own_loop import check_apart
from attar.methods.common.runs_on import Needs, naming_pairs, runs_on
from attar.methods.common.teacher_rules import read_rule
from attar.models import Ensemble, Frozen, FrozenEnsemble
from attar.registry import Registry, check_types
from attar.tasks import Task, create_task

Family = Literal["baseline", "offline", "online", "semi-online", "self"]


@dataclass(frozen=True)
class MethodInfo:
    """What the registry knows about a method.

    Attributes:
        name: what it is called in recipes.
        title: the method's full name.
        paper: where it was published ("arXiv:1503.02531").
        year: of first publication.
        family: who there is to learn from: a fixed teacher (offline), peers (online), both (semi-online) or itself
            (self).
        needs: what it asks of the networks beyond logits.
        defaults: its options and their default values, read from the constructor.
        cls: the class.
    """

    name: str
    title: str
    paper: str
    year: int
    family: Family
    needs: tuple[Needs, ...]
    defaults: dict[str, Any]
    cls: type[Method]

    @property
    def takes_teacher(self) -> bool:
        """Whether the constructor has a teacher; self-distillation and peers do without."""
        return "teacher" in inspect.signature(self.cls).parameters

    @property
    def needs_teacher(self) -> bool:
        """Whether it cannot do without one."""
        teacher = inspect.signature(self.cls).parameters.get("teacher")
        return teacher is not None and teacher.default is inspect.Parameter.empty

    @property
    def takes_teachers(self) -> bool:
        """Whether several teachers go with it: it is made for several, or reads their logits or pooled features."""
        return self.cls.many_teachers or (
            self.takes_teacher and not self.cls.one_teacher and not {"stages", "classifier", "layers"} & set(self.needs)
        )

    @property
    def runs_on(self) -> str:
        """Which networks it runs on, with a pair by name.

        >>> method_info("kd").runs_on
        'networks of the same classes, such as resnet56 -> resnet20'
        """
        return runs_on(self.needs, takes_teacher=self.takes_teacher, options=self.defaults)

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.cls) or self.title).partition("\n")[0]


METHODS: Registry[MethodInfo] = Registry("method")
Cls = TypeVar("Cls", bound=type[Method])
# Options of every method.
OF_EVERY_METHOD = ("weights", "logit_edges", "layer_schedule", "teachers")
# Given by the framework, not options of the method.
NETWORKS = ("self", "teacher", "student", "image_shape")


def register(
    name: str, *, title: str, paper: str, year: int, family: Family, needs: tuple[Needs, ...] = ("logits",)
) -> Callable[[Cls], Cls]:
    """Class decorator that enters a method under a name; see `MethodInfo` for the fields."""

    def enter(cls: Cls) -> Cls:
        parameters = inspect.signature(cls).parameters
        defaults = {key: p.default for key, p in parameters.items() if key not in NETWORKS}
        info = MethodInfo(name, title, paper, year, family, needs, defaults, cls)
        METHODS.add(info)
        cls.name, cls.needs, cls.runs_on = name, needs, info.runs_on
        return cls

    return enter


def method_info(name: str) -> MethodInfo:
    """The record of one method; an unknown name is answered with the nearest."""
    return METHODS[name]


def list_methods(pattern: str = "*", family: str | None = None) -> list[str]:
    """The registered methods whose name matches a shell pattern, optionally of one family.

    >>> "kd" in list_methods("*kd*", family="offline")
    True
    """
    return [name for name in METHODS.names(pattern) if family in (None, METHODS[name].family)]


def create_method(
    name: str,
    *,
    student: nn.Module,
    teacher: nn.Module | Sequence[nn.Module] | None = None,
    image_shape: tuple[int, ...] | None = None,
    task: str | Task = "classification",
    weights: Weights | None = None,
    logit_edges: LogitEdges | None = None,
    layer_schedule: str = ALL,
    teachers: str | None = None,
    **options: Any,
) -> Method:
    """Build a method around networks.

    Args:
        name: a registered method, or several joined by "+" ("kd+at"): their edges over the same networks, where
            options are given per method (`at={"weight": 500}`).
        student: the network to be trained and deployed.
        teacher: the network to learn from, or a list of them; left out for methods that have none.
        image_shape: (C, H, W) of one image, or the shape of another sample, for methods that choose adapters from
            shapes; by default the networks' own `input_shape`.
        task: what is learnt, which chooses the losses on labels and outputs: a registered name or a `Task`.
        weights: weights of edges by their keys, in place of the method's: numbers, schedules, or texts such as
            "linear(0, 1, 20)" (`attar.schedules.read_weight`).
        logit_edges: what is done to logits in every edge between two networks' logits, or, by their keys, in some:
            "standardised" (LSKD), "normalised" (NormKD's temperature), "learnt(start, span, loops)" (CTKD's) or
            "entropy(temperature)" (EA-KD's weights).
        layer_schedule: "all" edges weigh something all the time; with "progressive" and "stacked" those between layers
            do so bottom up, a layer after the other, then those of the outputs; "stacked(2)": two epochs a layer.
        teachers: how much each of several teachers counts, for methods that read a teacher's logits or pooled features:
            "mean" (the default), "fixed(0.7, 0.3)", "entropy", "confidence", "routed(pace)" or "dropped(keep)", see
            docs/edge-options.md. Methods made for several teachers have their own rule.
        options: the method's own settings, `attar methods NAME` lists them.

    Raises:
        AttarError: the method, an option or an edge is unknown, a teacher is missing, one is given to a method
            without, or it shares parameters with the student.

    >>> import attar
    >>> kd = create_method("kd", teacher=attar.create_model("resnet14"), student=attar.create_model("resnet8"))
    >>> [edge.key for edge in kd.edges]
    ['labels->student.logits', 'teacher.logits->student.logits']
    """
    teacher, ensemble = _joined(name, teacher, teachers)
    chosen = create_task(task) if isinstance(task, str) else task
    if "+" in name:
        method: Method = _compose(name, student, teacher, image_shape, chosen, options)
    else:
        method = _single(name, student, teacher, image_shape, options)
    for part in method.modules():
        if isinstance(part, Method):
            part.task = chosen
            if ensemble is not None and isinstance(held := getattr(part, "teacher", None), Frozen):
                for tap in held.requested:
                    ensemble.request(tap)
                part.teacher = ensemble  # type: ignore[assignment]  # called as the Frozen that it replaces
    if weights is not None or logit_edges is not None or layer_schedule != ALL:
        edges = tuple(method.transfers())
        method.edge_options = EdgeOptions(edges, chosen.output, weights, logit_edges, layer_schedule)
    return method


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Hold a method's options against its constructor; those that every method takes may stand among them.

    Args:
        name: a method, or several joined by "+", whose options are given per method.
        options: as for `create_method`.

    Raises:
        AttarError: the method or an option is unknown, has another type or is missing.

    >>> check_options("kd", {"temprature": 2.0})
    Traceback (most recent call last):
    attar.errors.UnknownNameError: unknown option of method 'kd': 'temprature'; did you mean 'temperature'?
    """
    own = {key: value for key, value in options.items() if key not in OF_EVERY_METHOD}
    if "+" in name:
        names = [part.strip() for part in name.split("+")]
        if twice := next((part for part in names if names.count(part) > 1), None):
            raise AttarError(f"{name!r} joins {twice!r} with itself; name each method once")
        alone = next((part for part in names if not METHODS[part].takes_teacher), None)
        if alone is not None:
            raise AttarError(f"{name!r}: method {alone!r} has no teacher and cannot be joined to others; run it alone")
        for option, settings in own.items():
            if option not in names or not isinstance(settings, dict):
                owner = next((one for one in names if option in METHODS[one].defaults), names[0])
                raise AttarError(
                    f"options of {name!r} are given per method: method.{owner}.{option}=..., not method.{option}=..."
                )
        for part in names:
            check_options(part, own.get(part, {}))
        return
    info = METHODS[name]
    for option in own:
        if option not in info.defaults:
            raise unknown(f"option of method {name!r}:", option, info.defaults)
    check_types(f"method {name!r}", info.cls, own)
    if missing := [o for o, d in info.defaults.items() if d is inspect.Parameter.empty and o not in own]:
        raise AttarError(f"method {name!r} needs a value for {', '.join(missing)}; give method.{missing[0]}=...")


def _single(name: str, student: nn.Module, teacher: Any, image_shape: Any, options: dict[str, Any]) -> Method:
    info = METHODS[name]
    check_options(name, options)
    if teacher is not None:
        check_apart([teacher] if isinstance(teacher, nn.Module) else teacher, student)
    if info.takes_teacher:
        options["teacher"] = _teacher_for(info, teacher)
    elif teacher is not None:
        raise AttarError(f"method {name!r} has no teacher ({info.family}); leave teacher= out")
    if "image_shape" in inspect.signature(info.cls).parameters:
        options["image_shape"] = image_shape
    with naming_pairs(name, info.runs_on):
        return info.cls(student=student, **options)  # type: ignore[call-arg]  # every method takes a student


def _teacher_for(info: MethodInfo, teacher: nn.Module | Sequence[nn.Module] | None) -> Any:
    """The teacher as the method's constructor wants it: one network, or the list where it takes several."""
    if teacher is None and info.needs_teacher:
        raise AttarError(f"method {info.name!r} needs a teacher ({info.family}); give teacher=")
    if teacher is None or isinstance(teacher, nn.Module) or info.cls.many_teachers:
        return teacher
    return teacher[0]


def _joined(
    name: str, teacher: nn.Module | Sequence[nn.Module] | None, rule: str | None
) -> tuple[nn.Module | Sequence[nn.Module] | None, FrozenEnsemble | None]:
    """Several teachers as one network, frozen and weighed by a rule, where the methods are not made for several.

    Raises:
        AttarError: a rule without several teachers, or for methods that have their own; or a method of one teacher.
    """
    infos = [METHODS[part.strip()] for part in name.split("+")]
    own = next((info for info in infos if info.cls.many_teachers), None)
    several = isinstance(teacher, Sequence) and len(teacher) > 1
    if rule is not None and own is not None:
        raise AttarError(f"teachers={rule}: method {own.name!r} weighs several teachers by its own rule; leave it out")
    if rule is not None and not several:
        raise AttarError(f"teachers={rule} weighs several teachers; give teacher=A,B")
    if not several or own is not None or not any(info.takes_teacher for info in infos):
        return teacher, None
    assert isinstance(teacher, Sequence)
    single = next((info for info in infos if not info.takes_teachers), None)
    if single is not None:
        why = single.cls.one_teacher or f"reads {' and '.join(need for need in single.needs if need != 'logits')}"
        raise AttarError(
            f"method {single.name!r} takes one teacher, got {len(teacher)}, because it {why}; give one network, "
            "or a method that reads logits or pooled features"
        )
    together = Ensemble(list(teacher))
    return together, FrozenEnsemble(together, read_rule(rule or "mean", len(teacher)))


def _compose(
    name: str, student: nn.Module, teacher: Any, image_shape: Any, task: Task, options: dict[str, Any]
) -> Composed:
    check_options(name, options)
    names = [part.strip() for part in name.split("+")]
    if owner := next((part for part in names if "teachers" in options.get(part, {})), None):
        raise AttarError(f"method.{owner}.teachers: joined methods share their teachers; give method.teachers")
    given = {"student": student, "teacher": teacher, "image_shape": image_shape, "task": task}
    return Composed(*(create_method(part, **given, **options.get(part, {})) for part in names))
