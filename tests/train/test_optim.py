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
