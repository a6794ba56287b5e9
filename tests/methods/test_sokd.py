"""SOKD: the oracles of its paper and code, an independent float64 reference, and every family of the zoo."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import attar
from attar.batch import Address, Batch
from attar.conformance import check, check_method
from attar.errors import AttarError
from attar.knowledge import Knowledge, total_loss
from attar.models import build, create_model

CLASSES, SIZE = 5, 8
TERMS = {  # each edge and the only network that it teaches
    "labels->bridge.logits": "bridge",
    "teacher.logits->bridge.logits": "bridge",
    "student.logits->bridge.logits": "bridge",
    "labels->student.logits": "student",
    "bridge.logits->student.logits": "student",
}


def network(name, classes=CLASSES, size=SIZE):
    return create_model(name, num_classes=classes, image_size=size)


def sokd(teacher="resnet14", student="resnet8", classes=CLASSES, **options):
    torch.manual_seed(0)
    return attar.create_method("sokd", teacher=network(teacher, classes), student=network(student, classes), **options)


def batch(size=6, classes=CLASSES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(classes, (size,), generator=generator)
    return Batch(images, labels, torch.arange(size), Address(seed))


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def moved(net, before):
    return {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}


def train(method, steps=3, lr=0.05, momentum=0.9, decay=5e-4):
    method.train()
    learner = torch.optim.SGD(method.trainable(), lr=lr, momentum=momentum, weight_decay=decay)
    for seed in range(steps):
        learner.zero_grad()
        method.batch_losses(batch(seed=seed)).total.backward()
        learner.step()


def outputs(**logits):
    """Knowledge from logits alone."""
    tensors = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in logits.items()}
    size = len(next(iter(tensors.values())))
    return Knowledge(Batch(torch.zeros(size, 1, 1, 1), torch.arange(size) % 3), **tensors)


def kl(learner, source, temperature=4.0):
    """T^2 KL(source || learner) in plain numpy."""
    p, q = (np.exp(z / temperature) / np.exp(z / temperature).sum(1, keepdims=True) for z in (source, learner))
    return temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1))


def ce(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -np.mean(np.log(p[np.arange(len(p)), labels]))


# 1


@pytest.mark.parametrize("teacher_bn", ["eval", "train"])
@pytest.mark.parametrize(("term", "learner"), TERMS.items())
def test_oracle_1_each_term_teaches_one_network(term, learner, teacher_bn):
    method = sokd(teacher_bn=teacher_bn).train()
    assert set(method.batch_losses(batch()).terms) == set(TERMS)
    method.batch_losses(batch())[term].backward()
    parts = {"teacher": method.teacher.module, "bridge": method.bridge, "student": method.student}
    taught = {
        name
        for name, part in parts.items()
        if any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    }
    assert taught == {learner}
    assert all(parameter.grad is not None for parameter in parts[learner].parameters())


# 2


def test_oracle_2_the_trunk_is_frozen():
    method = sokd()
    before = state(method.teacher.module)
    train(method)
    assert not moved(method.teacher.module, before)


def test_oracle_2_with_batch_statistics_only_running_ones_drift():
    teacher = network("resnet14")
    given = state(teacher)
    method = attar.create_method("sokd", teacher=teacher, student=network("resnet8"), teacher_bn="train")
    before = state(method.teacher.module)
    train(method)
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert moved(method.teacher.module, before) == statistics
    assert not moved(teacher, given)


@pytest.mark.parametrize("teacher_bn", ["eval", "train"])
def test_resuming_is_exact(teacher_bn):
    method = sokd(teacher_bn=teacher_bn)
    train(method, steps=2)
    again = sokd(teacher_bn=teacher_bn)
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    for one in (method, again):
        train(one, steps=1)
    assert not moved(method, state(again))
    totals = [one.eval().batch_losses(batch()).total for one in (method, again)]
    assert torch.equal(*totals)


def test_the_mode_of_the_teacher_follows_teacher_bn():
    frozen, drifting = sokd().train(), sokd(teacher_bn="train").train()
    for method in (frozen, drifting):
        method.batch_losses(batch())
    assert not any(module.training for module in frozen.teacher.module.modules())
    assert all(module.training for module in drifting.teacher.module.modules())
    assert not any(module.training for module in drifting.eval().teacher.module.modules())


# 3


@pytest.mark.parametrize("split", [-1, 0, 1, "last"])
def test_oracle_3_a_bridge_with_the_teachers_weights_is_the_teacher(split):
    method = sokd(split=split, kbm_init="teacher").eval()
    losses = method.batch_losses(batch())
    taught, bridged = losses.knowledge["teacher.logits"], losses.knowledge["bridge.logits"]
    assert (taught - bridged).abs().max() < 1e-6
    assert losses["teacher.logits->bridge.logits"].abs() < 1e-6


# 4


@pytest.mark.parametrize("teacher_bn", ["eval", "train"])
@pytest.mark.parametrize("split", [-1, 0, 1, "last"])
def test_oracle_4_the_improved_teacher_is_trunk_and_bridge(split, teacher_bn):
    method = sokd(split=split, teacher_bn=teacher_bn)
    train(method)
    improved = method.eval().also_deployed()["improved teacher"].eval()
    assert torch.equal(improved(batch().inputs), method.run(batch())["bridge.logits"])
    plain = network("resnet14")
    assert list(improved.state_dict()) == list(plain.state_dict())
    assert sum(p.numel() for p in improved.parameters()) == sum(p.numel() for p in plain.parameters())
    again = build(improved.spec)
    again.load_state_dict(improved.state_dict())
    assert torch.equal(again.eval()(batch().inputs), improved(batch().inputs))


# 5


def test_oracle_5_it_reduces_to_kd():
    method = sokd(kbm_init="teacher", a1=0, a2=0, a3=0)
    method.bridge.requires_grad_(False)
    method.train().bridge.eval()
    losses = method.batch_losses(batch())
    losses.total.backward()
    ours = [parameter.grad.clone() for parameter in method.student.parameters()]
    method.student.zero_grad()
    student, teacher = method.student.module(batch().inputs), method.teacher.module(batch().inputs)
    soft, target = F.log_softmax(student / 4, dim=1), F.softmax(teacher / 4, dim=1)
    expected = F.cross_entropy(student, batch().labels) + 16 * F.kl_div(soft, target, reduction="batchmean")
    expected.backward()
    torch.testing.assert_close(losses.total, expected)
    for own, parameter in zip(ours, method.student.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad)


# 6


def test_oracle_6_it_reduces_to_dml():
    method = sokd(split=0, a2=0, temperature=1.0).train()
    student, peer = copy.deepcopy(method.student.module), copy.deepcopy(method.bridge.upper)
    dml = attar.create_method("dml", student=student, peers=[peer]).train()
    ours, theirs = method.batch_losses(batch()), dml.batch_losses(batch())
    torch.testing.assert_close(ours.total, theirs.total)
    for end, other in (("student", "peer1"), ("bridge", "student")):
        source = "bridge" if end == "student" else "student"
        name = {"student": "student", "bridge": "peer1"}
        own = ours[f"labels->{end}.logits"] + ours[f"{source}.logits->{end}.logits"]
        dmls = theirs[f"labels->{name[end]}.logits"] + theirs[f"{other}.logits->{name[end]}.logits"]
        torch.testing.assert_close(own, dmls)
    ours.total.backward()
    theirs.total.backward()
    for own, same in ((method.student, student), (method.bridge, peer)):
        for mine, other in zip(own.parameters(), same.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)


# 7


def test_oracle_7_the_loss_against_numpy():
    weights = {"a1": 0.5, "a2": 2.0, "a3": 0.25, "l1": 1.5, "l2": 3.0}
    rng = np.random.default_rng(0)
    t, a, s = rng.normal(size=(3, 7, 6))
    losses = total_loss(outputs(teacher=t, bridge=a, student=s), sokd(temperature=2.5, **weights).edges)
    labels = np.arange(7) % 3
    expected = (
        0.5 * ce(a, labels) + 2.0 * kl(a, t, 2.5) + 0.25 * kl(a, s, 2.5) + 1.5 * ce(s, labels) + 3.0 * kl(s, a, 2.5)
    )
    assert float(losses.total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("net", ["teacher", "bridge", "student"])
def test_oracle_7_a_constant_on_all_logits_changes_nothing(net):
    logits = dict(zip(("teacher", "bridge", "student"), np.random.default_rng(1).normal(size=(3, 7, 6)), strict=True))
    edges = sokd().edges
    plain = total_loss(outputs(**logits), edges).total
    shifted = total_loss(outputs(**{**logits, net: logits[net] + 3.0}), edges).total
    torch.testing.assert_close(plain, shifted, rtol=0, atol=1e-12)


def test_oracle_7_scaling_logits_and_temperature():
    logits = dict(zip(("teacher", "bridge", "student"), np.random.default_rng(2).normal(size=(3, 7, 6)), strict=True))
    plain = total_loss(outputs(**logits), sokd(temperature=2.0).edges)
    scaled = total_loss(outputs(**{name: 3 * z for name, z in logits.items()}), sokd(temperature=6.0).edges)
    for term in TERMS:
        if not term.startswith("labels"):
            torch.testing.assert_close(scaled[term], 9 * plain[term])


def test_oracle_7_identical_logits_teach_nothing():
    z = np.random.default_rng(3).normal(size=(7, 6))
    losses = total_loss(outputs(teacher=z, bridge=z, student=z), sokd().edges)
    assert all(abs(float(losses[term])) < 1e-12 for term in TERMS if not term.startswith("labels"))


@pytest.mark.parametrize(
    ("term", "target"),
    [("teacher.logits->bridge.logits", "teacher"), ("student.logits->bridge.logits", "student"),
     ("bridge.logits->student.logits", "bridge")],
)  # fmt: skip
def test_oracle_7_the_source_is_the_target(term, target):
    # The target says (3/4, 1/4, 0), the learner (1/2, 1/2, 0): 3/4 ln 3/2 + 1/4 ln 1/2; the other way it is 0.143841.
    logits = {name: [[0.0, 0.0, -900.0]] for name in ("teacher", "bridge", "student")}
    losses = total_loss(outputs(**{**logits, target: [[math.log(3), 0.0, -900.0]]}), sokd(temperature=1.0).edges)
    assert float(losses[term]) == pytest.approx(0.130812, abs=1e-6)


# 8


def test_oracle_8_both_networks_step_from_the_same_predictions():
    start = sokd().train()
    together = copy.deepcopy(start)
    train(together, steps=1, momentum=0, decay=0)
    for learner in ("bridge", "student"):
        alone = copy.deepcopy(start)
        loss = sum(alone.batch_losses(batch())[term] for term, taught in TERMS.items() if taught == learner)
        loss.backward()
        torch.optim.SGD(getattr(alone, learner).parameters(), lr=0.05).step()
        pairs = zip(getattr(alone, learner).parameters(), getattr(together, learner).parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


# 9


def test_oracle_9_the_student_is_the_plain_network():
    method = sokd()
    train(method)
    student, plain = method.deployed(), network("resnet8")
    assert list(student.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(student.state_dict())
    assert torch.equal(plain.eval()(batch().inputs), student.eval()(batch().inputs))


def test_sizes_of_the_paper():
    method = attar.create_method("sokd", teacher=create_model("wrn_40_2"), student=create_model("wrn_40_1"))
    count = [sum(p.numel() for p in net.parameters()) for net in (method.deployed(), *method.also_deployed().values())]
    assert count == [569_780, 2_255_156]


# the suite, the zoo, the options


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"split": 0}, {"split": "last"}, {"kbm_init": "teacher", "split": 1}, {"teacher_bn": "train"},
     {"a2": 0, "a3": 0}, {"feature_loss": "mse"}, {"feature_loss": "sp", "feature": "pooled"}],
)  # fmt: skip
def test_conformance(options):
    assert check_method("sokd", **options)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("resnet14", "resnet8"), ("wrn_16_2", "wrn_16_1"), ("vgg11", "vgg8"), ("mobilenetv2", "resnet8"),
     ("resnet14", "mobilenetv2"), ("shufflenetv1", "shufflenetv2"), ("wrn_16_1", "shufflenetv1"), ("vgg8", "resnet8")],
)  # fmt: skip
def test_families(teacher, student):
    method = sokd(teacher, student)
    check(method, batch(size=3))
    deployed = {"student": (method.deployed(), student), "teacher": (*method.also_deployed().values(), teacher)}
    for net, name in deployed.values():
        assert list(net.state_dict()) == list(network(name).state_dict())


@pytest.mark.parametrize("classes", [2, 13])
def test_any_number_of_classes(classes):
    assert check(sokd(classes=classes), batch(size=5, classes=classes)).total > 0


def test_bfloat16():
    method = sokd("wrn_16_1", "resnet8").train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.batch_losses(batch())
    losses.total.backward()
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in losses.terms.values())


def test_it_takes_the_edges_of_an_offline_method():
    nets = {"teacher": network("resnet14"), "student": network("resnet8")}
    both = attar.create_method("sokd+at", **nets)
    assert len(both.edges) == len(TERMS) + 3
    check(both, batch())


def test_the_page_draws_the_graph():
    page = Path(__file__).parents[2] / "docs/methods/sokd.md"
    assert sokd().graph.mermaid() in page.read_text(encoding="utf-8")


def test_any_student_will_do_without_features():
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, CLASSES))
    check(attar.create_method("sokd", teacher=network("resnet14"), student=student), batch())


# features


@pytest.mark.parametrize("name", ["at", "cc", "mse", "nst", "pkt", "sp"])
def test_features_teach_as_the_logits_do(name):
    method = sokd("wrn_16_2", "resnet8", feature_loss=name, b1=2.0)
    edges = {edge.key: edge for edge in method.edges if "stage3" in edge.key}
    assert [edge.weight for edge in edges.values()] == [2.0, 1.0, 1.0]
    learners = dict(zip(edges, ("student", "bridge", "bridge"), strict=True))
    for key, learner in learners.items():
        method.zero_grad()
        method.train().batch_losses(batch())[key].backward()
        parts = {name: getattr(method, name) for name in ("bridge", "student", "adapter")}
        taught = {name for name, part in parts.items() if any(p.grad is not None for p in part.parameters())}
        assert learner in taught
        assert taught <= ({"student", "adapter"} if learner == "student" else {"bridge"})
    assert ("adapter.0.weight" in method.state_dict()) == (name in ("cc", "mse"))


def test_pooled_features_meet_through_a_linear_layer():
    method = sokd("wrn_16_2", "resnet8", feature_loss="mse", feature="pooled")
    assert [type(layer) for layer in method.adapter] == [torch.nn.Linear]
    check(method, batch())


def test_equal_features_need_no_adapter():
    method = sokd("resnet14", "resnet8", feature_loss="mse")
    assert not list(method.adapter.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"teacher_bn": "evil"}, "did you mean 'eval'"), ({"kbm_init": "techer"}, "did you mean 'teacher'"),
     ({"feature_loss": "mde"}, "did you mean 'mse'"), ({"feature_loss": "at", "feature": "maps"}, "mean 'map'"),
     ({"feature_loss": "mse", "split": "last"}, "head alone"), ({"split": 7}, "3 stages"), ({"tau": 1}, "unknown")],
)  # fmt: skip
def test_mistakes(options, message):
    with pytest.raises(AttarError, match=message):
        sokd(**options)


def test_a_teacher_without_stages():
    with pytest.raises(AttarError, match="needs the stages of the teacher"):
        attar.create_method("sokd", teacher=torch.nn.Linear(2, 2), student=network("resnet8"))
