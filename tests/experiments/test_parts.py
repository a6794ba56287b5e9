"""Schedules, averages, tallies and the choice of a precision."""

import math
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from attar.accel import runtime as runtimes
from attar.accel.runtime import choose, environment, find_device
from attar.batch import Batch
from attar.data import load_data, read_data
from attar.errors import AttarError
from attar.experiments.build import Parts, build, checked, held_for
from attar.knowledge import Knowledge, Transfer, total_loss
from attar.losses import CrossEntropy
from attar.methods import create_method
from attar.models import Staged, create_model
from attar.models.libraries.imports import import_timm
from attar.recipe import ModelRecipe, OptimRecipe, read_recipe
from attar.tasks import Classification, images
from attar.train.ema import Ema
from attar.train.running_means import RunningMeans
from attar.train.schedules import learning_rate

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


def rates(steps, per_epoch=10, epochs=10, **optim):
    return [learning_rate(OptimRecipe(lr=1.0, **optim), step, per_epoch, epochs) for step in steps]


def test_one_cycle_rises_for_30_percent_then_falls_to_nothing():
    assert rates([0, 15, 30, 65]) == pytest.approx([1 / 25, 0.52, 1.0, 0.5], abs=1e-5)
    assert rates([99])[0] < 0.001
    peak = rates(range(100))
    assert max(range(100), key=peak.__getitem__) == 30


def test_one_cycle_agrees_with_torch():
    parameter = nn.Parameter(torch.zeros(1))
    learner = torch.optim.SGD([parameter], lr=1.0)
    # torch ends its cycle on the last step, ours would on the step after it.
    cycle = torch.optim.lr_scheduler.OneCycleLR(learner, 1.0, total_steps=1001, final_div_factor=1e4)
    own = rates(range(1000), per_epoch=100)
    for step in range(1000):
        assert own[step] == pytest.approx(cycle.get_last_lr()[0], abs=5e-3)
        learner.step()
        cycle.step()


def test_cosine_with_warmup():
    assert rates([0, 9, 19, 50], schedule="cosine", warmup=2.0) == pytest.approx([0.05, 0.5, 1.0, 0.5])
    assert rates([25], schedule="cosine") == pytest.approx([(1 + math.cos(math.pi / 4)) / 2])


def test_multistep_drops_at_the_papers_epochs():
    epochs = [149, 150, 179, 180, 209, 210, 239]
    assert rates(epochs, 1, 240, schedule="multistep") == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_constant_is_constant():
    assert set(rates(range(100), schedule="constant")) == {1.0}


def test_ema_follows_its_formula_and_counts_are_copied():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, 0.75)
    expected = torch.ones(2)
    for value in (2.0, 4.0):
        with torch.no_grad():
            module.weight.fill_(value)
            module.num_batches_tracked += 1
        ema.update()
        expected = 0.75 * expected + 0.25 * value
    torch.testing.assert_close(ema.state["weight"], expected)
    assert ema.state["num_batches_tracked"] == 2
    with ema.applied():
        torch.testing.assert_close(module.weight.data, expected)
    assert module.weight.tolist() == [4.0, 4.0]


def test_a_tally_weighs_batches_by_their_size():
    running = RunningMeans(Classification())
    for size, right in ((3, 3), (1, 0)):
        labels = torch.zeros(size).long()
        logits = torch.tensor([[5.0, 0.0]] * size) if right else torch.tensor([[0.0, 5.0]] * size)
        batch = Batch(torch.zeros(size, 1, 1, 1), labels)
        edges = [Transfer("labels", "student.logits", CrossEntropy(), weight=2.0)]
        running.add(total_loss(Knowledge(batch, student=logits), edges), batch)
    good, bad = math.log(1 + math.exp(-5)), math.log(1 + math.exp(5))
    means = running.means()
    assert means["train_top1"] == 75.0
    assert means["terms"]["labels->student.logits"] == pytest.approx((3 * good + bad) / 4, rel=1e-5)
    assert means["loss"] == pytest.approx(2 * (3 * good + bad) / 4, rel=1e-5)


def test_later_phases_do_not_count_images_again():
    running, batch = RunningMeans(Classification()), Batch(torch.zeros(2, 1, 1, 1), torch.zeros(2).long())
    losses = total_loss(
        Knowledge(batch, student=torch.zeros(2, 3)), [Transfer("labels", "student.logits", CrossEntropy())]
    )
    running.add(losses, batch)
    running.add(losses, batch, first_phase=False)
    assert running.sums["images"] == 2
    assert running.means()["loss"] == pytest.approx(2 * math.log(3), rel=1e-5)


@pytest.fixture
def method():
    return create_method("supervised", student=create_model("resnet8", num_classes=4, image_size=8))


def test_auto_precision_tries_both_and_leaves_no_trace(method):
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    runtime = choose(method, Batch(torch.randn(4, 3, 8, 8), torch.arange(4)), torch.device("cpu"), "auto")
    assert runtime.precision in ("float32", "bfloat16")
    assert "float32 " in runtime.reason
    assert "bfloat16 " in runtime.reason
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize(("seconds", "passes"), [(10.0, 4), (0.0, 2)])
def test_a_slow_step_is_tried_once_after_one_to_warm_up(method, monkeypatch, seconds, passes):
    batch, seen = Batch(torch.randn(4, 3, 8, 8), torch.arange(4)), []

    def losses_of(batch):
        seen.append(batch)
        return method.batch_losses(batch)

    monkeypatch.setattr(runtimes, "TRIAL_SECONDS", seconds)
    assert runtimes.step_seconds(method, losses_of, batch, choose(method, batch, torch.device("cpu"), "float32")) > 0
    assert len(seen) == passes


def test_autocast_is_what_the_precision_says(method):
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        runtime = choose(method, None, torch.device("cpu"), precision)
        with runtime.computing():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xla"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(AttarError, match=f"device '{name}' is not usable here"):
        find_device(name)


def test_the_environment_names_versions():
    assert {"attar", "torch", "python", "processor", "threads"} <= set(environment())


@pytest.fixture
def digits():
    return load_data("digits", train_size=60)


def test_a_student_starts_from_other_classes_and_a_teacher_does_not(tmp_path, digits):
    source = create_model("resnet8", num_classes=6, in_channels=1, image_size=8)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    recipe = ModelRecipe("resnet8", str(tmp_path / "net.pth"))
    with pytest.warns(UserWarning, match="has 6 classes, not 10: the classifier 'fc' begins anew"):
        student = build(recipe, digits, seed=0)
    assert torch.equal(student.conv1.weight, source.conv1.weight)
    assert student(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(AttarError, match=r"'fc.weight' is of 6 classes in .*net.pth, the ResNet has 10"):
        build(recipe, digits, seed=0, role="teacher")


def test_a_teacher_keeps_some_of_its_classes(tmp_path, digits):
    source = create_model("resnet8", num_classes=30, in_channels=1, image_size=8).eval()
    torch.save(source.state_dict(), tmp_path / "net.pth")
    rows = [29, 3, 7, 0, 11, 12, 13, 14, 15, 28]
    recipe = ModelRecipe("resnet8", str(tmp_path / "net.pth"), classes=rows)
    images = torch.randn(4, 1, 8, 8)
    kept = build(recipe, digits, seed=0, role="teacher").eval()
    torch.testing.assert_close(kept(images), source(images)[:, rows])
    for classes, message in [
        ([*rows[:9], 30], "has 30 classes in 'fc', numbered from 0; there is no class 30"),
        (rows[:9], "picks 9 rows for a network of 10"),
        ("all", "classes=all: expected imagenet, or a list of numbers"),
    ]:
        with pytest.raises(AttarError, match=message):
            build(replace(recipe, classes=classes), digits, seed=0, role="teacher")
    with pytest.raises(AttarError, match="picks from weights, and resnet8 has none"):
        build(replace(recipe, weights=None), digits, seed=0)


@pytest.mark.parametrize("option", ["weights", "mean", "head", "image_size"])
def test_what_follows_from_the_data_is_no_option(digits, option):
    with pytest.raises(AttarError, match=f"{option} of network 'resnet8' follows from the data"):
        build(ModelRecipe("resnet8", None, {option: 1}), digits, seed=0)


@needs_timm
def test_published_weights_see_the_data_through_an_adapter(tmp_path, digits):
    own = import_timm().create_model("test_resnet").eval()
    torch.save(own.state_dict(), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="begins anew"):
        net = build(ModelRecipe("timm/test_resnet", str(tmp_path / "net.pth"), {"input_size": 64}), digits, seed=0)
    assert (net.front.mean, net.front.std) == (digits.test.mean, digits.test.std)
    assert net.input_shape == (1, 8, 8)
    assert net.stem(torch.zeros(1, 1, 8, 8)).shape[-1] == 16


@needs_timm
def test_a_teacher_object_of_a_library_is_staged(digits):
    own = import_timm().create_model("test_resnet", num_classes=10, in_chans=1)
    assert isinstance(checked(own, "teacher", digits), Staged)
    assert checked(own, "student", digits) is own
    with pytest.raises(AttarError, match="the teacher has 7 classes, the data have 10"):
        checked(import_timm().create_model("test_resnet", num_classes=7, in_chans=1), "teacher", digits)
    vit = import_timm().create_model("test_vit2", img_size=32, dynamic_img_size=False, num_classes=10, in_chans=1)
    with pytest.raises(AttarError, match=r"the teacher does not take images of .1, 8, 8."):
        checked(vit, "teacher", digits)


@pytest.fixture
def readings(monkeypatch):
    """Every time that images are read."""
    seen = []

    def counted(*arguments, **keys):
        seen.append(arguments)
        return read_data(*arguments, **keys)

    monkeypatch.setattr(images, "read_data", counted)
    return seen


def test_images_are_read_once_and_divided_for_each_seed(readings):
    recipe = read_recipe(data={"name": "digits", "train_size": 60, "val_fraction": 0.1}, seeds=4)
    parts = Parts(recipe, held_for(recipe))
    first = parts.splits(0)
    for seed in range(4):
        mine = load_data("digits", val_fraction=0.1, train_size=60, seed=seed)
        found = parts.splits(seed)
        assert torch.equal(found.train.images, mine.train.images)
        assert torch.equal(found.val.images, mine.val.images)
        assert torch.equal(found.test.images, mine.test.images)
    assert len(readings) == 1
    assert sorted(seed for seed, _ in parts.held.divided) == [0, 3]
    assert parts.splits(0) is first
    assert len(parts.splits(0, train_size=80).train) == 80
    assert len(readings) == 1


def test_of_a_single_seed_only_its_own_images_stay(readings):
    recipe = read_recipe(data={"name": "digits", "val_fraction": 0.1})
    parts = Parts(recipe, held_for(recipe))
    assert parts.splits(0) is parts.splits(0)
    assert parts.held.whole is None
    assert len(readings) == 1


def test_a_split_seed_divides_the_images_alike_for_every_seed():
    recipe = read_recipe(student="resnet8", data={"val_fraction": 0.2, "split_seed": 7})
    parts, other = Parts(recipe, held_for(recipe)), read_recipe(student="resnet8", data={"val_fraction": 0.2}, seed=7)
    first, second = parts.splits(0), parts.splits(1)
    assert first is second
    assert torch.equal(first.val.labels, Parts(other, held_for(other)).splits(7).val.labels)
    assert not torch.equal(first.val.labels, Parts(other, held_for(other)).splits(0).val.labels)
