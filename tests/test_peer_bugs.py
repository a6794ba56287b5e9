"""Mistakes that other toolkits shipped and no other test of ours would find; docs/reliability.md has the map."""

import copy
import getpass
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attar.data import eval_batches, load_data
from attar.experiments.launch import start
from attar.methods import create_method, method_info
from attar.metrics import evaluate
from attar.models import create_model
from attar.recipe import OptimRecipe, read_recipe
from attar.train.loop import update
from attar.train.optim import optimiser
from sweeps import installed_methods, sweep

IMAGES, LABELS = torch.randn(6, 3, 16, 16), torch.arange(6)


def make(name, **options):
    """A method around the smallest networks, with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = {"student": create_model("resnet8", num_classes=6, image_size=16)}
        if method_info(name).takes_teacher:
            nets["teacher"] = create_model("resnet14", num_classes=6, image_size=16)
        method = create_method(name, **nets, **options).train()
        method.setup(LABELS)
        return method


def test_03_a_peers_update_holds_nothing_of_the_students_loss():
    method = make("dml")
    losses = method.losses(IMAGES, LABELS)
    peer = list(method.peer1.parameters())
    of_the_total = torch.autograd.grad(losses.total, peer, retain_graph=True)
    own = [term for key, term in losses.terms.items() if key.endswith("->peer1.logits")]
    assert len(own) == 2
    for full, alone in zip(of_the_total, torch.autograd.grad(sum(own), peer, retain_graph=True), strict=True):
        torch.testing.assert_close(full, alone)
    others = sum(term for key, term in losses.terms.items() if key.endswith("->student.logits"))
    assert all(gradient is None for gradient in torch.autograd.grad(others, peer, allow_unused=True))


def test_04_distillation_compares_softened_distributions_by_kl():
    method = make("kd")
    losses = method.losses(IMAGES, LABELS)
    teacher, student = (losses.knowledge[f"{who}.logits"] / 4.0 for who in ("teacher", "student"))
    expected = 16 * F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    torch.testing.assert_close(losses["teacher.logits->student.logits"], expected)


def test_10_training_does_not_change_the_recipe():
    recipe = OptimRecipe(lr=0.5)
    before = asdict(recipe)
    for _ in range(2):
        parameter = nn.Parameter(torch.ones(1))
        parameter.grad = torch.ones(1)
        learner = optimiser([parameter], recipe)
        assert learner.param_groups[0]["lr"] == 0.5
        update(learner, 0.01)
    assert asdict(recipe) == before


@pytest.mark.parametrize("ce", [0.0, 0.1])
def test_13_the_square_of_the_temperature_stays_without_labels(ce):
    losses = make("kd", temperature=8.0, ce=ce, kd=1.0).losses(IMAGES, LABELS)
    teacher, student = (losses.knowledge[f"{who}.logits"] / 8.0 for who in ("teacher", "student"))
    soft = 64 * F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    hard = F.cross_entropy(losses.knowledge["student.logits"], LABELS)
    torch.testing.assert_close(losses.total, ce * hard + soft)


# All of tfkd's edges come from the labels.
@pytest.mark.parametrize(
    "name", [name for name in installed_methods() if "ce" in method_info(name).defaults and name != "tfkd"]
)
def test_13_no_other_edge_depends_on_the_weight_of_the_labels(name):
    views = {"strong": IMAGES.flip(3)}
    there = {"index": torch.arange(len(LABELS)), "epoch": 0, "epochs": 2, "step": 0, "views": views}
    with_labels, without = (make(name, ce=ce).losses(IMAGES, LABELS, **there) for ce in (1.0, 0.0))
    others = [key for key in with_labels if not key.startswith("labels")]
    assert others
    for key in others:
        assert torch.equal(with_labels[key], without[key]), key
        assert with_labels.weights[key] == without.weights[key], key


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_14_every_test_image_counts_once_at_any_batch_size(batch_size):
    images = load_data("digits").test.subset(torch.arange(10))
    net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8).eval()
    right = sum(int((net(batch.inputs).argmax(1) == batch.labels).sum()) for batch in eval_batches(images, len(images)))
    assert evaluate(net, eval_batches(images, batch_size)).top1 == pytest.approx(right / 10)


def test_16_a_job_needs_no_gpu_and_no_user(monkeypatch, tmp_path):
    def none(*_, **__):
        raise OSError("there is none")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    # As in a container whose user has a number only.
    for module, name in ((getpass, "getuser"), (os, "getlogin"), (Path, "home")):
        monkeypatch.setattr(module, name, none)
    for name in ("_lazy_init", "current_device", "get_device_name", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, none)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    recipe = read_recipe(
        teacher={"name": "resnet8", "epochs": 1, "train_size": 60},
        student="resnet8",
        data={"name": "digits", "train_size": 60},
        batch_size=30,
        epochs=1,
        alone="skip",
        out=str(tmp_path / "run"),
    )
    start(recipe)
    assert (tmp_path / "run" / "student.safetensors").stat().st_size > 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


NAMES = """
import attar
nets = {who: attar.create_model(net, num_classes=6, image_size=16) for who, net in
        (("teacher", "resnet14"), ("student", "resnet8"))}
print(*attar.create_method("kd+fitnet+at", **nets).state_dict())
"""


def test_22_state_has_one_order_in_every_process():
    nets = {"teacher": "resnet14", "student": "resnet8"}
    here = create_method(
        "kd+fitnet+at", **{who: create_model(net, num_classes=6, image_size=16) for who, net in nets.items()}
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.split() == list(here.state_dict())


@pytest.mark.parametrize("name", sweep())
def test_24_training_fills_tensors_and_never_replaces_them(name):
    method = make(name)
    before = {key: tensor.data_ptr() for key, tensor in method.state_dict().items()}
    learners = {phase: optimiser(method.trainable(phase), read_recipe().optim) for phase in method.phases}
    for step in range(2):
        for phase, learner in learners.items():
            when = {"epoch": 0, "epochs": 2, "step": step, "phase": phase}
            losses = method.losses(IMAGES, LABELS, index=copy.copy(LABELS), views={"strong": IMAGES.flip(3)}, **when)
            losses.total.backward()
            update(learner, 0.01)
    assert {key: tensor.data_ptr() for key, tensor in method.state_dict().items()} == before
