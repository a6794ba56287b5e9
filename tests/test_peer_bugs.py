"""Mistakes that other toolkits shipped and no other test of ours would find; docs/reliability.md has the map."""

import copy
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attar.data import eval_batches, load_data
from attar.losses import KLDivergence
from attar.methods import create_method, list_methods, method_info
from attar.metrics import evaluate
from attar.models import create_model
from attar.recipe import OptimRecipe, read_recipe
from attar.train.loop import update
from attar.train.optim import optimiser
from sweeps import sweep

IMAGES, LABELS = torch.randn(6, 3, 16, 16), torch.arange(6)


def make(name):
    """A method around the smallest networks."""
    nets = {"student": create_model("resnet8", num_classes=6, image_size=16)}
    if method_info(name).takes_teacher:
        nets["teacher"] = create_model("resnet14", num_classes=6, image_size=16)
    method = create_method(name, **nets).train()
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
    teacher, student = (create_model(net, num_classes=6, image_size=16) for net in ("resnet14", "resnet8"))
    method = create_method("kd", teacher=teacher, student=student, temperature=8.0, ce=ce, kd=1.0)
    losses = method.losses(IMAGES, LABELS)
    known = losses.knowledge
    expected = KLDivergence(8.0)(known["student.logits"], known["teacher.logits"])
    torch.testing.assert_close(losses.total, ce * losses["labels->student.logits"] + expected)
    warm, hot = (KLDivergence(t)(known["student.logits"], known["teacher.logits"]) for t in (20.0, 40.0))
    torch.testing.assert_close(warm, hot, rtol=0.1, atol=0.0)  # without the square it would be a quarter


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_14_every_test_image_counts_once_at_any_batch_size(batch_size):
    images = load_data("digits").test.subset(torch.arange(10))
    net = create_model("resnet8", num_classes=10, in_channels=1, image_size=8).eval()
    right = sum(int((net(batch.inputs).argmax(1) == batch.labels).sum()) for batch in eval_batches(images, len(images)))
    assert evaluate(net, eval_batches(images, batch_size)).top1 == pytest.approx(right / 10)


def test_16_no_method_needs_a_gpu_or_a_user_name(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in list_methods():
        make(name).losses(IMAGES, LABELS, index=torch.arange(len(LABELS)), epoch=0, epochs=1, step=0).total.backward()


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
            losses = method.losses(IMAGES, LABELS, index=copy.copy(LABELS), **when)
            losses.total.backward()
            update(learner, 0.01)
    assert {key: tensor.data_ptr() for key, tensor in method.state_dict().items()} == before
