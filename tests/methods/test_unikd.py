"""UniKD: the oracles of its specification, an independent reference of both profiles, and what is deployed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

import attar
from attar.batch import Address, Batch
from attar.conformance import check, check_method
from attar.errors import AttarError
from attar.losses import GaussianKL, gaussian_kl
from attar.losses import kl_divergence as kd
from attar.methods.unikd import UniKD, sample
from attar.models import Staged, create_model
from attar.schedules import value

CLASSES, SIZE = 6, 16
LABELS, LOGITS = "labels->student.logits", "teacher.logits->student.logits"
FEAT = {
    "paper": "teacher_fdp.gaussian->student_fdp.gaussian",
    "code": "teacher_fdp.sample->student_fdp.sample",
}
ANCHORS = ("student.logits->student_fdp.sample", "teacher.logits->teacher_fdp.sample")
FAMILIES = ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def net(name: str = "resnet8", seed: int = 0, classes: int = CLASSES, **options: object) -> Staged:
    torch.manual_seed(seed)
    return create_model(name, num_classes=classes, image_size=SIZE, **options)


def wide() -> Staged:
    return net("resnet8", 1, widths=(12, 20, 28))


def method(teacher: Staged | None = None, student: Staged | None = None, **options: object) -> UniKD:
    torch.manual_seed(9)
    return attar.create_method("unikd", teacher=teacher or wide(), student=student or net(), **options).train()


def batch(size: int = 8, classes: int = CLASSES, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    labels = torch.randint(classes, (size,), generator=generator)
    return Batch(images, labels, address=Address(seed, 29, 0), epochs=240)


def moved(parameters: object) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters)


def aux(one: UniKD) -> int:
    return sum(parameter.numel() for parameter in one.fdp.parameters())


def column(number: float) -> Tensor:
    return torch.full((1, 1), number, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"profile": "paper"},
        {"logits": "mlkd"},
        {"profile": "code", "logits": "kd", "gate": "convex", "detach_feat_target": True},
        {"fusion": False, "detach_anchor_target": True},
        {"feat": 0.0, "anchor": 0.0, "logits": "dkd"},
    ],
    ids=str,
)
def test_conformance(options):
    check_method("unikd", **options)


# The oracles of the specification, in its order. The gate (2) and single modules (3, 4) are in tests/models/surgery.


@pytest.mark.parametrize(
    ("source", "learner", "expected"),
    [
        ((0, 1), (1, 1), 0.5),
        ((0, 1), (0, 4), 0.3181471806),
        ((0, 4), (0, 1), 0.8068528194),
        ((0.5, 2), (-0.5, 3), 0.2027325541),
        ((0.5, 2), (0.5, 2), 0.0),
    ],
)
def test_oracle_1_gaussian_kl_of_two_numbers(source, learner, expected):
    (mu_t, var_t), (mu_s, var_s) = ((column(mu), column(var)) for mu, var in (source, learner))
    assert gaussian_kl(mu_s, var_s.log(), mu_t, var_t.log()).item() == pytest.approx(expected, abs=1e-10)


def test_oracle_1_gaussian_kl_equals_torch():
    generator = torch.Generator().manual_seed(0)
    mu_s, lv_s, mu_t, lv_t = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(4))
    source, learner = (Independent(Normal(mu, (lv / 2).exp()), 1) for mu, lv in ((mu_t, lv_t), (mu_s, lv_s)))
    expected = kl_divergence(source, learner).mean()
    torch.testing.assert_close(gaussian_kl(mu_s, lv_s, mu_t, lv_t), expected)
    torch.testing.assert_close(GaussianKL("mean")((mu_s, lv_s), (mu_t, lv_t)), expected / 7)
    assert (gaussian_kl(mu_s, lv_s, mu_t, lv_t, reduction="none") >= 0).all()
    assert gaussian_kl(mu_t, lv_t, mu_s, lv_s).item() != pytest.approx(expected.item())


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_oracle_3_resnet8x4_gives_one_map_of_its_first_stage(profile):
    one = method(net("resnet8x4", 1), net("resnet8x4"), profile=profile)
    fuse = one.fdp["student"].fuse
    assert [conv.in_channels for conv in fuse.embed] == [64, 128, 256, 256]
    assert {conv.out_channels for conv in fuse.embed} == {256}
    outputs = one.student(batch(2).inputs, one.taps["student"])
    assert fuse([outputs.tap(tap) for tap in one.taps["student"]]).shape == (2, 64, 16, 16)


@pytest.mark.parametrize("level", range(4))
def test_oracle_3_every_level_reaches_the_distribution(level):
    one = method(profile="code").eval()
    outputs = one.student(batch(2).inputs, one.taps["student"])
    predict, before = one.fdp["student"], one.fdp["student"](outputs)
    outputs.taps[predict.taps[level]] = outputs.tap(predict.taps[level]) + 1
    assert not torch.allclose(predict(outputs)[0], before[0])


def test_oracle_5_a_narrow_gaussian_is_its_mean():
    one = method(profile="code")
    with torch.no_grad():
        for predict in one.fdp.values():
            predict.read.logvar.weight.zero_()
            predict.read.logvar.bias.fill_(-40.0)
    losses = one.batch_losses(batch())
    mu_s, mu_t = (losses.knowledge[f"{name}_fdp.gaussian"][0] for name in ("student", "teacher"))
    assert losses[FEAT["code"]].item() == pytest.approx(kd(mu_s, mu_t, 1.0).item(), rel=1e-6)


def test_oracle_5_samples_follow_the_address():
    one = method(profile="code").eval()
    with torch.no_grad():
        first, again, other = (one.run(batch(seed=seed))["student_fdp.sample"] for seed in (0, 0, 1))
        both = one.run(batch())
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    noise = [
        (both[f"{name}_fdp.sample"] - mu) / (logvar / 2).exp()
        for name in ("student", "teacher")
        for mu, logvar in (both[f"{name}_fdp.gaussian"],)
    ]
    assert not torch.allclose(*noise, atol=0.1), "the two sides draw independently"


def test_oracle_5_moments_over_many_seeds():
    mu, logvar = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.0, 1.5]])
    draws = torch.cat([sample((mu, logvar), Address(seed).generator("z")) for seed in range(4000)])
    torch.testing.assert_close(draws.mean(0), mu[0], atol=0.1, rtol=0)
    torch.testing.assert_close(draws.var(0), logvar[0].exp(), atol=0.0, rtol=0.08)


def test_oracle_5_sampled_values():
    source, learner = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]], dtype=torch.float64)
    assert kd(learner, source, 4.0).item() == pytest.approx(0.8337182, abs=5e-8)
    assert kd(learner, source, 1.0).item() == pytest.approx(0.7793651, abs=5e-8)


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_oracle_6_the_teacher_stays(profile):
    teacher = wide()
    one, before = method(teacher, profile=profile), copy.deepcopy(teacher.state_dict())
    one.batch_losses(batch()).total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("profile", ["paper", "code"])
@pytest.mark.parametrize("detach", [False, True])
def test_oracle_6_the_feature_term(profile, detach):
    student = net()
    one = method(student=student, profile=profile, detach_feat_target=detach)
    one.batch_losses(batch())[FEAT[profile]].backward()
    assert not moved(student.classifier.parameters())
    assert moved(student.layer1.parameters())
    assert moved(one.fdp["student"].fuse.parameters())
    assert moved(one.fdp["student"].read.parameters())
    assert moved(one.fdp["teacher"].read.parameters()) is not detach


@pytest.mark.parametrize("detach", [False, True])
def test_oracle_6_the_anchor_moves_the_classifier_unless_detached(detach):
    student = net()
    one = method(student=student, detach_anchor_target=detach)
    one.batch_losses(batch())[ANCHORS[0]].backward()
    assert moved(student.classifier.parameters()) is not detach
    assert moved(one.fdp["student"].read.parameters())


def test_oracle_7_without_features_it_is_cross_entropy_and_kd():
    teacher, student = wide(), net()
    one = method(teacher, student, feat=0.0, anchor=0.0, logits="kd")
    plain = attar.create_method("kd", teacher=teacher, student=copy.deepcopy(student), ce=1.0, kd=1.0).train()
    mine, theirs = one.batch_losses(batch()), plain.batch_losses(batch())
    assert torch.equal(mine.total, theirs.total)
    assert mine.terms.keys() == theirs.terms.keys()
    assert {name for name, _ in one.named_parameters()} == {name for name, _ in plain.named_parameters()}


@pytest.mark.parametrize("logits", ["kd", "dkd", "mlkd"])
def test_oracle_7_nothing_to_learn_from_oneself(logits):
    student = net().eval()
    one = method(copy.deepcopy(student), student, logits=logits).eval()
    with torch.no_grad():
        assert one.batch_losses(batch())[LOGITS].item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_oracle_7_equal_gaussians_cost_nothing(profile):
    one, gaussian = method(profile=profile), (torch.randn(3, 5), torch.randn(3, 5))
    edge = next(edge for edge in one.edges if edge.key == FEAT[profile])
    outputs = gaussian if profile == "paper" else gaussian[0]
    assert edge.loss(outputs, outputs).item() == pytest.approx(0.0, abs=1e-6)


def test_oracle_8_only_dkd_is_warmed_up():
    edges = {edge.key: edge for edge in method(profile="code").edges}
    weights = [value(edges[LOGITS].weight, epoch - 1, 240) for epoch in (1, 10, 20, 240)]
    assert weights == [0.05, 0.5, 1.0, 1.0]
    for key in (LABELS, FEAT["code"], *ANCHORS):
        assert value(edges[key].weight, 0, 240) == 1.0
    assert all(value(edge.weight, 0, 240) == 1.0 for edge in method(profile="paper").edges)


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_oracle_9_what_is_deployed_is_the_plain_student(profile):
    student = net()
    plain = copy.deepcopy(student)
    deployed = method(student=student, profile=profile).deployed()
    assert deployed.state_dict().keys() == plain.state_dict().keys()
    assert sum(p.numel() for p in deployed.parameters()) == sum(p.numel() for p in plain.parameters())
    assert torch.equal(deployed.eval()(batch().inputs), plain.eval()(batch().inputs))


@pytest.mark.parametrize(
    ("teacher", "student", "gate", "expected"),
    [
        ("resnet8x4", "resnet8x4", "dual", 356_758),
        ("resnet8x4", "resnet8x4", "convex", 355_219),
        ("resnet20", "resnet20", "dual", 28_054),
        ("vgg8", "vgg8", "dual", 1_632_664),
    ],
)
def test_oracle_9_live_parameters(teacher, student, gate, expected):
    # Shallow teachers have the channels of resnet32x4, resnet56 and vgg13.
    one = method(net(teacher, 1, 100), net(student, 0, 100), profile="code", gate=gate)
    assert aux(one) == expected
    check(one, batch(2, classes=100))


@pytest.mark.parametrize(("name", "expected"), [("resnet8x4", 684_438), ("resnet20", 48_534), ("vgg8", 3_205_528)])
def test_the_paper_profile_fuses_both_sides(name, expected):
    assert aux(method(net(name, 1, 100), net(name, 0, 100), profile="paper")) == expected


# An independent reference: both profiles on bare networks, in double precision.


def fused(fuse: nn.Module, maps: list[Tensor], gates: int) -> Tensor:
    """The levels joined from the deepest, with torch's own functions; all sizes are powers of two."""
    weights = [conv.weight for conv in fuse.embed]
    *shallower, out = [F.conv2d(x, w).clamp(min=0) for x, w in zip(maps, weights, strict=True)]
    for conv, x in reversed(list(zip(fuse.gates, shallower, strict=True))):
        factor = x.shape[-1] // out.shape[-1]
        up = out.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        z = F.conv2d(torch.cat([x, up], 1), conv.weight, conv.bias).sigmoid()
        out = z[:, :1] * x + (z[:, 1:] if gates == 2 else 1 - z) * up
    return F.conv2d(out, fuse.out.weight, padding=1).clamp(min=0)


def gaussian_of(predict: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    pooled = x.mean((2, 3))
    return tuple(F.linear(pooled, layer.weight, layer.bias) for layer in (predict.read.mu, predict.read.logvar))


def soft_kl(learner: Tensor, source: Tensor, heat: float) -> Tensor:
    p, q = (source / heat).softmax(1), (learner / heat).softmax(1)
    return heat**2 * (p * (p / q).log()).sum(1).mean()


def dkd_by_hand(learner: Tensor, source: Tensor, labels: Tensor, heat: float, beta: float) -> Tensor:
    own = F.one_hot(labels, learner.shape[1]).bool()
    p, q = (source / heat).softmax(1), (learner / heat).softmax(1)
    pairs = [torch.stack([x[own], 1 - x[own]], 1) for x in (p, q)]
    rest = [x[~own].view(len(x), -1) / (1 - x[own])[:, None] for x in (p, q)]
    target, others = ((one * (one / two).log()).sum(1).mean() for one, two in (pairs, rest))
    return heat**2 * (target + beta * others)


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_both_profiles_equal_the_rule_by_hand(profile):
    # 1-pixel maps stand for the pooled vectors; batch norm runs in eval mode on both sides.
    one = method(profile=profile, ce=0.9, kd=0.8, feat=0.7, anchor=0.6, dkd_beta=2.0, feat_temperature=1.5)
    one, data = one.double().eval(), batch(dtype=torch.float64)
    teacher, student = one.teacher.module, one.student.module
    paper, maps, logits = profile == "paper", {}, {}
    for name, network, end in (("student", student, ""), ("teacher", teacher, ".preact")):
        taps = [*(f"stage{n}{end}" for n in (1, 2, 3)), "pooled"]
        outputs = network.features(data.inputs, taps)
        maps[name] = [outputs.tap(tap) if tap != "pooled" else outputs.tap(tap)[:, :, None, None] for tap in taps]
        logits[name] = outputs.logits
    predict = one.fdp
    seen = fused(predict["student"].fuse, maps["student"], 1 if paper else 2)
    taught = fused(predict["teacher"].fuse, maps["teacher"], 1) if paper else maps["teacher"][0]
    gaussians = {"student": gaussian_of(predict["student"], seen), "teacher": gaussian_of(predict["teacher"], taught)}
    z = {name: sample(gaussian, data.rng(f"{name} sample")) for name, gaussian in gaussians.items()}
    l_s, l_t = logits["student"], logits["teacher"]
    expected = 0.9 * F.cross_entropy(l_s, data.labels)
    expected = expected + 0.6 * (soft_kl(z["student"], l_s, 1.5) + soft_kl(z["teacher"], l_t, 1.5))
    if paper:
        (mu_s, lv_s), (mu_t, lv_t) = gaussians["student"], gaussians["teacher"]
        terms = lv_s - lv_t + (lv_t.exp() + (mu_t - mu_s) ** 2) / lv_s.exp() - 1
        expected = expected + 0.8 * soft_kl(l_s, l_t, 4.0) + 0.7 * 0.5 * terms.sum(1).mean() / CLASSES
    else:
        expected = expected + 0.8 * dkd_by_hand(l_s, l_t, data.labels, 4.0, 2.0)
        expected = expected + 0.7 * soft_kl(z["student"], z["teacher"], 1.5)
    torch.testing.assert_close(one.batch_losses(data).total, expected)
    for mine, theirs in zip(
        torch.autograd.grad(one.batch_losses(data).total, list(one.parameters())),
        torch.autograd.grad(expected, list(one.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


# Everything else that is promised.


def test_profiles_differ_where_text_and_code_do():
    paper, code = method(profile="paper"), method()
    assert paper.taps["teacher"] == ("stage1.preact", "stage2.preact", "stage3.preact", "pooled")
    assert code.taps["teacher"] == ("stage1.preact",)
    assert code.fdp["teacher"].fuse is None
    assert [one.fdp["student"].fuse.gates[0].out_channels for one in (paper, code)] == [1, 2]
    assert [one.fdp["student"].read.mu.in_features for one in (paper, code)] == [12, 12]


def test_without_fusion_the_pooled_features_are_used():
    one = method(fusion=False)
    assert one.taps == {"teacher": ("pooled",), "student": ("pooled",)}
    assert aux(one) == 2 * CLASSES * (28 + 1) + 2 * CLASSES * (64 + 1)


def test_the_student_can_be_tapped_before_its_relu():
    one = method(student_preact=True)
    assert one.taps["student"] == ("stage1.preact", "stage2.preact", "stage3.preact", "pooled")
    check(one, batch(3))


def test_the_middle_is_512_at_most():
    assert method(student=net("mobilenetv2")).fdp["student"].fuse.out.in_channels == 512
    assert method().fdp["student"].fuse.out.in_channels == 64


@pytest.mark.parametrize("profile", ["paper", "code"])
@pytest.mark.parametrize("student", FAMILIES)
def test_every_family_learns(student, profile):
    check(method(student=net(student), profile=profile), batch(2))


@pytest.mark.parametrize("teacher", FAMILIES)
def test_every_family_teaches(teacher):
    check(method(net(teacher, 1), net("vgg8")), batch(3))


@pytest.mark.parametrize("classes", [2, 37])
@pytest.mark.parametrize("profile", ["paper", "code"])
def test_any_number_of_classes(classes, profile):
    one = method(net("wrn_16_1", 1, classes), net("shufflenetv2", 0, classes), profile=profile)
    check(one, batch(3, classes=classes))


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_half_precision(profile):
    one = method(profile=profile)
    with torch.autocast("cpu", torch.bfloat16):
        total = one.batch_losses(batch(3)).total
    total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in one.trainable())


def test_the_drawing_says_who_teaches_whom():
    assert method(profile="paper").graph.mermaid().splitlines()[1:] == [
        '    labels -->|"1 x CrossEntropy"| student',
        '    teacher -->|"1 x KLDivergence logits"| student',
        '    teacher_fdp <-->|"1 x GaussianKL gaussian"| student_fdp',
        '    student <-->|"1 x KLDivergence logits"| student_fdp',
        '    teacher -->|"1 x KLDivergence logits"| teacher_fdp',
    ]


def test_mistakes_are_named():
    with pytest.raises(AttarError, match="did you mean 'paper'"):
        UniKD(wide(), net(), profile="papr")
    with pytest.raises(AttarError, match="did you mean 'dkd'"):
        UniKD(wide(), net(), logits="dkdd")
    with pytest.raises(AttarError, match="did you mean 'dual'"):
        UniKD(wide(), net(), gate="dua")
    with pytest.raises(AttarError, match="nothing trains the teacher's Gaussian"):
        method(anchor=0.0, detach_feat_target=True)
    with pytest.raises(AttarError, match="needs the stages of the student"):
        method(student=nn.Linear(2, 2))


@pytest.mark.parametrize(("profile", "largest"), [("paper", math.exp(5)), ("code", math.exp(20))])
def test_samples_of_the_paper_have_the_variance_that_its_gaussians_are_compared_with(profile, largest, monkeypatch):
    """Log-variances of 40: unbounded, a sample of e^20 met a loss of 5.8e17 on the embedded digits."""
    one = method(profile=profile)
    for head in one.fdp.values():
        monkeypatch.setattr(head, "forward", lambda _: (torch.zeros(8, CLASSES), torch.full((8, CLASSES), 40.0)))
    drawn = one.run(batch())["teacher_fdp.sample"].abs()
    assert largest < drawn.max() < 5 * largest
