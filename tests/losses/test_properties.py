"""What the losses are invariant to, where they are safe, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from attar import losses
from attar.errors import AttarError

from . import reference

RNG = torch.Generator().manual_seed(3)
S, T = (3 * torch.randn(5, 6, generator=RNG, dtype=torch.float64) for _ in range(2))
Y = torch.randint(6, (5,), generator=RNG)
ON_LOGITS = [losses.kl_divergence, losses.reverse_kl, losses.jensen_shannon, losses.ttm, losses.wttm, losses.dist]
RELATIONS = [losses.rkd_distance, losses.rkd_angle, losses.sp, losses.pkt]


@pytest.mark.parametrize("loss", [*ON_LOGITS, losses.normkd])
def test_a_shift_of_the_logits_changes_nothing(loss) -> None:
    shift = torch.arange(5.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(S + shift, T - shift), loss(S, T))


@pytest.mark.parametrize("loss", [losses.kl_divergence, losses.reverse_kl, losses.jensen_shannon])
def test_temperature_is_a_scale_of_the_logits(loss) -> None:
    torch.testing.assert_close(loss(3 * S, 3 * T, 3.0), 9 * loss(S, T, 1.0))


def test_hot_kl_becomes_the_squared_error_of_centred_logits() -> None:
    centred = (S - S.mean(1, keepdim=True)) - (T - T.mean(1, keepdim=True))
    expected = centred.square().sum(1).mean() / (2 * 6)
    torch.testing.assert_close(losses.kl_divergence(S, T, 1e4), expected, rtol=1e-3, atol=0)


def test_kl_has_a_direction() -> None:
    assert not torch.isclose(losses.kl_divergence(S, T), losses.kl_divergence(T, S))
    torch.testing.assert_close(losses.kl_divergence(S, T), losses.reverse_kl(T, S))
    torch.testing.assert_close(losses.jensen_shannon(S, T), losses.jensen_shannon(T, S))


def test_kl_is_torchs() -> None:
    expected = F.kl_div((S / 4).log_softmax(1), (T / 4).softmax(1), reduction="batchmean") * 16
    torch.testing.assert_close(losses.kl_divergence(S, T), expected)


def test_reductions_agree() -> None:
    terms = losses.kl_divergence(S, T, reduction="none")
    assert terms.shape == S.shape
    torch.testing.assert_close(losses.kl_divergence(S, T, reduction="sum"), terms.sum())
    torch.testing.assert_close(losses.kl_divergence(S, T, reduction="mean"), terms.mean())
    torch.testing.assert_close(losses.kl_divergence(S, T, reduction="batchmean"), terms.sum() / 5)


def test_temperature_may_be_learnt_and_differ_between_samples() -> None:
    hot = torch.full((5, 1), 4.0, dtype=torch.float64, requires_grad=True)
    value = losses.kl_divergence(S, T, hot)
    torch.testing.assert_close(value, losses.kl_divergence(S, T, 4.0))
    value.backward()
    assert (hot.grad != 0).all()


def test_cross_entropy_takes_probabilities() -> None:
    mixed = 0.3 * F.one_hot(Y, 6) + 0.7 * F.one_hot((Y + 1) % 6, 6)
    expected = 0.3 * losses.cross_entropy(S, Y) + 0.7 * losses.cross_entropy(S, (Y + 1) % 6)
    torch.testing.assert_close(losses.cross_entropy(S, mixed.double()), expected)


def test_dkd_is_finite_for_two_classes_and_a_certain_teacher() -> None:
    student = torch.zeros(2, 2, requires_grad=True)
    losses.dkd(student, torch.tensor([[1e4, -1e4], [1e4, -1e4]]), torch.tensor([0, 1])).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", RELATIONS)
def test_relations_ignore_rotations_and_the_order_of_samples(loss) -> None:
    phase = torch.linalg.qr(torch.randn(6, 6, generator=RNG, dtype=torch.float64)).Q
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(loss(S @ phase, T), loss(S, T))
    torch.testing.assert_close(loss(S[order], T[order]), loss(S, T))


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_rkd_ignores_scale_and_place(loss) -> None:
    torch.testing.assert_close(loss(7 * S + 2, T), loss(S, T))


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_rkd_keeps_its_digits_far_from_the_origin(loss) -> None:
    far = (S + 1000).float()
    torch.testing.assert_close(loss(far, T.float()).double(), loss(far.double(), T), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss", RELATIONS)
def test_duplicated_samples_have_a_finite_gradient(loss) -> None:
    learner = S[[0, 0, 1, 1, 2]].float().requires_grad_()
    loss(learner, T.float()).backward()
    assert learner.grad.isfinite().all()


@pytest.mark.parametrize("loss", RELATIONS)
def test_a_batch_of_one_teaches_nothing(loss) -> None:
    learner = S[:1].float().requires_grad_()
    value = loss(learner, T[:1].float())
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert learner.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle])
def test_rkd_of_one_point_many_times_is_not_nan(loss) -> None:
    learner = torch.ones(4, 3, requires_grad=True)
    value = loss(learner, T[:4].float())
    value.backward()
    assert value.isfinite()
    assert torch.equal(learner.grad, torch.zeros(4, 3))


def test_dist_of_one_sample_keeps_its_rows() -> None:
    learner = S[:1].float().requires_grad_()
    losses.dist(learner, T[:1].float(), temperature=1.0).backward()
    assert learner.grad.isfinite().all()
    torch.testing.assert_close(losses.dist(S[:1], T[:1], 0.0, 1.0, temperature=1.0).item(), 1.0)


def test_cc_of_one_sample_is_zero() -> None:
    assert losses.cc(S[:1], T[:1]).item() == 0.0


@pytest.mark.parametrize("loss", [losses.at, losses.nst])
def test_dead_maps_are_finite(loss) -> None:
    learner = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss(learner, torch.zeros(2, 3, 4, 4)).backward()
    assert learner.grad.isfinite().all()


def test_standardise_is_the_references() -> None:
    torch.testing.assert_close(losses.standardise(S), torch.from_numpy(reference.standardise(S.numpy())))


def test_constant_logits_standardise_to_zero() -> None:
    logits = torch.ones(2, 5, requires_grad=True)
    standard = losses.standardise(logits)
    standard.square().sum().backward()
    assert torch.equal(standard.detach(), torch.zeros(2, 5))
    assert logits.grad.isfinite().all()


def test_clamp_holds_log_variances_and_their_gradient() -> None:
    wild = torch.tensor([[50.0]], requires_grad=True)
    zero = torch.zeros(1, 1)
    held = losses.gaussian_kl(zero, wild, zero, zero)
    held.backward()
    torch.testing.assert_close(held, losses.gaussian_kl(zero, torch.tensor([[10.0]]), zero, zero))
    assert wild.grad.item() == 0.0
    assert losses.gaussian_kl(zero, wild, zero, zero, clamp=None) > held


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: losses.redundancy(z, T),
        lambda z: losses.mutual_information(z, T),
        lambda z: losses.mutual_information(z, torch.zeros_like(T)),
    ],
)
def test_features_that_are_all_zero_have_a_loss_and_a_gradient(loss) -> None:
    dead = torch.zeros_like(S, requires_grad=True)
    value = loss(dead)
    value.backward()
    assert value.isfinite()
    assert dead.grad.isfinite().all()


def test_evidence_beyond_float32_keeps_its_value() -> None:
    wide = (50 * S.float()).requires_grad_()
    value = losses.EvidentialCrossEntropy()(wide, Y)
    evidence = (50 * S).exp() + torch.tensor(-1.22, dtype=torch.float64).exp()
    assert evidence.max() > 1e39
    own = evidence.gather(1, Y[:, None])[:, 0]
    expected = (evidence.sum(1).digamma() - own.digamma()).mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    value.backward()
    assert wide.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.kl_divergence(S, T, reduction="batch_mean"), "did you mean 'batchmean'"),
        (lambda: losses.KLDivergence(reduction="average"), "unknown reduction 'average'"),
        (lambda: losses.kl_divergence(S, T, 0.0), "the temperature is 0.0; it must be above 0"),
        (lambda: losses.kl_divergence(S, T[:, :4]), r"\(5, 6\).*\(5, 4\)"),
        (lambda: losses.kl_divergence(S[None], T[None]), r"expected \(B, K\)"),
        (lambda: losses.cross_entropy(S, Y[:3]), r"labels have shape \(3,\)"),
        (lambda: losses.dkd(S, T, Y.double()), "expected class numbers"),
        (lambda: losses.dkd(S, T, Y > 2), "torch.bool; expected class numbers"),
        (lambda: losses.cross_entropy(S, Y > 2), "torch.bool; expected class numbers"),
        (lambda: losses.mse(S, T[:, :4]), r"\(5, 6\).*\(5, 4\).*adapter"),
        (lambda: losses.at(S, T), r"expected maps \(B, C, H, W\)"),
        (lambda: losses.sp(S, T[:3]), "a batch of 5, the source of 3"),
        (lambda: losses.cc(S, T[:, :4]), "linear layers"),
        (lambda: losses.gaussian_kl(S, S, T, T[:3]), "share one shape"),
        (lambda: losses.l2_to_start((S,), (T, T)), "1 weights against 2 starts"),
        (lambda: losses.l2_to_start((), ()), "0 weights"),
        (lambda: losses.l2_to_start((S,), (T[:3],)), "the same network"),
    ],
)
def test_mistakes_are_refused_in_one_line(call, message: str) -> None:
    with pytest.raises(AttarError, match=message) as mistake:
        call()
    assert "\n" not in str(mistake.value)


def test_modules_show_copy_and_pickle() -> None:
    loss = losses.DKD(beta=2.0)
    assert repr(loss) == "DKD(alpha=1.0, beta=2.0, temperature=4.0)"
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(S, T, Y), loss(S, T, Y))
    assert not list(loss.parameters())


def test_mlkd_names_mistakes() -> None:
    with pytest.raises(AttarError, match="no temperatures"):
        losses.mlkd(torch.zeros(2, 3), torch.zeros(2, 3), temperatures=())
