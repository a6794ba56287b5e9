"""The base of every distillation method: networks, one forward pass, edges, the deployed student; and composition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Graph, Knowledge, Losses, Transfer, total_loss, union
from attar.losses.loss import same_loss
from attar.methods.common.edge_options import EdgeOptions
from attar.methods.common.own_loop import (
    Inputs,
    OwnLoop,
    check_class_numbers,
    check_optimisers,
    checked_inputs,
    explaining_batch_norm,
    has_class_numbers,
    refuse_unsynchronised,
    with_output,
    without_padding,
)
from attar.methods.common.runs_on import Needs, demand, naming_pairs, runs_on
from attar.methods.common.target_class import TARGET, parted
from attar.models import Frozen, FrozenEnsemble, Tapped, has_tap
from attar.schedules import WeightSchedule
from attar.tasks import Classification, Task


class Method(nn.Module):
    """The base of all methods: subclass it, write `run`, `transfers` and `deployed`, and register it.

    A method is the one trainable module of a run: the student, bridges, adapters and loss parameters are its
    submodules, so the optimiser, checkpoints and processes see everything that learns. A `Frozen` teacher is an
    attribute but not a submodule: it is neither trained nor saved, and moves with the method.

    Attributes:
        name: the name it is registered under.
        needs: what it asks of the networks, as it is registered.
        runs_on: the networks that have it, in words.
        task: what is learnt; the edges' losses on outputs are the task's.
        many_teachers: whether `teacher` may be a list of networks.
        needs_labels: whether its task has labels; without, it is "features" where a recipe names none.
        one_teacher: why several teachers cannot stand for one, where what it reads of them would allow it.
        prepared_images: how many training images `prepare` is shown at most.
        phases: the optimiser steps per batch, each with a forward pass of its own (named by `batch.phase`) and the
            edges of that name. Nearly every method takes one.
    """

    name: ClassVar[str] = "unregistered"
    needs: ClassVar[tuple[Needs, ...]] = ("logits",)
    runs_on: ClassVar[str] = runs_on(needs)
    many_teachers: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True
    one_teacher: ClassVar[str] = ""
    prepared_images: int = 4096
    phases: ClassVar[tuple[str, ...]] = ("",)
    task: Task = Classification()

    def __init__(self) -> None:
        super().__init__()
        self.edge_options: EdgeOptions | None = None

    def run(self, batch: Batch) -> Knowledge:
        """Run the networks once on a batch and return what they produced, by name. Every method defines this."""
        raise NotImplementedError(f"{type(self).__name__} must define run(batch) -> Knowledge")

    def transfers(self) -> Iterable[Transfer]:
        """The edges: who learns what from whom."""
        raise NotImplementedError(f"{type(self).__name__} must define transfers()")

    def label_edge(self, learner: str = "student", weight: float | WeightSchedule = 1.0) -> Transfer:
        """The labels teach a network's output, by the loss of the task (cross-entropy for classes)."""
        return Transfer("labels", f"{learner}.{self.task.output}", self.task.supervise(), weight)

    def output_edge(
        self, source: str, learner: str, temperature: float, weight: float | WeightSchedule = 1.0
    ) -> Transfer:
        """One network's output teaches another's, by the loss of the task (softened KL divergence for classes)."""
        ends = (f"{source}.{self.task.output}", f"{learner}.{self.task.output}")
        return Transfer(*ends, self.task.imitate(temperature), weight)

    def deployed(self) -> nn.Module:
        """The network a user gets: images in, logits out, nothing that only training needed."""
        raise NotImplementedError(f"{type(self).__name__} must define deployed()")

    def setup(self, labels: Tensor) -> None:
        """Before training: the labels (N,) of all images it will see, by their `batch.index`.

        Few methods ask: those that remember something of every image. Runs call it, your own loop has to.
        """

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Before the first step: batches of training images, `prepared_images` at most, not varied.

        Few methods ask: those that read statistics of a teacher's features. Runs call it, your own loop has to.
        """

    def wanted_images(self) -> int:
        """How many training images `prepare` asks for: none where a method has no `prepare` of its own."""
        return 0 if type(self).prepare is Method.prepare else self.prepared_images

    def also_deployed(self) -> dict[str, nn.Module]:
        """Further networks that come out of training and are worth measuring, by name."""
        return {}

    def views(self) -> dict[str, dict[str, object]]:
        """Further ways to vary the images, read with `batch.view(name)`: changes to the data's augmentation by name."""
        return {}

    @cached_property
    def edges(self) -> tuple[Transfer, ...]:
        """The transfers, made once; the taps they name are requested from the networks here."""
        with naming_pairs(self.name, self.runs_on):
            edges = self.adjusted()
        for end in (end for edge in edges for end in (edge.source, edge.target, *edge.given)):
            network, _, tap = end.partition(".")
            wrapped = getattr(self, network, None)
            if (
                tap != self.task.output
                and isinstance(wrapped, Tapped | Frozen | FrozenEnsemble)
                and has_tap(wrapped.module, tap)
            ):
                wrapped.request(tap)
        return edges

    def adjusted(self) -> tuple[Transfer, ...]:
        """The transfers, with the changes that a recipe makes to them."""
        edges = tuple(self.transfers())
        return edges if self.edge_options is None else self.edge_options.applied(edges)

    def part_target_class(self) -> bool:
        """Part the edges between outputs into the label's own class and the other classes, where their losses allow it.

        For optimisers that keep the gradient of each part (`optim.name=deepkd` calls it): `losses.components` then has
        "target" beside "task" and "distillation". The total stays, but for its rounding.

        Returns:
            Whether some edge belongs to the label's own class now.

        >>> import attar
        >>> nets = dict(teacher=attar.create_model("resnet14"), student=attar.create_model("resnet8"))
        >>> [attar.create_method(name, **nets).part_target_class() for name in ("dkd", "at")]
        [True, False]
        """
        self.edges = parted(self.edges)
        return any(edge.component == TARGET for edge in self.edges)

    @property
    def graph(self) -> Graph:
        """Who teaches whom, to draw or print."""
        return Graph(self.edges)

    def batch_losses(self, batch: Batch) -> Losses:
        """The losses of one batch, with its address and epoch."""
        edges = self.edges  # first, because it requests the taps that run returns
        with self.explaining(batch):
            return total_loss(self.knowledge(batch), edges)

    @contextmanager
    def explaining(self, batch: Batch) -> Iterator[None]:
        """Within it, networks that do not fit, and a batch too small for batch norm, are errors of one line."""
        with naming_pairs(self.name, self.runs_on), explaining_batch_norm(batch):
            yield

    def knowledge(self, batch: Batch) -> Knowledge:
        """What `run` returns for a batch, with several teachers weighed by it."""
        with self.weighing(batch):
            return self.run(with_output(batch, self.task.output))

    @contextmanager
    def weighing(self, batch: Batch) -> Iterator[None]:
        """Within it, several teachers of one method are weighed by this batch."""
        ensembles = [held for held in vars(self).values() if isinstance(held, FrozenEnsemble)]
        for one in ensembles:
            one.batch = batch
        try:
            yield
        finally:
            for one in ensembles:
                one.batch = None

    def forward(
        self,
        inputs: Inputs,
        labels: Tensor,
        *,
        index: Tensor | None = None,
        epoch: int | None = None,
        epochs: int | None = None,
        step: int | None = None,
        phase: str = "",
        labelled: int | None = None,
        views: dict[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch as a plain dict of scalars: the call for loops of your own, wrapped or not.

        Through DistributedDataParallel, Accelerate, Lightning or the Trainer of transformers it synchronises
        gradients as any module does (docs/own-loops.md).

        Args:
            inputs: (B, C, H, W), normalised as the networks expect, on the method's device.
            labels: (B,) class numbers, or (B, K) probabilities of mixed images (`attar.data.mixup`).
            index: (B,) each image's number in the data set, for methods with a memory of every image.
            epoch: the current epoch from 0, for weight schedules; without it a method that has one warns.
            epochs: how many epochs there will be, for schedules that depend on it.
            step: the step within the epoch; with the epoch it addresses the method's own randomness, and without it a
                method that draws warns.
            phase: which of `phases`, for the few methods that step more than once per batch.
            labelled: how many rows, the first ones, have a label (the others' is -1); None: all. Edges from the labels
                compare only these. Hold a method against such a batch with `attar.conformance.check` first: some read
                labels elsewhere too.
            views: the same images varied in other ways, by name, for methods that compare views.
            weight: (B, ...) how much each label's entry counts: 0 for padding. Without it labels of sequences that are
                -100 do not count, as transformers has it.

        Returns:
            "total", to call backward() on, and each edge's loss before its weight, by the edge's key.

        Raises:
            AttarError: another device, labels that are no class numbers of the networks, or a teacher that shares
                parameters with the student.

        >>> import attar
        >>> method = attar.create_method("supervised", student=attar.create_model("resnet8", num_classes=10))
        >>> sorted(method(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1])))
        ['labels->student.logits', 'total']
        """
        where = (index, epoch, epochs, step, phase, labelled, views, weight)
        losses = self._loop_losses(inputs, labels, *where)
        return {"total": losses.total, **losses.terms}

    def losses(
        self,
        inputs: Inputs,
        labels: Tensor,
        *,
        index: Tensor | None = None,
        epoch: int | None = None,
        epochs: int | None = None,
        step: int | None = None,
        phase: str = "",
        labelled: int | None = None,
        views: dict[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> Losses:
        """As calling the method, for a loop in one process: the result has the weights and the knowledge too.

        It takes the arguments of `forward`.

        Returns:
            `losses.total` to call backward() on, and each edge's term by name.

        Raises:
            AttarError: as `forward`; or gradients are computed in several processes, which this call would never
                synchronise.
        """
        refuse_unsynchronised()
        return self._loop_losses(inputs, labels, index, epoch, epochs, step, phase, labelled, views, weight)

    def _loop_losses(
        self,
        inputs: Inputs,
        labels: Tensor,
        index: Tensor | None,
        epoch: int | None,
        epochs: int | None,
        step: int | None,
        phase: str,
        labelled: int | None,
        views: dict[str, Tensor] | None,
        weight: Tensor | None,
    ) -> Losses:
        """The losses of a batch of the user's, with everything checked that a run of ours makes sure of."""
        if torch.compiler.is_compiling() and "edges" not in self.__dict__:
            torch.compiler.disable(self._first_call)()
        loop, edges, classes = self._own_loop, self.edges, self._class_numbers
        if phase not in self.phases:
            raise AttarError(f"phase={phase!r}: {self.name} has {', '.join(map(repr, self.phases))}")
        given, labels = checked_inputs(self, inputs, labels, labelled)
        if classes:
            check_class_numbers(labels)
        if weight is None:
            labels, weight = without_padding(labels)
        address = loop.address(epoch, step)
        mixed = classes and labels.is_floating_point()
        batch = Batch(
            given, labels, index, address, epochs or 1, phase, views or {}, labelled, mixed=mixed, weight=weight
        )
        if torch.is_grad_enabled():
            loop.check_networks((frozen.module for frozen in self.frozen()), self)
            loop.check_schedules(edges, epoch, epochs)
            loop.check_mode(self)
            loop.check_moved(self, edges, batch)
        with self.explaining(batch):
            knowledge = self.knowledge(batch)
        loop.check_range(edges, knowledge)
        with self.explaining(batch):
            return total_loss(knowledge, edges)

    @cached_property
    def _own_loop(self) -> OwnLoop:
        return OwnLoop()

    @cached_property
    def _class_numbers(self) -> bool:
        return has_class_numbers(self.task)

    def _first_call(self) -> None:
        """Make the losses, which torch.compile cannot trace: modules are set up in them."""
        _ = self.edges, self._class_numbers, self._own_loop

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """DistributedDataParallel leaves to each process what losses remember of the images that it saw."""
        remembering = [(path, part) for path, part in self.named_modules() if getattr(part, "whole_batch", False)]
        return [f"{path}.{name}" for path, part in remembering for name, _ in part.named_buffers()]

    def check_optimiser(self, *optimisers: torch.optim.Optimizer) -> None:
        """The optimisers of a loop of your own have every parameter that learns: the student's, bridges', adapters'.

        Raises:
            AttarError: one is missing; the message names it.
        """
        check_optimisers(self, optimisers)

    def frozen(self) -> Iterator[Frozen]:
        """The frozen networks this method holds."""
        for held in vars(self).values():
            several = held.networks if isinstance(held, FrozenEnsemble) else held
            each = several if isinstance(several, list | tuple) else [several]
            yield from (one for one in each if isinstance(one, Frozen))

    def trainable(self, phase: str = "") -> list[nn.Parameter]:
        """The parameters an optimiser should be given, for each phase its own."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def rate_factors(self) -> dict[nn.Module, float]:
        """Networks that move slower or faster than the rest, each with its multiple of the learning rate."""
        return {}

    def parameter_groups(self, lr: float, phase: str = "") -> list[dict[str, Any]]:
        """What an optimiser of your own loop is built of: `trainable(phase)`, in a group for each learning rate.

        Args:
            lr: the learning rate of what has no factor.
            phase: which of `phases`.

        >>> import attar
        >>> nets = dict(teacher=attar.create_model("resnet8"), student=attar.create_model("resnet8"))
        >>> [round(group["lr"], 3) for group in attar.create_method("atsc", **nets).parameter_groups(0.1)]
        [0.01, 0.1]
        """
        factors = {id(p): factor for net, factor in self.rate_factors().items() for p in net.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.trainable(phase):
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": parameters, "lr": lr * factor} for factor, parameters in groups.items()]

    def __add__(self, other: Method) -> Method:
        """Both methods' edges over the same networks; `kd + at` keeps kd's weight where both have an edge."""
        return Composed(self, other)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # .to(), .cuda() and friends come through here: teachers follow although they are no submodules.
        for teacher in self.frozen():
            teacher.module._apply(fn)
            teacher.plain()
        return super()._apply(fn, recurse)


class Offline(Method):
    """A frozen teacher and a student that look at the same images: the shared forward of all offline methods.

    A subclass only lists its edges; the taps they name are found from the edges.

    Args:
        teacher: a trained network; it is set to eval mode and its parameters are frozen.
        student: the network to train.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.teacher = Frozen(teacher)
        self.student = Tapped(student)

    def run(self, batch: Batch) -> Knowledge:
        return Knowledge(batch, teacher=self.teacher(batch.inputs), student=self.student(batch.inputs))

    def deployed(self) -> nn.Module:
        return self.student.module


class Composed(Method):
    """The union of edges: the first method runs the networks, the others add what they want to teach.

    `kd + at`, `sokd + rkd`: every method after the first must be a plain offline one (a list of edges over
    "teacher" and "student"), because the networks run once. Where two methods have the same edge, the first one's
    stays, with its weight. Where a later method compares the same by another loss, its edge is called "METHOD:EDGE"
    (`kd+dkd` has "dkd:teacher.logits->student.logits", `kd+ekd` "ekd:labels->student.logits").

    Raises:
        AttarError: the methods hold different networks, or a later one runs networks in its own way.

    >>> import attar
    >>> nets = dict(teacher=attar.create_model("resnet14"), student=attar.create_model("resnet8"))
    >>> both = attar.create_method("kd", **nets) + attar.create_method("at", **nets)
    >>> len(both.edges)
    5
    """

    def __init__(self, *methods: Method) -> None:
        super().__init__()
        host, *guests = methods
        if host.phases != ("",):
            raise AttarError(
                f"{host.name!r} steps {len(host.phases)} times per batch; run it alone, not joined to others"
            )
        self.name = "+".join(method.name for method in methods)  # type: ignore[misc]
        for guest in guests:
            for one, other in ((host, guest), (guest, host)):
                if role := _different_network(one, other):
                    raise AttarError(
                        f"{one.name!r} and {other.name!r} hold different networks: {one.name!r} has a {role} of its "
                        "own; run each alone, or join methods of one student and one teacher (kd+at)"
                    )
            if not isinstance(guest, Offline) or type(guest).run is not Offline.run:
                raise AttarError(f"{guest.name!r} runs its networks in its own way; put it first: {guest.name}+...")
        self.runs_on = max(methods, key=lambda method: demand(method.needs)).runs_on  # type: ignore[misc]
        self.parts = nn.ModuleList(methods)
        self._methods = methods  # the same, with their types
        self.student, self.teacher = host.student, host.teacher  # all parts share the networks inside

    def run(self, batch: Batch) -> Knowledge:
        known = self._methods[0].run(batch)
        if not torch.compiler.is_compiling():
            self._check_has_all(known)
        return known

    def _check_has_all(self, known: Knowledge) -> None:
        """Refuse knowledge of the host that lacks what another method compares."""
        names = set(known)
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in names:
                    raise AttarError(
                        f"{self.name!r}: {self._methods[0].name!r} runs the networks and has no {end!r}, which edge "
                        f"{edge.key!r} of another method compares; run each alone"
                    )

    def transfers(self) -> Iterable[Transfer]:
        first: dict[str, Transfer] = {}
        groups = []
        for method in self._methods:
            own = [self._apart(edge, first.get(edge.key), method.name) for edge in method.adjusted()]
            first |= {edge.key: edge for edge in own if edge.key not in first}
            groups.append(own)
        return union(*groups)

    @staticmethod
    def _apart(edge: Transfer, held: Transfer | None, method: str) -> Transfer:
        """An edge of a later method, under a name of its own where it compares the same by another loss."""
        if held is None:
            return edge
        alike = same_loss(held.loss, edge.loss) and held.via is edge.via and held.given == edge.given
        return edge if alike else replace(edge, name=f"{method}:{edge.key}")

    def setup(self, labels: Tensor) -> None:
        for method in self._methods:
            method.setup(labels)

    def prepare(self, batches: Iterable[Batch]) -> None:
        asking = [method for method in self._methods if method.wanted_images()]
        shown = list(batches) if len(asking) > 1 else batches
        for method in asking:
            method.prepare(shown)

    def wanted_images(self) -> int:
        return max(method.wanted_images() for method in self._methods)

    def deployed(self) -> nn.Module:
        return self._methods[0].deployed()

    def also_deployed(self) -> dict[str, nn.Module]:
        return self._methods[0].also_deployed()

    def views(self) -> dict[str, dict[str, object]]:
        return self._methods[0].views()


def _different_network(one: Method, other: Method) -> str:
    """The role in which a method lacks the network of an offline one; "" where it wraps the very same."""
    for role in ("student", "teacher"):
        held, theirs = (getattr(getattr(method, role, None), "module", None) for method in (one, other))
        if isinstance(other, Offline) and held is not theirs:
            return role
    return ""


def no_grad_clone(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of a state dict that later training does not touch."""
    return {key: value.detach().clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
