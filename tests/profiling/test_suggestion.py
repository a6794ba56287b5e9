"""Which students are found, in which order, and what is reported of the others; times are given, not taken."""

from __future__ import annotations

import importlib.util

import pytest
from torch import nn

import attar
from attar.errors import AttarError
from attar.profiling import Latency, macs, parameters
from attar.profiling.candidates import candidate_names, operations, sketch, trains
from attar.profiling.student_search import on_the_clock

SHAPE = (3, 32, 32)
needs_torchvision = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")


class Clock:
    """A millisecond for every so many parameters; remembers whom it timed."""

    def __init__(self, parameters: float = 10_000) -> None:
        self.parameters, self.timed = parameters, []

    def __call__(self, net, image_shape, batch, most):
        self.timed.append((getattr(net, "spec", None) or {}).get("name"))
        return Latency(parameters(net) / self.parameters, 0.0)


RESNETS = ["resnet8", "resnet14", "resnet20", "resnet32"]


def names(found):
    return [one.name for one in found.students]


def test_the_largest_inside_the_budget_come_first():
    clock = Clock()
    found = attar.suggest("resnet56", params="300k", among=RESNETS, clock=clock)
    assert names(found) == ["resnet20", "resnet14", "resnet8"]
    assert clock.timed == ["resnet56", "resnet20", "resnet14", "resnet8"]
    assert found.teacher.parameters == 861_620
    assert (found.considered, found.timed, found.left_out) == (4, 3, {"too large": 1})
    assert [one.stages for one in found.students] == [3, 3, 3]
    assert found.nearest == ()


def test_every_budget_counts():
    def largest(**budget):
        return names(attar.suggest("resnet56", among=RESNETS, top=1, clock=Clock(), **budget))

    assert largest() == ["resnet32"]
    assert largest(latency="30ms") == ["resnet20"]  # 278,324 parameters
    assert largest(size="1MB") == ["resnet14"]  # 736,840 bytes
    assert largest(macs="13M") == ["resnet8"]  # 12,507,392
    assert largest(memory="300kB") == ["resnet8"]  # 274,432 bytes


def test_a_teacher_may_see_larger_images_than_its_students():
    found = attar.suggest("resnet14", image_size=32, teacher_size=64, among=["resnet20", "resnet8"], clock=Clock())
    assert (found.image_shape, found.teacher_size) == ((3, 32, 32), 64)
    assert found.teacher.macs == operations("resnet14", (3, 64, 64), 100)
    assert [one.macs for one in found.students] == [operations("resnet8", SHAPE, 100)]


def test_it_stops_when_there_are_enough():
    clock = Clock()
    found = attar.suggest("resnet56", among=RESNETS, top=2, clock=clock)
    assert names(found) == ["resnet32", "resnet20"]
    assert found.left_out == {"too large": 0, "smaller than those found": 2}
    assert len(clock.timed) == 3


def test_three_of_a_family_at_most():
    found = attar.suggest("resnet56", among=[*RESNETS, "wrn_16_1"], clock=Clock())
    assert names(found) == ["resnet32", "resnet20", "resnet14", "wrn_16_1"]
    assert found.left_out["more than 3 of a family"] == 1


def test_what_is_slower_or_computes_more_than_the_teacher_is_no_student():
    teacher = attar.create_model("vgg8")
    found = attar.suggest(teacher, among=["resnet110", "resnet8"], clock=lambda *_: Latency(1.0, 0.0))
    assert found.left_out["more MACs than the teacher"] == 1
    assert names(found) == ["resnet8"]

    def backwards(net, *_):
        return Latency(1e6 / parameters(net), 0.0)

    assert names(attar.suggest("resnet56", among=["resnet8"], clock=backwards)) == []


def test_a_hopeless_family_is_not_timed_again():
    clock = Clock(parameters=1000)
    found = attar.suggest("resnet56", latency="160ms", among=RESNETS, clock=clock)
    # Twice as fast as the teacher resnet20 would do, but it takes 278 ms, and at its pace resnet14 takes 182.
    assert clock.timed[1:] == ["resnet20", "resnet8"]
    assert found.left_out["too slow by their MACs"] == 2
    assert names(found) == ["resnet8"]


def test_nothing_fits():
    found = attar.suggest("resnet56", latency="5ms", size="300kB", among=RESNETS, clock=Clock())
    assert names(found) == []
    near = found.nearest[0]
    assert near.name == "resnet8"
    assert near.misses == pytest.approx({"latency": 83_892 / 10_000 / 5, "size": near.bytes / 300e3})
    worst = [max(one.misses.values()) for one in found.nearest]
    assert worst == sorted(worst)
    assert len(worst) == 3


@pytest.mark.slow
def test_a_real_search_of_the_zoo():
    seen, timed = [], []

    def by_size(net, image_shape, batch, most):
        # Really timed; but which of two networks is the faster must not hang on what else the machine does.
        timed.append(on_the_clock(net, image_shape, batch, most).median)
        return Latency(parameters(net) / 10_000, 0.0)

    found = attar.suggest(
        "resnet20",
        latency="1s",
        size="10MB",
        classes=10,
        top=3,
        progress=lambda *state: seen.append(state),
        clock=by_size,
    )
    assert len(found.students) == 3
    counts = [one.parameters for one in found.students]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] < found.teacher.parameters
    for one in found.students:
        net = attar.create_model(one.name, num_classes=10)
        assert (one.parameters, one.macs) == (parameters(net), macs(net, SHAPE))
    assert all(0 < milliseconds < 10_000 for milliseconds in timed)
    assert ("sizing resnet8", 9, found.considered) in [(what, 9, of) for what, _, of in seen]


def test_sketches_are_the_networks():
    net = attar.create_model("resnet20")
    assert sketch("resnet20", SHAPE, 100, most=278_324).parameters == parameters(net) == 278_324
    assert sketch("resnet20", SHAPE, 100, most=278_323) is None
    assert operations("resnet20", SHAPE, 100) == macs(net, SHAPE)
    assert operations("vgg8", (3, 4, 4), 100) is None


def test_who_is_a_candidate():
    assert candidate_names(32) == attar.list_models()
    assert candidate_names(32, ["resnet8*"]) == ["resnet8", "resnet8x4"]
    with pytest.raises(AttarError, match=r"no network matches 'resnet9\*'"):
        candidate_names(32, ["resnet9*"])


@needs_torchvision
def test_large_images_ask_libraries():
    large = candidate_names(224)
    assert "torchvision/mobilenet_v2" in large
    assert "resnet20" not in large
    assert {"resnet20", "torchvision/mobilenet_v2"} <= {*candidate_names(64)}


@needs_torchvision
def test_a_network_of_a_library():
    found = attar.suggest(
        "torchvision/resnet18",
        image_size=64,
        classes=10,
        among=["torchvision/squeezenet1_1", "torchvision/mobilenet_v3_small"],
        clock=Clock(),
    )
    assert names(found) == ["torchvision/mobilenet_v3_small", "torchvision/squeezenet1_1"]
    assert found.students[0].pretrained == ("IMAGENET1K_V1",)
    assert [one.stages > 0 for one in found.students] == [True, False]


def test_networks_that_train_on_more_than_logits_are_left_out():
    class Auxiliary(nn.Linear):
        def forward(self, x):
            return (super().forward(x), x) if self.training else super().forward(x)

    assert trains(nn.Linear(4, 2), (4,))
    assert not trains(Auxiliary(4, 2), (4,))
    assert not trains(nn.Linear(4, 2), (5,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": "resnet57"}, "unknown network 'resnet57'; did you mean"),
        ({"teacher": "resnet8", "top": 0}, "top is 0; give 1 or more"),
        ({"teacher": "resnet8", "image_size": -1}, "image_size is -1; give 1 or more"),
        ({"teacher": "resnet8", "latency": "5"}, "latency is '5': it has no unit"),
        ({"teacher": nn.Flatten()}, "Flatten has no count of parameters"),
        ({"teacher": nn.Conv2d(4, 4, 1)}, r"Conv2d does not take images of \(3, 32, 32\)"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(AttarError, match=message):
        attar.suggest(**arguments)


def test_a_network_that_is_faster_than_its_estimate_is_a_student():
    def clock(net, image_shape, batch, most):
        return Latency(100.0 if parameters(net) > 200_000 else 5.0, 0.0)

    found = attar.suggest("resnet20", among=["resnet14"], latency="10ms", clock=clock)
    assert names(found) == ["resnet14"]
    assert found.nearest == ()
    assert not any(found.left_out.values())
