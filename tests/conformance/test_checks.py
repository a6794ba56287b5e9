"""The conformance suite passes every method of ours, and names what is wrong with a broken one."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.conformance import cases, check, check_method
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer, detached
from attar.losses import MSE, CrossEntropy, KLDivergence
from attar.methods import Offline, create_method
from attar.methods import registry as methods
from attar.methods.base import Method
from attar.methods.registry import register
from attar.models import create_model
from attar.registry import Registry
from sweeps import installed_methods

BUILT_IN = installed_methods()
# Cheaper settings of costly methods, which meet everything that the defaults do: overlays of half the images, where the
# default of a tenth leaves most batches of eight without any.
SMALLER = {"kdig": {"steps": 4, "p": 0.5}, "dpk": {"width": 16, "grid": 4}}


@pytest.mark.parametrize("name", BUILT_IN)
def test_ours_pass(name):
    assert "deploys" in check_method(name, **SMALLER.get(name, {}))


@pytest.mark.parametrize("name", SMALLER)
def test_the_defaults_of_costly_ones_train(name):
    nets = [create_model(net, num_classes=cases.CLASSES, image_size=cases.SIZE) for net in ("resnet14", "resnet8")]
    method = create_method(name, teacher=nets[0], student=nets[1])
    check(method, cases.Case(lambda: method).batch())


@pytest.fixture
def failures(monkeypatch):
    """Registers a method for one test and returns what the suite says against it."""
    own = Registry("method")
    monkeypatch.setattr(methods, "METHODS", own)

    def check(cls: type[Method]) -> str:
        register("mine", title="Mine", paper="", year=2024, family="offline")(cls)
        with pytest.raises(AttarError) as caught:
            check_method(cls)
        return str(caught.value)

    return check


class Plain(Offline):
    """What the broken methods below break."""

    def transfers(self) -> Iterable[Transfer]:
        yield Transfer("labels", "student.logits", CrossEntropy())
        yield Transfer("teacher.logits", "student.logits", KLDivergence())


def test_the_plain_one_passes(failures):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        failures(type("Good", (Plain,), {}))


def test_a_teacher_that_gets_a_gradient(failures):
    class Mine(Plain):
        def run(self, batch):
            self.teacher.module.requires_grad_(True)
            return Knowledge(batch, teacher=self.teacher.module(batch.inputs), student=self.student(batch.inputs))

        def transfers(self):
            yield Transfer("teacher.logits", "student.logits", KLDivergence(), learns="both")

    printed = failures(Mine)
    assert "got a gradient; detach its output" in printed
    assert "frozen parameter 'conv1.weight'" in printed


def test_a_teacher_that_is_a_submodule(failures):
    class Mine(Plain):
        def __init__(self, teacher, student):
            super().__init__(teacher, student)
            self.copy = teacher.requires_grad_(True)

    assert "parameter 'copy.conv1.weight' and" in failures(Mine)


def test_an_unused_parameter(failures):
    class Mine(Plain):
        def __init__(self, teacher, student):
            super().__init__(teacher, student)
            self.idle = nn.Linear(2, 2)

    assert "parameter 'idle.weight' and 1 more gets no gradient from any edge" in failures(Mine)


def test_a_loss_whose_parameters_no_optimiser_sees(failures):
    class Learnt(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, learner, source):
            return (self.scale * learner - source).square().mean()

    class Mine(Plain):
        def transfers(self):
            yield from super().transfers()
            yield Transfer("teacher.logits", "student.logits", Learnt(), name="learnt")

    assert "edge 'learnt': parameter 'scale' of its Learnt is not part of the method" in failures(Mine)


def test_a_regressor_whose_parameters_no_optimiser_sees(failures):
    class Mine(Plain):
        def transfers(self):
            yield from super().transfers()
            yield Transfer("teacher.logits", "student.logits", MSE(), via=nn.Linear(6, 6), name="hint")

    assert "edge 'hint': parameter 'weight' of its Linear is not part of the method" in failures(Mine)


def test_a_source_that_is_not_detached(failures):
    class Leaky(Transfer):
        def __call__(self, knowledge):
            return self.loss(knowledge[self.target], knowledge[self.source])

    class Mine(Plain):
        def __init__(self, teacher, student):
            super().__init__(teacher, student)
            self.other = create_model("resnet8", num_classes=6, image_size=16)

        def run(self, batch):
            return super().run(batch).add("other.logits", self.other(batch.inputs))

        def transfers(self):
            yield Transfer("labels", "other.logits", CrossEntropy())
            yield Leaky("other.logits", "student.logits", MSE())

    assert "edge 'other.logits->student.logits' sends a gradient to its source" in failures(Mine)


def test_the_global_generator(failures):
    class Mine(Plain):
        def run(self, batch):
            return super().run(batch).add("noise", torch.rand(2))

    assert "run draws from torch's global generator; use batch.rng(purpose)" in failures(Mine)


def test_randomness_without_an_address(failures):
    class Mine(Plain):
        def run(self, batch):
            noise = torch.randn(6, generator=self.__dict__.setdefault("generator", torch.Generator()))
            known = super().run(batch)
            return Knowledge(batch, teacher=detached(known["teacher.logits"]), student=known["student.logits"] + noise)

    assert "two passes over one batch differ" in failures(Mine)


def test_a_misspelt_tap(failures):
    class Mine(Plain):
        def transfers(self):
            yield from super().transfers()
            yield Transfer("teacher.stage3", "student.stage9", MSE())

    assert "unknown knowledge 'student.stage9'; did you mean" in failures(Mine)


def test_shapes_that_do_not_agree(failures):
    class Mine(Plain):
        def transfers(self):
            yield Transfer("teacher.stage2", "student.stage3", MSE())

    assert "first_batch: the learner has shape (8, 32, 4, 4), the source (8, 16, 8, 8)" in failures(Mine)


def test_a_loss_that_is_not_one_number(failures):
    class Mine(Plain):
        def transfers(self):
            yield Transfer("labels", "student.logits", CrossEntropy(reduction="none"))

    assert "its loss has shape (8,); reduce it to one number" in failures(Mine)


def test_an_edge_whose_target_cannot_learn_is_named(failures):
    class Mine(Plain):
        def transfers(self):
            yield from super().transfers()
            yield Transfer("student.logits", "teacher.logits", MSE())

    assert "edge 'student.logits->teacher.logits' compares with 'teacher.logits', which cannot learn" in failures(Mine)


def test_a_loss_that_is_not_finite(failures):
    class Mine(Plain):
        def transfers(self):
            yield from super().transfers()
            yield Transfer("teacher.logits", "student.logits", MSE(), weight=1e300, name="huge")

    assert "the loss of the first batch is inf" in failures(Mine)


def test_nothing_that_learns(failures):
    class Mine(Plain):
        def transfers(self):
            yield Transfer("labels", "student.logits", CrossEntropy(), weight=0.0)

    assert "nothing learns" in failures(Mine)


@pytest.mark.parametrize(("weight", "epoch"), [("until(1)", 2), ("from(2)", 1), ("cosine(1)", 3)])
def test_an_epoch_in_which_nothing_learns(weight, epoch):
    method = create_method("supervised", student=create_model("resnet8"), weights={"labels->student.logits": weight})
    batch = replace(cases.Case(lambda: method).batch(), epochs=3)
    with pytest.raises(AttarError, match=rf"nothing learns in epoch {epoch} of 3: .*\(labels->student.logits\)"):
        check(method, batch)


def test_a_teacher_that_moves(failures):
    class Mine(Plain):
        def run(self, batch):
            self.teacher.module.bn1.running_mean += 1
            return super().run(batch)

    assert "frozen 'bn1.running_mean' moved" in failures(Mine)


def test_state_outside_the_state_dict(failures):
    class Mine(Plain):
        step = 0.0

        def run(self, batch):
            if self.training:
                self.step += 1.0
            known = super().run(batch)
            return Knowledge(batch, teacher=known["teacher.logits"], student=known["student.logits"] * (1 + self.step))

    assert "state_round_trip: the restored method's loss differs" in failures(Mine)


def test_a_loss_that_overflows_in_half_precision(failures):
    class Mine(Plain):
        def run(self, batch):
            known = super().run(batch)
            # 300 + x loses x in bfloat16's eight bits.
            student = (known["student.logits"] + 300).to(known["student.logits"].dtype) - 300
            return Knowledge(batch, teacher=known["teacher.logits"], student=8 * student)

    assert "half_precision: the loss is" in failures(Mine)


def test_deployed_with_another_output(failures):
    class Mine(Plain):
        def deployed(self):
            return nn.Sequential(self.student.module, nn.Linear(6, 3))

    assert "student gives (8, 3), not (8, 6)" in failures(Mine)


def test_deployed_that_cannot_be_rebuilt(failures):
    class Mine(Plain):
        def deployed(self):
            return nn.Sequential(self.student.module)

    assert "student has no spec; it could not be loaded again" in failures(Mine)


def test_deployed_that_is_the_teacher(failures):
    class Mine(Plain):
        def deployed(self):
            return self.teacher.module

    assert "student holds a frozen teacher's own parameters" in failures(Mine)


def test_rows_without_a_label_that_break_it(failures):
    class Mine(Plain):
        def run(self, batch):
            assert (batch.labels >= 0).all(), "no label"
            return super().run(batch)

    assert "unlabelled_rows: no label" in failures(Mine)


def test_a_class_that_is_not_registered():
    with pytest.raises(AttarError, match=r"Plain is not registered; put @attar.register\(...\) above the class"):
        check_method(Plain)
