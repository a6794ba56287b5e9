"""A NaN is found without looking at each step, leaves the weights as they were, and can be run again."""

import functools
import io

import pytest
import torch
from rich.console import Console
from torch import nn

from attar.accel.runtime import Runtime
from attar.errors import AttarError
from attar.experiments import launch
from attar.experiments.replay import replay, threads_of
from attar.experiments.runtime_record import write_runtime
from attar.knowledge import Transfer
from attar.losses import CrossEntropy
from attar.methods.supervised import Supervised
from attar.recipe import read_recipe
from attar.safety.nonfinite import Watch, examine
from attar.train import loop


class Breaks(nn.Module):
    """A loss that breaks on one batch: at step 2 of epoch 2."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, learner, source):
        return self.how(learner)


def break_at(monkeypatch, how):
    """Give plain training another edge that breaks at (epoch 1, step 2)."""
    run = Supervised.run

    def remember(self, batch):
        self.where = (batch.address.epoch, batch.address.step)
        return run(self, batch)

    def transfers(self):
        yield Transfer("labels", "student.logits", CrossEntropy())
        bad = Breaks(lambda learner: how(learner) if self.where == (1, 2) else learner.square().mean())
        yield Transfer("labels", "student.logits", bad, name="bad")

    monkeypatch.setattr(Supervised, "run", remember)
    monkeypatch.setattr(Supervised, "transfers", transfers)


def infinite(learner):
    return learner.mean() / 0


def bad_gradient(learner):
    return (0 * learner).sum().abs().sqrt() + learner.square().mean()  # the root of zero has no slope


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimiser_is_held_from_the_bad_step_on_whether_it_is_fused_or_not(fused):
    weight = nn.Parameter(torch.ones(2))
    learner = torch.optim.SGD([weight], lr=0.5, momentum=0.9, fused=fused)
    for values in ([1.0, float("nan"), 1.0], [1.0]):  # two epochs, each with a watch of its own
        watch = Watch(torch.device("cpu"), every=50)
        watch.guard(learner)
        before = weight.detach().clone()
        for step, value in enumerate(values):
            weight.grad = torch.full((2,), value)
            watch.saw(weight.grad.norm(), step)
            learner.step()
        expected = before - 0.5 if len(values) == 3 else before - 0.5 * 1.9
        assert torch.equal(weight.detach(), expected)
        assert watch.bad(now=True) == ((1, "") if len(values) == 3 else None)


@pytest.mark.parametrize("every", [1, 3, 50])
def test_however_late_anybody_looks_the_weights_are_those_of_the_bad_step(tiny, monkeypatch, every):
    break_at(monkeypatch, infinite)
    monkeypatch.setattr(loop, "Watch", functools.partial(Watch, every=every))
    one, before = tiny("supervised", momentum=0.9), tiny("supervised", momentum=0.9, checkpoint_minutes=1e-9)
    with pytest.raises(AttarError, match=r"at epoch 2, step 2: edge 'bad'; .*\(`attar replay` explains it\)"):
        one.fit()
    before.stopped_fit(1, 2, "crash")
    saved = torch.load(one.folder / "failure.pt", weights_only=True)
    assert (saved["address"]["epoch"], saved["address"]["step"]) == (1, 2)
    for name, parameter in before.method.named_parameters():
        assert torch.equal(saved["method"][name], parameter), name


def test_a_bad_gradient_of_a_good_loss_stops_before_it_does_harm(tiny, monkeypatch):
    break_at(monkeypatch, bad_gradient)
    one = tiny("supervised")
    with pytest.raises(AttarError, match=r"a gradient is not finite at epoch 2, step 2: edge 'bad', first in the grad"):
        one.fit()
    assert all(torch.isfinite(parameter).all() for parameter in one.method.parameters())


def test_a_gradient_whose_norm_overflows_is_found(tiny, monkeypatch):
    break_at(monkeypatch, lambda learner: 1e30 * learner.square().mean())
    one = tiny("supervised")
    with pytest.raises(
        AttarError, match=r"at epoch 2, step 2: edge 'bad', first in the norm of its gradient: the loss is"
    ):
        one.fit()


def test_the_guilty_batch_of_an_accumulated_group_is_found(tiny, monkeypatch):
    break_at(monkeypatch, bad_gradient)
    one = tiny("supervised", accumulate=4)
    with pytest.raises(AttarError, match="epoch 2, step 2: edge 'bad'"):
        one.fit()


def test_a_checkpoint_is_never_written_after_a_bad_step(tiny, monkeypatch):
    break_at(monkeypatch, infinite)
    monkeypatch.setattr(loop, "Watch", functools.partial(Watch, every=50))
    one = tiny("supervised", checkpoint_minutes=1e-9)
    with pytest.raises(AttarError, match="epoch 2, step 2"):
        one.fit()
    state, _ = loop.checkpoints.restore(one.folder / "checkpoint.pt")
    assert (state.epoch, state.step) == (1, 2)


def test_a_watch_reads_when_it_is_time_and_keeps_the_first_bad_step():
    watch = Watch(torch.device("cpu"), every=3)
    seen = []
    for step in range(3):
        watch.saw(torch.tensor(1.0), step, "first")
        watch.saw(torch.tensor(torch.nan if step else 1.0), step, "second")
        seen.append(watch.bad())
    assert seen == [None, None, (1, "second")]
    assert Watch(torch.device("cpu")).bad(now=True) is None


@pytest.fixture
def broken_run(tmp_path, monkeypatch):
    """A run of `attar train` that stopped at a bad number, and what it printed."""

    def run(how, **data):
        break_at(monkeypatch, how)
        values = {"student": "resnet8", "method": "supervised", "alone": "skip", "precision": "float32", "epochs": 2}
        data = {"name": "digits", "train_size": 60, **data}
        recipe = read_recipe(**values, data=data, batch_size=16, out=str(tmp_path / "run"))
        with pytest.raises(AttarError) as caught:
            launch.start(recipe, Console(file=io.StringIO()))
        return tmp_path / "run" / "failure.pt", str(caught.value)

    return run


def test_replay_repeats_the_failure_exactly_and_names_the_place(broken_run):
    file, _ = broken_run(infinite)
    saved, out = torch.load(file, weights_only=True), io.StringIO()
    finding = replay(file, Console(file=out, width=200))
    assert finding.terms == saved["terms"]
    assert finding.edge == "bad"
    assert "First edge that is not finite: bad" in out.getvalue()
    assert "labels->student.logits" in out.getvalue()


@pytest.mark.parametrize(("place", "expected"), [("", 3), ("alone", 3), ("teacher", 5)])
def test_replay_computes_on_the_threads_of_the_run(tmp_path, place, expected):
    runtime = Runtime(torch.device("cpu"), "float32", "", threads=3, teacher_threads=5)
    (tmp_path / "recipe.yaml").touch()
    write_runtime(tmp_path, runtime, engines=True)
    assert threads_of(tmp_path / place, torch.device("cpu")) == expected


def test_replay_repeats_a_failure_of_mixed_images(broken_run):
    file, _ = broken_run(infinite, mixup=1.0, cutmix=1.0)
    saved = torch.load(file, weights_only=True)
    assert saved["labels"].shape == (len(saved["inputs"]), 10)
    assert replay(file, Console(file=io.StringIO())).terms == saved["terms"]


def test_replay_names_the_gradient(broken_run):
    file, printed = broken_run(bad_gradient)
    finding = replay(file, Console(file=io.StringIO()))
    assert finding.edge == "bad"
    assert finding.place == "the gradient of 'student.module.conv1.weight'"
    assert finding.place in printed


def test_replay_names_the_module_and_the_state_that_are_bad(broken_run):
    file, _ = broken_run(infinite)
    saved = torch.load(file, weights_only=True)
    saved["inputs"][0, 0, 0, 0] = torch.nan
    torch.save(saved, file)
    assert replay(file, Console(file=io.StringIO())).place == "the inputs"
    saved["inputs"].zero_()
    saved["method"]["student.module.fc.bias"][0] = torch.nan
    torch.save(saved, file)
    finding = replay(file, Console(file=io.StringIO()))
    assert finding.place == "the state 'student.module.fc.bias' of the method"


def test_replay_finds_the_first_module_that_overflows(tiny, monkeypatch):
    one = tiny("supervised")
    layer = one.method.student.module.conv1
    monkeypatch.setattr(layer, "forward", lambda images: nn.Conv2d.forward(layer, images) * torch.inf)
    finding = examine(one.method, next(iter(one.loader.epoch(0))), one.runtime)
    assert finding.place == "the output of student.module.conv1 (Conv2d)"


def test_a_failure_that_does_not_come_back_is_reported(broken_run, monkeypatch):
    file, _ = broken_run(infinite)
    monkeypatch.undo()
    out = io.StringIO()
    assert not replay(file, Console(file=out, width=200)).bad
    assert "Every number is finite this time" in out.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), "does not exist; give the failure.pt"),
        (lambda file: file.write_bytes(b"half"), "is damaged"),
        (lambda file: torch.save({"a": 1}, file), "is no failure.pt of this version"),
        (lambda file: (file.parent / "recipe.yaml").unlink(), "belongs to no run"),
        (
            lambda file: (file.parent / "recipe.yaml").write_text("student: resnet14\nmethod: supervised\n"),
            "of another re",
        ),
    ],
)
def test_files_that_cannot_be_replayed(broken_run, change, message):
    file, _ = broken_run(infinite)
    change(file)
    with pytest.raises(AttarError, match=message):
        replay(file)
