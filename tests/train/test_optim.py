import pytest
import torch
from torch import nn

from attar.recipe import OptimRecipe
from attar.train.optim import optimiser


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def test_without_decay_of_vectors_only_matrices_shrink():
    model = net()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    recipe = OptimRecipe(lr=0.1, momentum=0.0, weight_decay=0.5, decay_vectors=False)
    learner = optimiser(list(model.parameters()), recipe)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    learner.step()
    for name, parameter in model.named_parameters():
        left = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), left * before[name])


def test_by_default_every_parameter_is_in_one_group_in_its_order():
    parameters = list(net().parameters())
    (group,) = optimiser(parameters, OptimRecipe()).param_groups
    assert all(one is other for one, other in zip(group["params"], parameters, strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_parameter_may_begin_to_learn_later_than_others(nesterov):
    recipe = OptimRecipe(lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=nesterov)
    models, learners = [net(), net()], []
    for model, fused in zip(models, (True, False), strict=True):
        made = optimiser(list(model.parameters()), recipe)
        assert made.param_groups[0]["fused"]
        plain = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=nesterov)
        learners.append(made if fused else plain)
    for step in range(4):
        for model, learner in zip(models, learners, strict=True):
            generator = torch.Generator().manual_seed(step)
            for place, parameter in enumerate(model.parameters()):
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad = gradient if place < 2 or step > 1 else None
            learner.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
