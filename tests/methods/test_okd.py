"""OKD: modules that start as nothing, who learns from which loss, and a trunk that stays."""

import sys

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance.cases import classifiers, language_models
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import LowRank, create_model, fingerprint
from attar.tasks import create_task

pytest.importorskip("peft")
S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
NETWORKS = {"language": language_models, "classification": classifiers}


def fixed(logits):
    """A network that puts out these logits for the tokens (1, 0) and (0, 1)."""
    net = nn.Sequential(nn.Linear(2, 3, bias=False)).double()
    net[0].weight.data = logits.T.clone()
    return net


def tokens(mask):
    return Batch(
        torch.eye(2, dtype=torch.float64)[None], torch.tensor([[0, 1]]), weight=torch.tensor([mask]), output="logits"
    )


def okd(teacher, student, task="language", **options):
    return create_method("okd", teacher=teacher, student=student, task=task, **options)


def small(task, **options):
    """A method of the task's tiny networks in float64, and a batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, student = (net.double() for net in NETWORKS[task]())
        method = okd(teacher, student, task, rank=2, **options)
    if task == "language":
        return method, create_task(task).example(), teacher
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return method, Batch(images, torch.tensor([0, 1, 2, 3])), teacher


@pytest.mark.parametrize(
    ("mask", "kl", "entropy"), [([1.0, 0.0], 0.079028, 0.417030), ([1.0, 1.0], 0.072066, 0.318540)]
)
def test_losses_are_means_over_the_tokens_that_count(mask, kl, entropy):
    losses = okd(fixed(T), fixed(S), rank=1).batch_losses(tokens(mask))
    assert losses["teacher.logits->student.logits"].item() == pytest.approx(kl, abs=1e-6)
    assert losses["labels->student.logits"].item() == pytest.approx(entropy, abs=1e-6)


def test_the_total_is_the_sum_of_both_lines():
    losses = okd(fixed(T), fixed(S), rank=1, ce=0.3, kd=0.7, teacher_ce=0.9, mu=0.2).batch_losses(tokens([1.0, 1.0]))
    expected = 0.3 * 0.318540 + 0.7 * 0.072066 + 0.9 * 0.280989 + 0.2 * 0.072701
    assert losses.total.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("divergence", "forth", "back"), [("reverse", 0.072701, 0.072066), ("js", None, None)])
def test_the_divergence_of_the_task_is_that_of_both_directions(divergence, forth, back):
    method = okd(fixed(T), fixed(S), create_task("language", divergence=divergence), rank=1)
    losses = method.batch_losses(tokens([1.0, 1.0]))
    found = [
        losses[f"{one}.logits->{other}.logits"].item()
        for one, other in (("teacher", "student"), ("student", "teacher"))
    ]
    p, q = T.softmax(1), S.softmax(1)
    m = (p + q) / 2
    js = float(((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)).mean() / 2)
    assert found == pytest.approx([forth or js, back or js], abs=1e-6)


@pytest.mark.parametrize("task", NETWORKS)
def test_modules_start_as_nothing_and_only_they_and_the_student_learn(task):
    method, batch, teacher = small(task)
    with torch.no_grad():
        assert torch.equal(method.run(batch)["teacher.logits"], teacher(batch.inputs))
    method.batch_losses(batch).total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.student.parameters())
    assert all(up.weight.grad.abs().sum() > 0 for _, up in method.online.layers.values())
    trainable = {id(parameter) for parameter in method.trainable()}
    assert trainable == {id(p) for part in (method.student, method.online) for p in part.parameters()}


@pytest.mark.parametrize("task", NETWORKS)
def test_the_trunk_is_the_same_after_ten_steps(task):
    method, batch, teacher = small(task)
    before, modules = fingerprint(teacher), [p.detach().clone() for p in method.online.parameters()]
    optimiser = torch.optim.SGD(method.trainable(), 0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        method.train().batch_losses(batch).total.backward()
        optimiser.step()
    assert fingerprint(teacher) == before
    assert all(not torch.equal(now, then) for now, then in zip(method.online.parameters(), modules, strict=True))
    online, merged = method.run(batch)["teacher.logits"], method.also_deployed()["online teacher"]
    assert (online - teacher(batch.inputs)).abs().max() > 1e-3
    torch.testing.assert_close(merged(batch.inputs), online, rtol=1e-9, atol=1e-9)


def test_each_loss_moves_its_own_side_only():
    method, batch, _ = small("language")
    for key, learner, other in (
        ("teacher.logits->student.logits", method.student, method.online),
        ("student.logits->teacher.logits", method.online, method.student),
        ("labels->teacher.logits", method.online, method.student),
    ):
        method.zero_grad()
        method.batch_losses(batch)[key].backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())
        assert all(p.grad is None for p in other.parameters())


def test_the_students_first_gradient_is_that_of_kd():
    method, batch, _ = small("language", ce=0.3, kd=0.7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, student = (net.double() for net in language_models())
    plain = create_method("kd", teacher=teacher, student=student, task="language", temperature=1.0, ce=0.3, kd=0.7)
    for one in (method, plain):
        one.batch_losses(batch).total.backward()
    pairs = zip(method.student.parameters(), plain.student.parameters(), strict=True)
    assert all(torch.equal(one.grad, other.grad) for one, other in pairs)


def test_state_and_deployment_hold_no_trunk():
    method, _, _ = small("language")
    keys = method.state_dict().keys()
    assert {key.split(".")[0] for key in keys} == {"student", "online"}
    assert sum("online" in key for key in keys) == 2 * 6  # two projections in each of three blocks
    assert not any("lora" in key or "layers" in key for key in method.deployed().state_dict())


def test_the_trunk_follows_the_method():
    method, batch, teacher = small("classification")
    method.float()
    assert next(teacher.parameters()).dtype == torch.float32
    batch = Batch(batch.inputs.float(), batch.labels)
    assert method.run(batch)["teacher.logits"].dtype == torch.float32


def test_features_of_the_online_teacher_are_read_by_joined_methods():
    teacher, student = classifiers()
    method = create_method("okd+at", teacher=teacher, student=student, okd={"rank": 1})
    method._methods[0].online.layers["conv1"][1].weight.data += 1
    images = torch.ones(2, 3, 16, 16)
    assert method.edges
    found = method.run(Batch(images, torch.tensor([0, 1])))["teacher.stage1"]
    assert not torch.equal(found, teacher.features(images, ["stage1"]).tap("stage1"))


def test_convolutions_that_peft_does_not_adapt_are_left_out():
    dilated, grouped = create_model("csrnet", num_classes=1, divisor=32), create_model("mobilenetv2", num_classes=6)
    for net in (dilated, grouped):
        shape = (2, 3, 32, 32)
        net.requires_grad_(False).eval()
        layers = LowRank(net, 2, 4.0).layers
        adapted = [net.get_submodule(name.replace("/", ".")) for name in layers]
        assert all(layer.groups == 1 and layer.dilation == (1, 1) for layer in adapted if isinstance(layer, nn.Conv2d))
        assert torch.equal(LowRank(net, 2, 4.0)(torch.ones(shape)).logits, net(torch.ones(shape)))
    assert len(LowRank(dilated, 2, 4.0, ["stage*"]).layers) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["*.c_atn"]}, r"layer of the teacher '\*.c_atn'"),
        ({"rank": 0}, "rank is 0; low-rank modules need 1 or more"),
    ],
)
def test_bad_settings_are_one_line(options, message):
    with pytest.raises(AttarError, match=message) as error:
        okd(fixed(T), fixed(S), **options)
    assert "\n" not in str(error.value)


def test_a_teacher_without_layers_and_a_missing_package_are_one_line(monkeypatch):
    with pytest.raises(AttarError, match="Embedding has no linear layer or convolution"):
        okd(nn.Embedding(3, 3), fixed(S))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AttarError, match=r"needs peft; pip install 'attar\[text\]'"):
        okd(fixed(T), fixed(S))


class Tied(nn.Module):
    """The last layer has the embedding's weights, as in language models."""

    def __init__(self):
        super().__init__()
        self.embedding, self.middle, self.last = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, ids):
        return self.last(torch.relu(self.middle(self.embedding(ids))))


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second, self.last = self.first, nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.second(torch.relu(self.first(x))))


@pytest.mark.parametrize(
    ("net", "inputs", "layers"),
    [(Tied, torch.tensor([[0, 3, 6]]), ["middle", "last"]), (Twice, torch.ones(2, 5), ["last"])],
)
def test_layers_that_share_weights_merge_to_the_same_function(net, inputs, layers):
    low_rank = LowRank(net().requires_grad_(False), rank=2, alpha=4)
    assert list(low_rank.layers) == layers
    for parameter in low_rank.parameters():
        nn.init.normal_(parameter)
    merged = low_rank.merged()
    torch.testing.assert_close(merged(inputs), low_rank(inputs).logits, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in merged.parameters())
