"""A teacher does not learn, whoever calls what on it."""

import torch
from torch import nn

from attar.models import Frozen, create_model


def test_nothing_moves_and_nothing_is_recorded():
    net = create_model("resnet8")
    frozen = Frozen(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    first = frozen(images, ["stage2"])
    net.train()
    net.layer2.train()
    again = frozen(images, ["stage2"])
    assert torch.equal(first.logits, again.logits)
    assert not again.logits.requires_grad
    assert not again.tap("stage2").requires_grad
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_submodule_left_in_training_mode_is_found():
    frozen = Frozen(create_model("resnet8"))
    frozen.module.bn1.train()
    frozen(torch.randn(2, 3, 16, 16))
    assert not frozen.module.bn1.training


def test_its_output_can_teach():
    # Inference tensors could not be saved for backward.
    logits = Frozen(create_model("resnet8"))(torch.randn(2, 3, 16, 16)).logits
    student = torch.zeros(2, 100, requires_grad=True)
    (student * logits).sum().backward()
    assert torch.equal(student.grad, logits)


def test_a_method_that_holds_it_does_not_own_it():
    method = nn.Module()
    method.teacher = Frozen(nn.Sequential(nn.Linear(4, 3)))
    assert not list(method.parameters())
    assert not method.state_dict()
    assert method.teacher.to("cpu") is method.teacher
    assert method.teacher.classifier.out_features == 3
