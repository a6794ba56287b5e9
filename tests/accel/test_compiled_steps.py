"""Compiled steps compute what plain ones do, resume as they do, and are used only where they say the same."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from attar.accel import compiled_steps
from attar.accel.compiled_steps import Compiled, choose_compiled, errors
from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.experiments import training as run
from attar.experiments.launch import start
from attar.methods import create_method, method_info
from attar.models import Plain, create_model
from attar.recipe import read_recipe
from attar.teachers.engines import Folded
from sweeps import installed_methods

FLOAT = Runtime(torch.device("cpu"), "float32", "")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def a_plain_net(*_, classes=6):
    """The smallest with a convolution, a batch norm and a linear layer: tracing a deep one takes long."""
    layers = (nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
    return nn.Sequential(*layers)


def a_staged_net(name):
    return create_model(name, num_classes=6, in_channels=1, image_size=8)


def a_method(name="kd", net=a_plain_net, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [net("resnet14"), net("resnet8")]
        teacher = nets[0] if method_info(name).takes_teacher else None
        method = create_method(name, teacher=teacher, student=nets[1], image_shape=(1, 8, 8), **options).train()
        method.setup(torch.arange(8) % 6)
        return method


def a_batch(step=0, epoch=0, size=8):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    views = {"strong": images.flip(3)}
    return Batch(images, torch.arange(size) % 6, torch.arange(size), Address(0, epoch, step), epochs=3, views=views)


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without its code generator, which takes long: traced, differentiated, divided and run as it is."""
    usual, way = torch.compile, "aot_eager_decomp_partition"
    monkeypatch.setattr(torch, "compile", lambda one, **options: usual(one, **{**options, "backend": way}))
    yield
    torch.compiler.reset()


# Their float32 gradients are 7e-5 and 2e-3 from those of float64 already.
NOISY = {"ctkd": 1e-3, "hkd": 1e-2}
FEWER_BRANCHES = {"rsd": {"duplicates": 1}, "uakd": {"replicas": 1}}


# Tracing takes long: always one, with a teacher and a student.
@pytest.mark.parametrize(
    "name", [one if one == "kd" else pytest.param(one, marks=pytest.mark.slow) for one in installed_methods()]
)
def test_every_method_computes_the_same(traced, name):
    method = a_method(name, a_staged_net, **FEWER_BRANCHES.get(name, {}))
    losses_of, tolerance = Compiled(method), NOISY.get(name, 1e-4)
    assert errors(method, losses_of, a_batch(), FLOAT)[0] < tolerance
    # Other numbers at other addresses: what was traced at the first is not baked in.
    assert errors(method, losses_of, a_batch(step=1, epoch=1), FLOAT)[0] < tolerance


def test_a_weight_that_moves_compiles_nothing_anew(traced):
    method = a_method("dkd")
    losses_of, weights = Compiled(method), set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for epoch in range(3):
            losses = losses_of(a_batch(epoch=epoch))
            torch.testing.assert_close(losses.total, method.batch_losses(a_batch(epoch=epoch)).total)
            weights |= set(losses.weights.values())
    assert len(weights) > 3


def test_what_was_computed_already_is_used(traced):
    method = a_method()
    losses_of, batch = Compiled(method), a_batch()
    losses_of(a_batch())
    method.teacher.set_output(batch.inputs, method.teacher.engine(torch.zeros_like(batch.inputs)))
    assert torch.allclose(losses_of(batch).total, method.batch_losses(batch).total, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "device", "accumulate", "expected"),
    [("kd", "cuda", 1, True), ("kd", "cuda", 2, False), ("atsc", "cuda", 1, False), ("kd", "cpu", 1, False)],
)
def test_who_is_replayed_as_one_launch(name, device, accumulate, expected):
    runtime = Runtime(torch.device(device), "float32", "")
    assert compiled_steps.compiled(a_method(name, a_staged_net), runtime, accumulate).cuda_graphs is expected


def test_nobody_tries_what_is_forbidden():
    assert choose_compiled(None, None, FLOAT, False, 10**9, 1) == (False, "")


def test_it_is_used_where_it_says_the_same(traced):
    method = a_method()
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    chosen, line = choose_compiled(method, a_batch(), FLOAT, True, 10, 1)
    assert chosen
    assert line.startswith("compiled steps: ")
    assert all(torch.equal(tensor, before[key]) for key, tensor in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_it_is_not_used_where_it_says_something_else(traced, monkeypatch):
    def other(self, batch):
        return self.method.batch_losses(replace(batch, inputs=-batch.inputs))

    monkeypatch.setattr(Compiled, "__call__", other)
    chosen, line = choose_compiled(a_method(), a_batch(), FLOAT, True, 10, 1)
    assert not chosen
    assert "(not used: at most 1 %)" in line


@pytest.mark.slow
def test_in_bfloat16_the_plain_step_sets_the_measure(traced, monkeypatch):
    half = replace(FLOAT, precision="bfloat16")
    chosen, line = choose_compiled(a_method(), a_batch(), half, True, 10, 1)
    assert chosen
    assert ", plain ones " in line
    for error, expected in ((0.24, True), (0.26, False)):
        monkeypatch.setattr(compiled_steps, "errors", lambda *_, error=error: (error, 0.2))
        assert choose_compiled(a_method(), a_batch(), half, True, 10, 1)[0] is expected


def test_a_compiler_that_fails_costs_nothing(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    chosen, line = choose_compiled(a_method(), a_batch(), FLOAT, True, 10, 1)
    assert (chosen, line) == (
        False,
        "steps as they are: torch.compile does not go with this method here (no compiler here)",
    )


@pytest.mark.parametrize(
    ("device", "quick", "steps", "expected"),
    [
        ("cuda", 0.5, 400, True),
        ("cuda", 0.95, 400, False),
        ("cuda", 0.5, 200, False),
        ("cpu", 0.5, 4000, True),
        ("cpu", 0.95, 4000, False),
        ("cpu", 0.5, 3000, False),
    ],
)
def test_unasked_it_must_pay(traced, monkeypatch, device, quick, steps, expected):
    monkeypatch.setattr(
        compiled_steps, "step_seconds", lambda method, way, *_: quick if isinstance(way, Compiled) else 1.0
    )
    monkeypatch.setattr(compiled_steps, "compiled", lambda method, *_: Compiled(method))
    monkeypatch.setattr(compiled_steps, "errors", lambda *_: (0.0, 0.0))
    there = Runtime(torch.device(device), "float32", "")
    assert choose_compiled(a_method(), a_batch(), there, None, steps, 1)[0] is expected


def test_a_machine_that_slows_down_meanwhile_changes_nothing(traced, monkeypatch):
    times = iter([1.0, 1.0, 0.5, 6.0, 1.0, 2.0, 1.0])  # the first says whether to try at all
    monkeypatch.setattr(compiled_steps, "step_seconds", lambda *_: next(times))
    monkeypatch.setattr(compiled_steps, "errors", lambda *_: (0.0, 0.0))
    compiled, line = choose_compiled(a_method(), a_batch(), FLOAT, None, 10_000, 1)
    assert (compiled, line) == (True, "compiled steps: 2.00 times the speed, losses and gradients 0 % from float32")


@pytest.mark.slow
def test_a_resumed_run_ends_the_same(traced, training, resuming_changes):
    class Traced(training):
        def __init__(self, folder):
            super().__init__(folder, "dkd", runtime=replace(FLOAT, compiled=True))

        def net(self, name):
            return a_plain_net(classes=10)

    assert resuming_changes(Traced, 1, 2, "crash") == []


def test_it_is_tried_with_the_engine_that_training_has(tmp_path, monkeypatch):
    engines = []
    monkeypatch.setattr(
        run,
        "choose_compiled",
        lambda method, *_: engines.extend(type(one.engine) for one in method.frozen()) or (False, ""),
    )
    small = {
        "teacher": {"name": "resnet14", "epochs": 1, "train_size": 60},
        "data": {"name": "digits", "train_size": 60},
    }
    start(
        read_recipe(
            **small,
            student="resnet8",
            batch_size=20,
            alone="skip",
            epochs=1,
            precision="float32",
            out=str(tmp_path / "run"),
        )
    )
    assert engines[-1] is Folded


@pytest.mark.slow
def test_a_job_keeps_its_choice(traced, tmp_path, capsys):
    recipe = read_recipe(
        overrides=["teacher=resnet8", "student=resnet8", "data=digits", "compile=true", "alone=skip"],
        teacher={"epochs": 1, "train_size": 60},
        epochs=1,
        out=str(tmp_path / "run"),
        precision="float32",
    )
    recipe.batch_size = 32
    recipe.data.train_size = 60
    start(recipe)
    chosen = json.loads((tmp_path / "run" / "environment.json").read_text())["runtime"]
    assert chosen["compiled"] is True
    assert "compiled steps: " in chosen["reason"]


def test_an_engine_that_is_compiled_says_the_same(traced):
    net = a_staged_net("resnet8").eval()
    images = a_batch().inputs
    with torch.no_grad():
        output, true = (one(images, ("stage2",)) for one in (Folded(net, torch.float32, compiled=True), Plain(net)))
    assert torch.allclose(output.logits, true.logits, atol=1e-5)
    assert torch.allclose(output.tap("stage2"), true.tap("stage2"), atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_generated_code_computes_the_same():
    method = create_method("supervised", student=a_plain_net()).train()
    assert errors(method, Compiled(method), a_batch(), FLOAT)[0] < 1e-3


@GPU
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_on_a_gpu_steps_end_the_same(cuda_graphs):
    ends = []
    for way in (lambda one: one.batch_losses, lambda one: Compiled(one, cuda_graphs)):
        method = a_method().to("cuda")
        losses_of, learner = way(method), torch.optim.SGD(method.trainable(), 0.05, 0.9, fused=True)
        kept = []
        for step in range(6):
            batch = a_batch(step)
            losses = losses_of(replace(batch, inputs=batch.inputs.cuda(), labels=batch.labels.cuda()))
            losses.total.backward()
            learner.step()
            learner.zero_grad(set_to_none=True)
            kept += losses.terms.values()
        ends.append(torch.stack([term.detach() for term in kept]))
    assert torch.allclose(ends[0], ends[1], rtol=0.02)
