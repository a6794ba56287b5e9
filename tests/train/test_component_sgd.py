"""DOT's and DeepKD's optimiser: a momentum for each component of the gradient."""

import numpy as np
import pytest
import torch
from torch import nn

import attar
from attar.errors import AttarError
from attar.recipe import read_recipe
from attar.train.component_sgd import ComponentSGD
from attar.train.optim import check_components

RATE, DECAY = 0.1, 0.01


def reference(momenta, nesterov, steps):
    """A parameter after each step, written down from the formula: the components' gradients are linear in it."""
    matrices = {name: np.array([[1.0 + n, 0.5], [0.25, 2.0 - n]]) for n, name in enumerate(momenta)}
    at, held, found = np.array([1.0, -2.0]), {name: np.zeros(2) for name in momenta}, []
    for _ in range(steps):
        move = np.zeros(2)
        for name, momentum in momenta.items():
            gradient = matrices[name].T @ matrices[name] @ at + (DECAY * at if name == "task" else 0)
            held[name] = momentum * held[name] + gradient
            move += gradient + momentum * held[name] if nesterov else held[name]
        at = at - RATE * move
        found.append(at.copy())
    return found


def trained(momenta, nesterov, steps, learner_of=None):
    matrices = {
        name: torch.tensor([[1.0 + n, 0.5], [0.25, 2.0 - n]], dtype=torch.float64) for n, name in enumerate(momenta)
    }
    at = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    learner = learner_of([at]) if learner_of else ComponentSGD([at], RATE, {**momenta, "*": 0.0}, 0.5, DECAY, nesterov)
    found = []
    for step in range(steps):
        parts = {name: (matrix @ at).square().sum() / 2 for name, matrix in matrices.items()}
        if isinstance(learner, ComponentSGD):
            learner.backward(parts)
        else:
            sum(parts.values()).backward()
        learner.step()
        learner.zero_grad()
        found.append(at.detach().numpy().copy())
        if step == 1 and not learner_of:  # as a checkpoint would
            again = ComponentSGD([at], RATE, {**momenta, "*": 0.0}, 0.5, DECAY, nesterov)
            again.load_state_dict(learner.state_dict())
            learner = again
    return found


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(
    "momenta", [{"task": 0.825, "distillation": 0.975}, {"task": 0.975, "target": 0.825, "distillation": 0.975}]
)
def test_each_component_has_its_momentum(momenta, nesterov):
    for one, other in zip(trained(momenta, nesterov, 5), reference(momenta, nesterov, 5), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_with_equal_momenta_it_is_sgd(nesterov):
    momenta = {"task": 0.9, "distillation": 0.9}

    def sgd(parameters):
        return torch.optim.SGD(parameters, RATE, 0.9, weight_decay=DECAY, nesterov=nesterov)

    for one, other in zip(trained(momenta, nesterov, 5), trained(momenta, nesterov, 5, sgd), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_parameter_of_one_component_has_the_plain_momentum_and_its_decay():
    ours, plain = (nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)) for _ in range(2))
    other = nn.Parameter(torch.ones(1, dtype=torch.float64))
    learner = ComponentSGD([ours, other], RATE, {"task": 0.1, "*": 0.99}, 0.9, DECAY)
    sgd = torch.optim.SGD([plain], RATE, 0.9, weight_decay=DECAY)
    for _ in range(4):
        learner.backward({"task": other.square().sum(), "distillation": ours.square().sum() * 1.5})
        (plain.square().sum() * 1.5).backward()
        for one in (learner, sgd):
            one.step()
            one.zero_grad()
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)


def test_the_gradient_is_the_sum_and_clipping_scales_every_component():
    at = nn.Parameter(torch.tensor([3.0, 4.0]))
    learner = ComponentSGD([at], 1.0, {"*": 0.0})
    for _ in range(2):  # two accumulated batches
        learner.backward({"task": at[0] * 1.0, "distillation": at[1] * 2.0})
    torch.testing.assert_close(at.grad, torch.tensor([2.0, 4.0]))
    learner.scale(torch.tensor(0.5))
    learner.step()
    torch.testing.assert_close(at.detach(), torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize(("name", "method"), [("dot", "at"), ("deepkd", "deepkd")])
def test_a_stopped_run_goes_on_exactly(tiny, name, method):
    optim = {"name": name, "clip_norm": 1.0, "accumulate": 2, "weight_decay": 5e-4}
    whole, stopped = tiny(method, **optim), tiny(method, **optim)
    whole.fit()
    stopped.stopped_fit(1, 1)
    stopped.fit()
    assert all(torch.equal(tensor, stopped.state[key]) for key, tensor in whole.state.items())
    assert stopped.metrics == whole.metrics


def test_without_distance_dot_is_sgd(tiny):
    dot, sgd = tiny("kd", name="dot", delta=0.0), tiny("kd", name="sgd")
    for one in (dot, sgd):
        one.fit()
    for key, tensor in sgd.state.items():
        torch.testing.assert_close(dot.state[key], tensor, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["dot", "deepkd"])
def test_with_the_labels_alone_it_is_sgd(tiny, name):
    several, sgd = tiny("supervised", name=name), tiny("supervised", name="sgd")
    for one in (several, sgd):
        one.fit()
    for key, tensor in sgd.state.items():
        torch.testing.assert_close(several.state[key], tensor, atol=1e-4, rtol=1e-3)


def test_the_components_of_a_batch_add_up(tiny):
    method = tiny("deepkd").method
    losses = method.losses(torch.randn(4, 1, 8, 8), torch.arange(4), epoch=0, epochs=2)
    assert set(losses.components) == {"task", "target", "distillation"}
    torch.testing.assert_close(sum(losses.components.values()), losses.total)


def test_what_has_no_components_is_refused():
    nets = {"teacher": attar.create_model("resnet14"), "student": attar.create_model("resnet8")}
    with pytest.raises(AttarError, match=r"optim\.name=deepkd: method 'kd' has no edge of the component 'target'"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "deepkd"}).optim, 1)
    labels = attar.create_method("iakd", teacher=nets["student"], student=attar.create_model("resnet8"))
    with pytest.raises(AttarError, match="'iakd' has no edge of the component 'distillation'"):
        check_components(labels, read_recipe(optim={"name": "dot"}).optim, 1)
    with pytest.raises(AttarError, match="runs in one process"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot"}).optim, 2)
    with pytest.raises(AttarError, match="leave compile= out"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot"}).optim, 1, compiled=True)
    with pytest.raises(AttarError, match="momentum of"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot", "delta": 0.95}).optim, 1)
    with pytest.raises(AttarError, match="momentum of"):
        ComponentSGD([nn.Parameter(torch.zeros(1))], 0.1, {"*": 1.05})
