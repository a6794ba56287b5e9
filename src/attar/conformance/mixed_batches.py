"""Whether a method can be shown mixed images, found by trying."""

from __future__ import annotations

from dataclasses import replace

from attar.batch import Batch
from attar.conformance.unlabelled_batches import FIT, same, terms
from attar.errors import AttarError, first_line
from attar.knowledge import owner
from attar.methods.base import Method
from attar.models import FrozenEnsemble


def check_mixed(method: Method, batch: Batch) -> None:
    """Only edges from the labels may read the labels of mixed images; the method is as before afterwards.

    Such an edge's loss takes probabilities (`CrossEntropy` does). A method can read labels elsewhere too, in `given` or
    in its forward pass, and mean class numbers; so it is not asked but tried: with probabilities where class numbers
    would do, and with those of other classes.

    Args:
        method: on the batch's device.
        batch: its labels are probabilities where it is `mixed`.

    Raises:
        AttarError: a pass failed because of probabilities, or a loss changed whose edge is not from the labels.
    """
    if not batch.mixed:
        return
    others = replace(batch, labels=batch.labels.roll(1, dims=1))
    numbers = replace(batch, labels=batch.labels.argmax(1), mixed=False)
    for phase in method.phases:
        # What fails here does not fail because of the labels.
        terms(method, replace(numbers, phase=phase))
        try:
            losses, changed = (terms(method, replace(one, phase=phase)) for one in (batch, others))
        except Exception as error:  # whatever a method makes of probabilities
            reason = first_line(error)
            raise refusal(method, f"it reads their labels as class numbers ({reason})") from None
        for edge in method.edges:
            if edge.phase == phase and owner(edge.source) != "labels" and not same(losses[edge.key], changed[edge.key]):
                raise refusal(method, f"its edge {edge.key!r} reads their labels")


def refusal(method: Method, reason: str) -> AttarError:
    """That this method cannot, and why; where its rule for several teachers is to blame, that one."""
    rules = [held.rule for held in vars(method).values() if isinstance(held, FrozenEnsemble)]
    for rule in (one for one in rules if one.reads_labels):
        return AttarError(
            f"method.teachers={rule.text} weighs teachers by the labels, and a mixed image has two; "
            "choose mean, fixed, entropy or dropped, or leave data.mixup and data.cutmix out"
        )
    return AttarError(
        f"method {method.name!r} cannot learn from mixed images: {reason}; choose one that reads labels only along "
        f"edges from them ({', '.join(FIT)}), or leave data.mixup and data.cutmix out"
    )
