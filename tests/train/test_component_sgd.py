"""DOT's and DeepKD's optimiser: a momentum for each component of the gradient."""

import numpy as np
import pytest
import torch
from torch import nn

import attar
from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, Transfer
from attar.methods.common.target_class import parted
from attar.recipe import read_recipe
from attar.train.component_sgd import ComponentSGD
from attar.train.optim import check_components, for_method, optimiser
from sweeps import first_of

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


@pytest.mark.parametrize(("name", "method"), first_of([("deepkd", "dkd"), ("dot", "at"), ("deepkd", "deepkd")]))
def test_a_stopped_run_goes_on_exactly(tiny, name, method):
    optim = {"name": name, "clip_norm": 1.0, "accumulate": 2, "weight_decay": 5e-4, "ema": 0.9}
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
    found = method.losses(torch.randn(4, 1, 8, 8), torch.arange(4), epoch=0, epochs=2)
    assert set(found.components) == {"task", "target", "distillation"}
    torch.testing.assert_close(sum(found.components.values()), found.total)


def check(method, name):
    recipe = read_recipe(optim={"name": name})
    for_method(method, recipe)
    check_components(method, recipe.optim, 1)


def flat(classes=5, inputs=6):
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes)).double()
    net.num_classes = classes
    return net


def of_parts(method, student, teacher, labels):
    """What a method's parts are, written down: of the labels, of the label's own class, of the other classes."""
    own = torch.eye(student.shape[1], dtype=torch.bool)[labels]
    pairs, others = [], []
    for logits in (teacher, student):
        p = (logits / method.temperature).softmax(1)
        pairs.append(torch.stack([p[own], 1 - p[own]], 1))
        others.append(p.masked_fill(own, 0) / (1 - p[own])[:, None])
    scale = method.temperature**2
    tckd = scale * (pairs[0] * (pairs[0] / pairs[1]).log()).sum(1)
    ratio = (others[0] / others[1].masked_fill(own, 1.0)).masked_fill(own, 1.0)
    nckd = scale * (others[0] * ratio.log()).sum(1)
    task = -student.log_softmax(1)[own].mean()
    if method.name == "kd":
        return {
            "task": method.ce * task,
            "target": method.kd * tckd.mean(),
            "distillation": method.kd * (pairs[0][:, 1] * nckd).mean(),
        }
    if method.name == "dkd":
        return {"task": task, "target": tckd.mean(), "distillation": method.beta * nckd.mean()}
    assert method.name == "nkd"
    target = -(teacher.softmax(1)[own] * student.log_softmax(1)[own]).mean()
    crossed = -(others[0] * others[1].masked_fill(own, 1.0).log()).sum(1)
    return {"task": task, "target": target, "distillation": method.gamma * scale * crossed.mean()}


@pytest.mark.parametrize(("name", "options"), [("kd", {}), ("dkd", {"warmup": 0}), ("nkd", {"temperature": 2.0})])
def test_deepkd_moves_any_method_by_three_momenta(name, options):
    teacher, student = flat(), flat()
    method = attar.create_method(name, teacher=teacher, student=student, **options)
    recipe = read_recipe(optim={"name": "deepkd", "lr": RATE, "weight_decay": DECAY, "nesterov": False})
    optim, line = for_method(method, recipe)
    assert (optim.name, line) == ("deepkd", "")
    learner = optimiser(method.trainable(), optim)
    by_hand = [p.detach().clone().requires_grad_() for p in student.parameters()]
    held = {name: [torch.zeros_like(p) for p in by_hand] for name in ("task", "target", "distillation")}
    momenta = {"task": 0.975, "target": 0.825, "distillation": 0.975}
    for _ in range(3):
        images, labels = torch.randn(4, 1, 2, 3, dtype=torch.float64), torch.tensor([0, 1, 4, 1])
        learner.backward(method.losses(images, labels, epoch=0, step=0).components)
        learner.step()
        learner.zero_grad()
        logits = images.flatten(1) @ by_hand[0].T + by_hand[1]
        parts = of_parts(method, logits, teacher(images).detach(), labels)
        found = {key: torch.autograd.grad(part, by_hand, retain_graph=True) for key, part in parts.items()}
        with torch.no_grad():
            for number, parameter in enumerate(by_hand):
                before = parameter.clone()
                for key, buffers in held.items():
                    decay = DECAY * before if key == "task" else 0
                    buffers[number] = momenta[key] * buffers[number] + found[key][number] + decay
                    parameter -= RATE * buffers[number]
    for one, other in zip(student.parameters(), by_hand, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


PARTED = {
    losses.KLDivergence(3.0): (),
    losses.DKD(0.7, 3.0): ("labels",),
    losses.NKD(): ("labels",),
    losses.Refined(): ("labels",),
    losses.MLKD(): (),
    losses.ConfidentKL(least=0.4): ("teacher.logits",),
    losses.Standardised(losses.KLDivergence(2.0)): (),
    losses.Standardised(losses.DKD()): ("labels",),
}


@pytest.mark.parametrize("loss", PARTED, ids=lambda loss: type(getattr(loss, "loss", loss)).__name__)
def test_the_parts_of_an_edge_add_up_to_it(loss):
    edge = Transfer("teacher.logits", "student.logits", loss, given=PARTED[loss])
    student, teacher = (torch.randn(6, 5, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    batch = Batch(torch.zeros(6, 1), torch.arange(6) % 5)
    known = Knowledge(batch, student=student, teacher=teacher)
    _, target, others = parted([Transfer("labels", "student.logits", losses.CrossEntropy()), edge])
    assert (target.component, others.component) == ("target", "distillation")
    whole, *parts = (torch.autograd.grad(one(known), student)[0] for one in (edge, target, others))
    torch.testing.assert_close(sum(parts), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(target(known) + others(known), edge(known), atol=1e-12, rtol=0)
    # Logits of other classes that change among themselves leave the label's part as it is, but not the rest.
    if "ConfidentKL" not in repr(loss) and "Standardised" not in repr(loss):
        tau = getattr(loss, "temperature", 1.0)
        assert own_class_only(target, known, tau) or isinstance(loss, losses.MLKD)


def own_class_only(edge, known, temperature):
    """Whether the gradient among the other classes is in proportion to their probabilities: they count as one."""
    student = known["student.logits"]
    gradient = torch.autograd.grad(edge(known), student)[0]
    tau = 1.0 if isinstance(edge.loss, losses.Refined | losses.TargetClass) else temperature
    p, own = (student / tau).softmax(1), torch.eye(5, dtype=torch.bool)[known["labels"]]
    share = (gradient / p)[~own].view(6, 4)
    return torch.allclose(share, share[:, :1].expand(6, 4), rtol=1e-8, atol=1e-12)


def test_which_methods_have_a_part_of_the_target_class():
    by_name = {"deepkd": set(), "dot": set()}
    nets = {role: attar.create_model("resnet8", num_classes=5, image_size=8) for role in ("teacher", "student")}
    for name in ("kd", "nkd", "rld", "sdd", "lskd", "mlkd", "crld", "wkdl", "kd+at", "at", "rkd", "ttm"):
        method = attar.create_method(name, **nets)
        by_name[for_method(method, read_recipe(optim={"name": "deepkd"}))[0].name].add(name)
    assert by_name["dot"] == {"at", "rkd", "ttm"}
    assert attar.create_method("dml", student=nets["student"]).part_target_class()


def test_what_a_method_mixes_itself_stays_whole():
    net = attar.create_model("resnet8", num_classes=5, image_size=8)
    method = attar.create_method("rsd", student=net)
    assert method.part_target_class()
    assert {edge.key for edge in method.edges if edge.component == "target"} == {
        "full.logits->student.logits:target class"
    }


def test_without_a_part_of_the_target_class_deepkd_is_dot(tiny):
    dot, deepkd = tiny("at", name="dot", epochs=1), tiny("at", name="deepkd", epochs=1)
    dot.fit()
    assert "no edge of 'at' has a part of the target class; as dot" in deepkd.fit()
    assert all(torch.equal(tensor, deepkd.state[key]) for key, tensor in dot.state.items())


def test_with_equal_momenta_a_parted_run_is_sgd(tiny):
    common = {"epochs": 1, "accumulate": 2, "ema": 0.9, "clip_norm": 1.0, "lr": 0.01}
    deepkd, sgd = tiny("dkd", name="deepkd", delta=0.0, **common), tiny("dkd", name="sgd", **common)
    for one in (deepkd, sgd):
        one.fit()
    for key, tensor in sgd.state.items():
        torch.testing.assert_close(deepkd.state[key], tensor, atol=1e-4, rtol=1e-3)


def test_what_has_no_components_is_refused():
    nets = {"teacher": attar.create_model("resnet14"), "student": attar.create_model("resnet8")}
    labels = attar.create_method("iakd", teacher=nets["student"], student=attar.create_model("resnet8"))
    for name in ("dot", "deepkd"):
        with pytest.raises(AttarError, match=rf"{name}: all edges of method 'iakd' are from the labels, .*kd, dkd, at"):
            check(labels, name)
    outputs = attar.create_method("simkd", **nets)
    with pytest.raises(AttarError, match="all edges of method 'simkd' are from other networks"):
        check(outputs, "deepkd")
    recipe = read_recipe(optim={"name": "deepkd"}, data={"name": "digits", "mixup": 0.2})
    with pytest.raises(AttarError, match="which mixed images do not have; give"):
        for_method(attar.create_method("kd", **nets), recipe)
    assert for_method(attar.create_method("at", **nets), recipe)[0].name == "dot"
    with pytest.raises(AttarError, match="runs in one process"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot"}).optim, 2)
    with pytest.raises(AttarError, match="leave compile= out"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot"}).optim, 1, compiled=True)
    with pytest.raises(AttarError, match="momentum of"):
        check_components(attar.create_method("kd", **nets), read_recipe(optim={"name": "dot", "delta": 0.95}).optim, 1)
    with pytest.raises(AttarError, match="momentum of"):
        ComponentSGD([nn.Parameter(torch.zeros(1))], 0.1, {"*": 1.05})
