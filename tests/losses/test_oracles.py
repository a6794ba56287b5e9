"""Worked numbers, computed by hand from the papers' formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import tensor

from attar import losses

S = tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Y = tensor([0, 1])
F_S = torch.arange(1.0, 17.0, dtype=torch.float64).reshape(2, 2, 2, 2) / 10
F_T = tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2], dtype=torch.float64).reshape(2, 2, 2, 2) / 4
V_S = tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]], dtype=torch.float64)
V_T = tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]], dtype=torch.float64)
MORE = tensor([[0.2, 0.1, 1.7], [1.0, -0.5, 2.0]], dtype=torch.float64)


def near(computed: torch.Tensor, expected: object, digits: int = 6) -> None:
    gap = computed - tensor(expected, dtype=torch.float64)
    assert gap.abs().max().item() <= 0.5001 * 10**-digits, (computed, expected)


@pytest.mark.parametrize(("logits", "expected"), [(S, 0.318540), (T, 0.280989), (U, 0.636988)])
def test_cross_entropy(logits: torch.Tensor, expected: float) -> None:
    near(losses.cross_entropy(logits, Y), expected)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1, 0.072066), (2, 0.099424), (3, 0.102737), (4, 0.102828), (5, 0.102380)]
)
def test_kl(temperature: float, expected: float) -> None:
    near(losses.kl_divergence(S, T, temperature), expected)


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.072701), (2, 0.097427), (3, 0.100705), (4, 0.101058)])
def test_reverse_kl(temperature: float, expected: float) -> None:
    near(losses.reverse_kl(S, T, temperature), expected)


def test_one_label_against_all_others() -> None:
    near(losses.binary_kl(S, T), 0.041474)
    near(losses.binary_kl(S, T, reduction="mean"), 0.041474 / 3)


LABELLED = tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)


def test_distances_of_label_embeddings() -> None:
    v_t = V_T[:, :3]
    own, theirs = torch.stack([V_S, 2 * V_S.flip(0), V_S + 1]), torch.stack([v_t, v_t + 1, v_t.flip(0) / 2 + 0.1])
    near(losses.class_structure(own, theirs, LABELLED, "sum"), 0.330815)
    near(losses.instance_structure(own, theirs, LABELLED, "sum"), 0.043248)
    each = losses.class_structure(own, theirs, LABELLED, "none")
    near(each[[0, 2]], [0.0, 0.0])  # of two images both distances are 1
    assert losses.instance_structure(5 * theirs, theirs, LABELLED) < 1e-12
    assert losses.class_structure(own, theirs, tensor([0, 1, 2])) == 0
    alone = losses.class_structure(own[:, :1], theirs[:, :1], tensor([0, 0, 0]), "sum")
    near(alone, 3 * losses.rkd_distance(own[:, 0], theirs[:, 0]).item())


def test_kl_gradient_is_half_the_gap_of_probabilities() -> None:
    learner = S.clone().requires_grad_()
    losses.kl_divergence(learner, T, 1.0).backward()
    near(learner.grad, [[-0.088509, 0.064645, 0.023864], [-0.002057, 0.060290, -0.058233]])


def test_kl_per_sample() -> None:
    near(losses.kl_divergence(S, T, 1.0, "none").sum(1), [0.079028, 0.065103])
    near(losses.reverse_kl(S, T, 1.0, "none").sum(1), [0.093216, 0.052186])


def test_hinton_mix() -> None:
    near(0.1 * losses.cross_entropy(S, Y) + 0.9 * losses.kl_divergence(S, T), 0.124399)


def test_deep_mutual_learning() -> None:
    def peer(learner: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        return losses.kl_divergence(learner, source, 1.0)

    near(losses.cross_entropy(S, Y) + peer(S, T), 0.390606)
    near(losses.cross_entropy(T, Y) + peer(T, S), 0.353690)
    near(losses.cross_entropy(S, Y) + (peer(S, T) + peer(S, U)) / 2, 0.422951)
    near(losses.cross_entropy(S, Y) + peer(S, T) + peer(S, U), 0.527362)
    ensemble = ((T.softmax(1) + U.softmax(1)) / 2).log()
    near(losses.cross_entropy(S, Y) + peer(S, ensemble), 0.342631)


def test_contrast_of_one_anchor() -> None:
    # Z = 1000 and N = 100 in the oracle; five rows are remembered here, so Z / N is what stays.
    scores = tensor([[0.8, 0.1, 0.2, 0.0, -0.3]], dtype=torch.float64)
    classes, log_z = tensor([0, 1, 1, 2, 2]), tensor(math.log(1000 / 20), dtype=torch.float64)
    value = losses.contrast(scores, torch.eye(5).double(), tensor([0]), classes, log_z, negatives=4)
    near(value, 0.486069)
    # The oracle has the authors' 1e-7 in each of the five logarithms.
    h = (scores / 0.07 - math.log(1000)).exp()
    extra = (1 + 1e-7 / (h + 4 / 100)).log().sum()
    near(value + extra, 0.486078)


def test_contrast_is_the_mean_over_all_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    student, memory = (torch.randn(count, 3, generator=generator).double() for count in (2, 8))
    classes, log_z, index = tensor([0, 0, 1, 1, 1, 2, 2, 2]), tensor(1.5).double(), tensor([1, 2])
    drawn = []
    for row, own in enumerate(index.tolist()):
        others = [j for j in range(8) if classes[j] != classes[own]]
        for draw in itertools.combinations(others, 3):
            powers = (student[row] @ memory[[own, *draw]].T / 0.5 - log_z).exp()
            h = powers / (powers + 3 / 8)
            # Each anchor counts alike, however many draws it has.
            drawn.append((-h[0].log() - (1 - h[1:]).log().sum()) / math.comb(len(others), 3) / 2)
    near(losses.contrast(student, memory, index, classes, log_z, 0.5, 3), sum(drawn).item(), digits=10)


def test_dkd() -> None:
    near(losses.tckd(S, T, Y), 0.079374)
    near(losses.nckd(S, T, Y), 0.040527)
    near(losses.dkd(S, T, Y), 0.403589)


def test_dkd_recombines_into_kd() -> None:
    others = 1 - (T / 4).softmax(1)[range(2), Y]
    terms = losses.tckd(S, T, Y, reduction="none") + others * losses.nckd(S, T, Y, reduction="none")
    near(terms.mean(), 0.102828)
    torch.testing.assert_close(terms.mean(), losses.kl_divergence(S, T))


def test_nkd() -> None:
    near(losses.nkd(S, T, Y), 1.259933)
    near(losses.nkd(S, T, Y, gamma=0.0), 0.249348)


def test_standardised_kd() -> None:
    z_s, z_t = losses.standardise(S), losses.standardise(T)
    near(losses.kl_divergence(z_s, z_t, 2.0), 0.026657)
    near(9 * losses.kl_divergence(z_s, z_t, 2.0), 0.239912)
    torch.testing.assert_close(losses.standardise(3 * S + 5), z_s)


def test_normkd() -> None:
    near(losses.normkd(S, T), 0.030168)


def test_transformed_teacher() -> None:
    near(losses.ttm(S, T), 0.328049)
    near(losses.wttm(S, T), 0.850292)


def test_dist() -> None:
    near(losses.dist(S, T, 1.0, 0.0, temperature=1.0), 0.015696)
    near(losses.dist(S, T, 0.0, 1.0, temperature=1.0), 0.666662)


def test_dist_with_a_third_row() -> None:
    student, teacher = torch.cat([S, MORE[:1]]), torch.cat([T, MORE[1:]])
    near(losses.dist(student, teacher, 1.0, 0.0, temperature=1.0), 0.023982)
    near(losses.dist(student, teacher, 0.0, 1.0, temperature=1.0), 0.012654)


def test_feature_maps() -> None:
    near(losses.at(F_S, F_T), 0.0436071, 7)
    near(losses.sp(F_S, F_T), 0.1132638, 7)
    near(losses.nst(F_S, F_T), 0.2380906, 7)


def test_embeddings() -> None:
    near(losses.pkt(V_S, V_T), 0.00239234, 8)
    near(losses.rkd_distance(V_S, V_T), 0.00923295, 8)
    near(losses.rkd_angle(V_S, V_T), 0.00441996, 8)
    near(25 * losses.rkd_distance(V_S, V_T) + 50 * losses.rkd_angle(V_S, V_T), 0.4518217, 7)


def test_cc() -> None:
    near(losses.cc(tensor([[1.0, 2], [0, 1], [3, 1]]), tensor([[2.0, 2], [1, 0], [1, 1]])), 1.5)


def test_activation_boundary() -> None:
    s, t = tensor([[0.5, -2.0, 0.2, 1.5]]).double(), tensor([[-1.0, 0.5, 0.3, 2.0]]).double()
    near(losses.activation_boundary(s, t, reduction="none"), [[2.25, 9.0, 0.64, 0.0]])


def test_overhaul() -> None:
    near(losses.negative_mean(tensor([0.0, 0.5, 4.0]).double(), torch.ones(3)), [-0.797885, -0.641078, -3.0])
    s, t = tensor([[1.0, -2, 0.5, -0.9, 2]]).double(), tensor([[2.0, -1.5, -0.3, -1.2, -0.4]]).double()
    near(losses.partial_l2(s, t, tensor(-0.7979), reduction="none"), [[1.0, 0.0, 0.64, 0.0, 5.76]])


@pytest.mark.parametrize(
    ("source", "learner", "expected"),
    [
        ((0.0, 1.0), (1.0, 1.0), 0.5),
        ((0.0, 1.0), (0.0, 4.0), 0.3181471806),
        ((0.0, 4.0), (0.0, 1.0), 0.8068528194),
        ((0.5, 2.0), (-0.5, 3.0), 0.2027325541),
    ],
)
def test_gaussian_kl(source: tuple, learner: tuple, expected: float) -> None:
    (mu_t, var_t), (mu_s, var_s) = source, learner
    numbers = (mu_s, math.log(var_s), mu_t, math.log(var_t))
    near(losses.gaussian_kl(*(tensor([[x]], dtype=torch.float64) for x in numbers)), expected, 10)


def test_gaussian_kl_is_torchs() -> None:
    mu_s, lv_s, mu_t, lv_t = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    learner = torch.distributions.Normal(mu_s, (lv_s / 2).exp())
    source = torch.distributions.Normal(mu_t, (lv_t / 2).exp())
    expected = torch.distributions.kl_divergence(source, learner)
    torch.testing.assert_close(losses.gaussian_kl(mu_s, lv_s, mu_t, lv_t, "none"), expected)


def test_sampled_feature_term() -> None:
    learner, source = tensor([[0.0, 1.0, 0.0]]).double(), tensor([[2.0, 0.0, 0.0]]).double()
    near(losses.kl_divergence(learner, source, 4.0), 0.8337182, 7)
    near(losses.kl_divergence(learner, source, 1.0), 0.7793651, 7)


def test_tether() -> None:
    start = (torch.zeros(2, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    delta = (torch.full((2, 2), 0.5, dtype=torch.float64), torch.arange(3.0, dtype=torch.float64))
    moved = tuple((a + b).requires_grad_() for a, b in zip(start, delta, strict=True))
    value = losses.l2_to_start(moved, start)
    value.backward()
    near(value.detach(), 1.0 + 5.0)
    for weight, by in zip(moved, delta, strict=True):
        torch.testing.assert_close(weight.grad, 2 * by)
    assert losses.l2_to_start(start, start).item() == 0.0
