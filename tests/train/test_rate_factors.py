"""Networks with a learning rate of their own, in a run."""

import torch

from attar.train.loop import Fit, Places
from attar.train.rate_factors import SCALE


class Silent:
    """A progress that logs nothing."""

    def log(self, line: str) -> None:
        """Nowhere."""


def test_a_run_moves_a_network_at_its_multiple_of_the_rate(tiny):
    one = tiny("atsc", {"teacher_lr": 0.25})
    one.runtime.computing()
    run = Fit(one.method, one.loader, None, one.recipe, one.runtime, Places(one.folder), Silent())
    theirs = {id(p) for p in one.method.teachers["teacher"].net.parameters()}
    for optimiser in run.optimisers.values():
        for group in optimiser.param_groups:
            assert {id(p) in theirs for p in group["params"]} == {group[SCALE] == 0.25}
    batch = next(iter(one.loader.epoch(0)))
    before = {name: p.detach().clone() for name, p in one.method.named_parameters()}
    run.start_epoch(0)
    run.step(batch)
    moved = {name: (p - before[name]).abs().max().item() for name, p in one.method.named_parameters()}
    assert all(size > 0 for size in moved.values())
    assert torch.equal(one.method.student.classifiers[0].weight, one.method.teachers["teacher"].net.fc.weight)
