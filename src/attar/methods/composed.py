"""Several methods at once over the same networks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, union
from attar.methods.base import Method, Offline


class Composed(Method):
    """The union of edges: the first method runs the networks, the others add what they want to teach.

    `kd + at`, `sokd + rkd`: every method after the first must be a plain offline one (a list of edges over
    "teacher" and "student"), because the networks run once. Where two methods have an edge of the same name, the
    first one's stays, with its weight.

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
        if host.turns != ("",):
            raise AttarError(
                f"{host.name!r} steps {len(host.turns)} times per batch; run it alone, not joined to others"
            )
        self.name = "+".join(method.name for method in methods)  # type: ignore[misc]
        for guest in guests:
            if not isinstance(guest, Offline) or type(guest).forward is not Offline.forward:
                raise AttarError(f"{guest.name!r} runs its networks in its own way; put it first: {guest.name}+...")
            if not _same_networks(host, guest):
                raise AttarError(
                    f"{host.name!r} and {guest.name!r} hold different networks; build both around the same"
                )
        self.parts = nn.ModuleList(methods)
        self._methods = methods  # the same, with their types
        self.student, self.teacher = host.student, host.teacher  # all parts share the networks inside

    def forward(self, batch: Batch) -> Knowledge:
        return self._methods[0](batch)

    def transfers(self) -> Iterable[Transfer]:
        return union(*(method.transfers() for method in self._methods))

    def enrol(self, labels: Tensor) -> None:
        for method in self._methods:
            method.enrol(labels)

    def deployed(self) -> nn.Module:
        return self._methods[0].deployed()

    def also_deployed(self) -> dict[str, nn.Module]:
        return self._methods[0].also_deployed()


def _same_networks(host: Method, guest: Offline) -> bool:
    """Whether both wrap the very same student and teacher."""
    return all(
        getattr(getattr(host, name, None), "module", None) is getattr(guest, name).module
        for name in ("student", "teacher")
    )
