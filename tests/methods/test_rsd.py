"""RSD; `test_oracleN_...` are the numbered oracles of its specification, 1 to 3 are in nets/test_reparam.py."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import attar
from attar.batch import Address, Batch
from attar.conformance import checks as conformance
from attar.errors import AttarError
from attar.knowledge import total_loss
from attar.methods.rsd import RSD, Mixing, mixed_pass
from attar.models import create_model
from attar.models.surgery.reparam import blocks, dropping

CLASSES, SIZE = 6, 16
MIXED = ("mixed_full", "mixed_student")
FAMILIES = ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def rsd(name: str = "resnet8", *, teacher: bool = False, seed: int = 0, **options) -> RSD:
    torch.manual_seed(seed)
    student = create_model(name, num_classes=CLASSES, image_size=SIZE)
    external = create_model("resnet14", num_classes=CLASSES, image_size=SIZE) if teacher else None
    return attar.create_method("rsd", student=student, teacher=external, **options).train()


def a_batch(size: int = 5, step: int = 0, dtype=torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    return Batch(images, torch.randint(CLASSES, (size,), generator=generator), None, Address(3, 1, step))


def at_point(point: int, size: int = 5, dtype=torch.float32) -> Batch:
    """A batch whose address mixes after this stage."""
    step = next(s for s in range(1000) if Mixing.of(a_batch(size, s), 3).point == point)
    return a_batch(size, step, dtype)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def kl(learner: np.ndarray, source: np.ndarray, t: float) -> float:
    p, q = log_softmax(source / t), log_softmax(learner / t)
    return t * t * float((np.exp(p) * (p - q)).sum()) / len(learner)


def ce(z: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_softmax(z)[np.arange(len(z)), labels].mean())


def reference(knowledge, mixing: Mixing, alpha: float, beta: float, t: float) -> float:
    """The six terms in NumPy, in float64, from the logits."""
    logits = {name: knowledge[f"{name}.logits"].detach().double().numpy() for name in ("student", "full", *MIXED)}
    share, labels = float(mixing.share), knowledge["labels"].numpy()
    others = labels[mixing.partners.numpy()]
    hard = ce(logits["student"], labels) + ce(logits["full"], labels)
    mixed = sum(share * ce(logits[name], labels) + (1 - share) * ce(logits[name], others) for name in MIXED)
    taught = kl(logits["student"], logits["full"], t) + kl(logits["mixed_student"], logits["mixed_full"], t)
    return alpha * (hard + mixed) + beta * taught


# The defaults pass in conformance/test_checks.py.
@pytest.mark.slow
@pytest.mark.parametrize("options", [{"mixture": False}, {"detach_teacher": True}, {"distill": False}])
def test_conformance_of_self_distillation(options):
    for check in conformance.CHECKS:
        check(conformance.Case(lambda: rsd(**options)))


def test_oracle5_a_share_of_one_mixes_nothing():
    method, batch = rsd().double(), a_batch(dtype=torch.float64)
    net = method.student.module
    for point in range(4):
        mixing = Mixing(point, torch.tensor(1.0, dtype=torch.float64), torch.randperm(5))
        features = net.features(batch.inputs, [mixing.tap]).tap(mixing.tap)
        full, *mixed = mixed_pass(net, batch.inputs, torch.randn_like(features), mixing)
        for logits in mixed:
            torch.testing.assert_close(logits, full, atol=1e-10, rtol=0)
    onehot = torch.eye(CLASSES, dtype=torch.float64)[batch.labels]
    assert torch.equal(mixing(onehot, onehot), onehot)


@pytest.mark.parametrize("point", range(4))
def test_oracle5_without_dropping_the_mixtures_are_one(point):
    method, batch = rsd(drop=0.0).double(), at_point(point, dtype=torch.float64)
    losses = method.batch_losses(batch)
    torch.testing.assert_close(
        losses.knowledge["mixed_student.logits"], losses.knowledge["mixed_full.logits"], atol=1e-10, rtol=0
    )
    assert abs(losses["mixed_full.logits->mixed_student.logits"].item()) < 1e-10
    # The norms behind the mixing point see three batches, the student's pass sees one; there are none behind stage 3.
    assert (losses["full.logits->student.logits"].item() > 1e-6) == (point < 3)


def test_oracle5_with_norms_in_eval_mode_the_passes_are_one():
    method = rsd(drop=0.0).double()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    losses = method.batch_losses(a_batch(dtype=torch.float64))
    assert abs(losses["full.logits->student.logits"].item()) < 1e-10
    assert not torch.equal(losses.knowledge["mixed_full.logits"], losses.knowledge["full.logits"])


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_oracle6_eval_is_safe(rate):
    method, batch = rsd().eval(), a_batch()
    method.drop = rate
    state = torch.get_rng_state()
    net = copy.deepcopy(method.student.module)
    knowledge = [method.run(batch) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    plain = net(batch.inputs)
    for name in ("student", "full", *MIXED):
        assert all(torch.equal(outputs[f"{name}.logits"], plain) for outputs in knowledge)
    assert torch.equal(knowledge[0]["labels.mixed"].argmax(1), batch.labels)
    assert torch.equal(method.student.module(batch.inputs), plain)


def test_oracle6_eval_asks_for_no_generator(monkeypatch):
    method, batch = rsd().eval(), a_batch()
    monkeypatch.setattr(Address, "generator", lambda *_: pytest.fail("eval mode drew a number"))
    method.run(batch)


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 1.0, 3.0), (0.5, 2.0, 4.0), (0.0, 1.0, 1.0)])
def test_oracle7_the_loss_is_the_six_terms(alpha, beta, temperature):
    method = rsd(alpha=alpha, beta=beta, temperature=temperature).double()
    batch = a_batch(7, dtype=torch.float64)
    losses = method.batch_losses(batch)
    expected = reference(losses.knowledge, Mixing.of(batch, 3), alpha, beta, temperature)
    assert abs(losses.total.item() - expected) < 1e-10
    assert len(losses) == 6


@pytest.mark.parametrize("point", range(4))
def test_oracle7_the_passes_step_by_step(point):
    method, batch = rsd().double(), at_point(point, dtype=torch.float64)
    net, mixing = copy.deepcopy(method.student.module), Mixing.of(batch, 3)
    outputs = method.run(batch)
    parts = [net.stem, *(lambda x, n=n: net.run_stage(n, x)[0] for n in range(3))]

    def run(x, start, end):
        for part in parts[start:end]:
            x = part(x)
        return x

    with dropping(net, 0.2, 5, batch.rng("drop")):
        student = run(batch.inputs, 0, point + 1)
        thinned = net.fc(run(student, point + 1, 4).mean((2, 3)))
    full = run(batch.inputs, 0, point + 1)
    share, partners = float(mixing.share), mixing.partners.tolist()
    mixed = [
        torch.stack([share * full[n] + (1 - share) * other[partners[n]] for n in range(5)]) for other in (full, student)
    ]
    logits = net.fc(run(torch.cat([full, *mixed]), point + 1, 4).mean((2, 3)))
    expected = {"student": thinned, "full": logits[:5], "mixed_full": logits[5:10], "mixed_student": logits[10:]}
    for name, value in expected.items():
        torch.testing.assert_close(outputs[f"{name}.logits"], value, atol=1e-10, rtol=0)
    # The gradients agree too: the student's features learn from the mixture, so nothing on the way is detached.
    slopes = [
        torch.autograd.grad(sum(logits.sin().sum() for logits in each), list(one.parameters()))
        for each, one in (([outputs[f"{name}.logits"] for name in expected], method), (expected.values(), net))
    ]
    for own, other in zip(*slopes, strict=True):
        torch.testing.assert_close(own, other, atol=1e-9, rtol=1e-9)
    for sample in range(5):
        label = torch.zeros(CLASSES, dtype=torch.float64)
        label[batch.labels[sample]] += share
        label[batch.labels[partners[sample]]] += 1 - share
        torch.testing.assert_close(outputs["labels.mixed"][sample], label, atol=1e-12, rtol=0)


def test_oracle8_every_branch_learns():
    method = rsd(drop=0.9)
    method.batch_losses(a_batch(2)).total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


@pytest.mark.parametrize("detach", [False, True])
def test_oracle8_who_learns_from_a_divergence(detach):
    method = rsd(detach_teacher=detach)
    knowledge = method.run(a_batch())
    edges = {edge.key: edge for edge in method.edges}
    for source, learner in (("full", "student"), ("mixed_full", "mixed_student")):
        ends = [knowledge[f"{name}.logits"] for name in (source, learner)]
        loss = edges[f"{source}.logits->{learner}.logits"](knowledge)
        taught, learnt = torch.autograd.grad(loss, ends, allow_unused=True, retain_graph=True)
        assert learnt.abs().sum() > 0
        assert (taught is None) == detach
        assert detach or taught.abs().sum() > 0


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_oracle9_odd_batches_and_state(size):
    method = rsd()
    assert len(method.edges) == 6
    before = {name: set(vars(module)) for name, module in method.named_modules()}
    method.batch_losses(a_batch(size)).total.backward()
    assert method.drop == 0.2
    assert {name: set(vars(module)) for name, module in method.named_modules()} == before
    assert not any(module._forward_pre_hooks for module in method.modules())


def test_both_passes_move_the_statistics_once():
    method = rsd()
    method.run(a_batch())
    counts = {norm.num_batches_tracked.item() for norm in method.modules() if isinstance(norm, nn.BatchNorm2d)}
    assert counts == {2}


@pytest.mark.parametrize(
    "name",
    [one if one in ("resnet8", "mobilenetv2") else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES],
)
def test_every_family(name):
    method, batch = rsd(name), a_batch(4)
    attar.conformance.check(method, batch)
    with torch.autocast("cpu", torch.bfloat16):
        total = method.batch_losses(batch).total
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(parameter.grad).all() for parameter in method.parameters())
    deployed, net = method.deployed().eval(), method.eval().student.module
    assert not blocks(deployed)
    torch.testing.assert_close(deployed(batch.inputs), net(batch.inputs), atol=1e-4, rtol=1e-4)


def test_the_randomness_is_the_address_s():
    method, step = rsd(), a_batch(step=4)
    state = torch.get_rng_state()
    first, again, other = (copy.deepcopy(method).run(batch) for batch in (step, step, a_batch(step=5)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first["student.logits"], again["student.logits"])
    assert torch.equal(first["mixed_student.logits"], again["mixed_student.logits"])
    assert not torch.equal(first["student.logits"], other["student.logits"])


def test_the_mixing_is_distributed_as_described():
    drawn = [Mixing.of(a_batch(4, step), 3) for step in range(4000)]
    shares = torch.stack([mixing.share for mixing in drawn])
    # Beta(2, 2): mean 1/2, variance 1/20, kurtosis 15/7.
    assert abs(shares.mean() - 0.5) < 5 * (0.05 / 4000) ** 0.5
    assert shares.var().item() == pytest.approx(0.05, rel=0.1)
    assert (shares - 0.5).pow(4).mean().item() == pytest.approx(15 / 7 * 0.05**2, rel=0.15)
    points = torch.bincount(torch.tensor([mixing.point for mixing in drawn]), minlength=4)
    assert (points / 4000 - 0.25).abs().max() < 0.04
    assert all(sorted(mixing.partners.tolist()) == [0, 1, 2, 3] for mixing in drawn[:50])


@pytest.mark.parametrize(("per_sample", "rows"), [(True, 5), (False, 1)])
def test_who_shares_a_mask(per_sample, rows):
    method, batch = rsd(per_sample=per_sample, mixture=False).double(), a_batch(dtype=torch.float64)
    net = copy.deepcopy(method.student.module)
    with dropping(net, 0.2, rows, batch.rng("drop")):
        expected = net(batch.inputs)
    assert torch.equal(method.run(batch)["student.logits"], expected)


def test_an_external_teacher():
    method, batch = rsd(teacher=True, external=0.7).double(), a_batch(dtype=torch.float64)
    losses = method.batch_losses(batch)
    own = reference(losses.knowledge, Mixing.of(batch, 3), 1.0, 1.0, 3.0)
    taught = kl(*(losses.knowledge[f"{name}.logits"].detach().numpy() for name in ("full", "teacher")), 3.0)
    assert abs(losses.total.item() - (0.3 * own + 0.7 * taught)) < 1e-10
    assert rsd(teacher=True).external == 0.9


def test_branches_without_distillation():
    method, batch = rsd(distill=False), a_batch()
    net = copy.deepcopy(method.student.module)
    losses = method.batch_losses(batch)
    assert list(losses) == ["labels->student.logits"]
    assert losses.total.item() == pytest.approx(nn.functional.cross_entropy(net(batch.inputs), batch.labels).item())


def test_what_is_deployed():
    torch.manual_seed(0)
    method = attar.create_method("rsd", student=create_model("resnet32"))
    deployed = method.deployed()
    assert sum(parameter.numel() for parameter in method.parameters()) == 1_711_796
    assert sum(parameter.numel() for parameter in deployed.parameters()) == 471_620
    assert deployed.spec == {"kind": "merged", "network": create_model("resnet32").spec}
    assert deployed is not method.deployed()


def test_it_learns_with_a_network_without_stages():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * SIZE**2, CLASSES))
    method = RSD(net, mixture=False).train()
    losses = method.batch_losses(a_batch())
    assert len(losses) == 3
    assert total_loss(method.run(a_batch()), method.edges).total.isfinite()
    assert isinstance(method.deployed()[1], nn.Identity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.0}, r"drop is 1.0; give a probability in \[0, 1\)"),
        ({"drop": -0.1}, "drop is -0.1"),
        ({"duplicates": 0}, "duplicates is 0"),
        ({"external": 1.5}, "external is 1.5"),
        ({"distill": False, "teacher": True}, "leave teacher= out"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(AttarError, match=message):
        rsd(**options)


def test_networks_that_will_not_do():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(AttarError, match="needs the stages of the student"):
        RSD(conv)
    with pytest.raises(AttarError, match="no padded 3x3 or 5x5"):
        RSD(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), mixture=False)
