"""Checks for a method that is called from a training loop of the user's: what would otherwise go wrong silently."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, owner, weights_of
from attar.schedules import WeightSchedule
from attar.tasks import Task

Inputs = Tensor | Mapping[str, Tensor]
# What collators of transformers write in place of labels that do not count.
PADDING = -100


@dataclass(frozen=True)
class WithoutStep(Address):
    """The address of a call without `step=`: drawing from it warns, since every step would draw the same numbers."""

    warn: Callable[[str, str], None] = field(default=lambda topic, text: None, compare=False)

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        self.warn(
            "step",
            f"the method draws random numbers ({purpose!r}) and no step was given: every step of an epoch draws the "
            "same; call method(inputs, labels, epoch=..., step=...)",
        )
        return super().generator(purpose, device)


class OwnLoop:
    """What one method has checked and warned of so far; each warning is given once."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._versions: dict[str, int] | None = None
        self._networks_checked = self._range_checked = False

    def warn(self, topic: str, text: str) -> None:
        """Warn once for each topic."""
        if topic not in self._warned:
            self._warned.add(topic)
            warnings.warn(text, stacklevel=3)

    def address(self, epoch: int | None, step: int | None) -> Address:
        """Where in training a call is; without a step, drawing from it warns."""
        if step is None:
            return WithoutStep(0, int(epoch or 0), 0, self.warn)
        return Address(0, int(epoch or 0), int(step))

    def check_networks(self, teachers: Iterable[nn.Module], method: nn.Module) -> None:
        """In the first call: no frozen network shares parameters with the method.

        Raises:
            AttarError: one does.
        """
        if not self._networks_checked:
            check_apart(teachers, method)
            self._networks_checked = True

    def check_schedules(self, edges: Iterable[Transfer], epoch: int | None, epochs: int | None) -> None:
        """Warn of a weight schedule that lacks the epoch, or the number of epochs it depends on."""
        for edge in edges:
            if not callable(edge.weight):
                continue
            if epoch is None:
                self.warn(
                    "epoch",
                    f"the weight of edge {edge.key!r} follows a schedule and no epoch was given: it stays at its first "
                    "value; call method(inputs, labels, epoch=..., epochs=...)",
                )
            elif epochs is None and depends_on_epochs(edge.weight):
                self.warn(
                    "epochs",
                    f"the weight of edge {edge.key!r} depends on the number of epochs, which was not given; call "
                    "method(inputs, labels, epoch=..., epochs=...)",
                )

    def check_mode(self, method: nn.Module) -> None:
        """Warn of batch norms and dropouts that are in eval mode while gradients are computed."""
        if still := layers_in_eval_mode(method):
            self.warn(
                "mode",
                f"{still[0]!r} and {len(still) - 1} more layers are in eval mode while the method trains: batch norm "
                "and dropout do nothing; call method.train() before the step",
            )

    def check_moved(self, method: nn.Module, edges: Sequence[Transfer], batch: Batch) -> None:
        """Warn of trainable parameters that stay where they are while others move: the optimiser lacks them.

        In-place updates count in a tensor's version, so nothing is copied and no device is waited for. Edges whose
        weight is 0, and methods of several phases, may leave parameters without a gradient: those are left out.
        """
        if "optimiser" in self._warned:
            return
        versions = {name: p._version for name, p in method.named_parameters() if p.requires_grad}
        if self._versions is None:
            if batch.phase == "" and all(edge.phase == "" for edge in edges) and all(weights_of(edges, batch).values()):
                self._versions = versions
            return
        still = [name for name, version in versions.items() if self._versions.get(name) == version]
        if len(still) == len(versions):
            return
        if still:
            advice = "build the optimiser from method.trainable(), or freeze what gets no gradient"
            self.warn("optimiser", f"{missing(still)}; {advice}")
        self._warned.add("optimiser")

    def check_range(self, edges: Iterable[Transfer], knowledge: Knowledge) -> None:
        """Class numbers that count are classes of the network; on an accelerator, which it waits for, only at first.

        Raises:
            AttarError: one is not.
        """
        batch = knowledge.batch
        labels = batch.labels[: batch.labelled]
        if labels.is_floating_point() or labels.dtype == torch.bool or not labels.numel():
            return
        if self._range_checked and labels.device.type != "cpu":
            return
        self._range_checked = True
        entries = labels.ndim
        if batch.weight is not None:
            labels = labels[batch.weight[: batch.labelled] > 0]
        if not labels.numel():
            return
        low, high = (int(bound) for bound in labels.aminmax())
        for edge in edges:
            learner = knowledge.get(edge.target) if owner(edge.source) == "labels" else None
            if not isinstance(learner, Tensor) or learner.ndim != entries + 1:
                continue
            if low < 0 or high >= learner.shape[-1]:
                wrong = low if low < 0 else high
                hint = "; rows without a label come last, and labelled= counts those before them" if low < 0 else ""
                raise AttarError(
                    f"the labels hold {wrong}, and {edge.target!r} has the classes 0 to {learner.shape[-1] - 1}{hint}"
                )


def checked_inputs(
    method: nn.Module, inputs: Inputs, labels: Tensor, labelled: int | None
) -> tuple[Tensor | dict[str, Tensor], Tensor]:
    """The inputs, a tokenizer's as a dict without what it left out, and the labels, integers of all types as int64.

    Raises:
        AttarError: inputs or labels are no tensors, on another device than the method, or not as many; or `labelled`
            counts other rows.
    """
    device = next((p.device for p in method.parameters()), None)
    if isinstance(inputs, Mapping):
        inputs = {name: one for name, one in inputs.items() if one is not None}
    tensors = {"inputs": inputs} if not isinstance(inputs, dict) else inputs
    for name, tensor in {**tensors, "labels": labels}.items():
        if not isinstance(tensor, Tensor):
            raise AttarError(f"{name} are a {type(tensor).__name__}; give a tensor on {device}")
        if device is not None and tensor.device != device:
            raise AttarError(f"{name} are on {tensor.device} and the method on {device}; move one of them with .to()")
    if isinstance(inputs, Tensor) and len(inputs) != len(labels):
        raise AttarError(f"{len(inputs)} inputs and {len(labels)} labels; give one label for each input")
    if labelled is not None and not 0 <= labelled <= len(labels):
        raise AttarError(f"labelled={labelled} of {len(labels)} rows; give how many of the first have a label")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return inputs, labels.long() if whole else labels


def without_padding(labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Labels of sequences, and what counts among them: not -100, by which collators of transformers mark padding.

    >>> without_padding(torch.tensor([[5, -100], [3, 4]]))
    (tensor([[5, 0],
            [3, 4]]), tensor([[1., 0.],
            [1., 1.]]))
    """
    padding = labels == PADDING
    if labels.ndim < 2 or labels.is_floating_point() or labels.dtype == torch.bool or not padding.any():
        return labels, None
    return labels.masked_fill(padding, 0), (~padding).float()


def layers_in_eval_mode(network: nn.Module) -> list[str]:
    """The batch norms and dropouts in eval mode, by name; those whose parameters are frozen may be.

    >>> net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 2))
    >>> layers_in_eval_mode(net), layers_in_eval_mode(net.eval())
    ([], ['0', '1'])
    """
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
        and not module.training
        and (not list(module.parameters()) or any(p.requires_grad for p in module.parameters()))
    ]


def has_class_numbers(task: Task) -> bool:
    """Whether a task's labels are class numbers; a task without labels has no loss on them."""
    try:
        loss = task.supervise()
    except AttarError:
        return False
    return getattr(loss, "class_numbers", False)


def check_class_numbers(labels: Tensor) -> None:
    """Labels of one dimension are class numbers, which are integers; true and false number no classes.

    Raises:
        AttarError: they are not.
    """
    if labels.ndim == 1 and (labels.is_floating_point() or labels.dtype == torch.bool):
        other = "task=multilabel and labels (B, 1)" if labels.dtype == torch.bool else "probabilities (B, classes)"
        raise AttarError(
            f"labels of shape ({len(labels)},) are class numbers and have to be integers, not "
            f"{str(labels.dtype).removeprefix('torch.')}; give labels.long(), or {other}"
        )


def check_apart(teachers: Iterable[nn.Module], student: nn.Module) -> None:
    """A teacher is frozen, so it may not share parameters with what learns.

    Raises:
        AttarError: it does.
    """
    own = {id(parameter): name for name, parameter in student.named_parameters()}
    for teacher in teachers:
        shared = next((own[id(parameter)] for parameter in teacher.parameters() if id(parameter) in own), None)
        if shared is not None:
            what = "are the same object" if teacher is student else f"share the parameter {shared!r}"
            raise AttarError(
                f"teacher and student {what}: freezing the teacher would freeze the student; give "
                "copy.deepcopy(...) of one"
            )


def refuse_unsynchronised() -> None:
    """In several processes only a wrapped module's own call synchronises gradients.

    Raises:
        AttarError: gradients are computed in one of several processes and not through DDP.
    """
    if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    if getattr(DistributedDataParallel, "_active_ddp_module", None) is None:
        raise AttarError(
            "losses() never synchronises gradients between processes; wrap the method and call it: "
            "ddp = DistributedDataParallel(method); ddp(inputs, labels, ...)['total'].backward()"
        )


def check_optimisers(method: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """The optimisers have every parameter of the method that learns.

    Raises:
        AttarError: one is missing.
    """
    held = {id(p) for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]}
    names = [name for name, p in method.named_parameters() if p.requires_grad and id(p) not in held]
    if names:
        raise AttarError(f"{missing(names)}; build the optimiser from method.trainable()")


def missing(names: Sequence[str]) -> str:
    """A sentence about parameters that no optimiser moves."""
    more = f" and {len(names) - 1} more parameters" if len(names) > 1 else ""
    return f"the optimiser does not move {names[0]!r}{more} of the method"


def depends_on_epochs(weight: WeightSchedule) -> bool:
    """Whether a schedule changes with the number of epochs.

    >>> from attar.schedules import LinearWarmup
    >>> depends_on_epochs(LinearWarmup(20))
    False
    """
    return any(weight(epoch, 10) != weight(epoch, 1000) for epoch in (0, 5))


@contextmanager
def explaining_batch_norm(batch: Batch) -> Iterator[None]:
    """Batch norm's own complaint about a single value becomes one line.

    Raises:
        AttarError: a batch of one sample in training, with a map of one pixel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise AttarError(
            f"batch norm cannot train on a batch of {len(batch)} where a map has one pixel: it has no variance; give "
            "batch_size=2 or more, and leave out a last batch of one"
        ) from None


def with_output(batch: Batch, output: str) -> Batch:
    """The batch, its networks' outputs named as the task names them."""
    return batch if batch.output == output else replace(batch, output=output)
