"""Parts of losses, worked out from the papers' formulas: what a total does not tell apart."""

import pytest
import torch
from torch import tensor

from attar import losses
from attar.errors import AttarError
from attar.knowledge import Output
from attar.losses.entropy import entropy, entropy_weights
from attar.losses.logit_relations import rank_weights, refined, whitened_similarity
from attar.losses.maps import class_activation, gaussian_wasserstein, hierarchical_context
from attar.losses.similarities import _neighbourhoods, _student_t
from attar.models.surgery.ensemble import joined

from .test_oracles import F_S, F_T, V_S, V_T, S, T, U, Y, near


def test_rld_is_confidence_and_the_classes_below_the_label() -> None:
    for labels, confidence, classes in ((Y, 0.059704, 0.040527), (tensor([1, 1]), 0.412266, 0.039909)):
        near(refined(S, T, labels, alpha=1, beta=0), confidence)
        near(refined(S, T, labels, alpha=0, beta=1), classes)
        near(refined(S, T, labels), confidence + 8 * classes, 5)
    near(refined(S, T, tensor([1, 1])), 0.731535)


@pytest.mark.parametrize(
    ("temperature", "samples", "classes"), [(4.0, 0.000354227, 0.002106707), (1.0, 0.0413733, 0.0461749)]
)
def test_mlkd_compares_samples_and_classes(temperature: float, samples: float, classes: float) -> None:
    kl, once = losses.kl_divergence(S, T, temperature), losses.mlkd(S, T, (temperature,))
    near(once - kl, samples + classes, 7)
    # Every image twice: the samples' products become four blocks over twice the batch, the classes' are doubled.
    twice = losses.mlkd(torch.cat([S, S]), torch.cat([T, T]), (temperature,))
    near(twice - kl, 2 * samples + 4 * classes, 6)


def test_wttm_weighs_by_the_powers_of_the_teacher() -> None:
    alone = [(losses.wttm(*one) / losses.ttm(*one)) for one in zip(S.split(1), T.split(1), strict=True)]
    near(torch.stack(alone), [2.528814, 2.619935])


def test_ldrld_weighs_ranks() -> None:
    near(rank_weights(*torch.triu_indices(3, 3, offset=1)), [0.688566, 0.467846, 0.623040], 5)
    near(losses.LocalRelations(top=3)(torch.cat([S, U], 1), torch.cat([T, S], 1)), 10.5 * 0.060151 + 7 * 0.084407, 5)


def test_ldrld_with_the_labels() -> None:
    student, teacher = torch.cat([S, U], 1), torch.cat([T, S], 1)
    near(losses.cross_entropy(student, Y) + losses.LocalRelations(top=3)(student, teacher), 2.286977)


def test_skd_of_two_images() -> None:
    near(whitened_similarity(S, T), 0.220493)


def test_entropies_and_their_gap() -> None:
    near(entropy(S), [0.846738, 0.632875])
    near(entropy(T), [0.547737, 0.832226])
    near(entropy(T) - entropy(S), [-0.299001, 0.199351])


def test_entropy_weights_of_another_loss() -> None:
    each = (F_S - F_T).square().flatten(1).mean(1)
    near((entropy_weights(S, T) * each).mean(), 0.585710)


def test_redundancy() -> None:
    near(losses.redundancy(V_S, V_T[:, :3]), 5.521940)


def test_maps() -> None:
    near(hierarchical_context(F_S, F_T), 0.552318)
    near(class_activation(F_S, F_T), 0.566250)
    near(class_activation(F_S, F_T, normalise=True), 0.087880)
    vid = losses.VariationalInformation(1).double()
    near(vid(torch.full((1, 1, 1, 1), 0.7).double(), torch.ones(1, 1, 1, 1).double()), 0.813719)


def test_wasserstein_is_means_and_deviations() -> None:
    own = tensor([[[[1.0, 2], [3, 4]], [[0, 0], [1, 1]]]], dtype=torch.float64)
    theirs = tensor([[[[2.0, 2], [2, 2]], [[1, 0], [1, 0]]]], dtype=torch.float64)
    deviations = gaussian_wasserstein(own, theirs, mean_weight=0.0)
    near(deviations, 1.658522)
    near(gaussian_wasserstein(own, theirs, mean_weight=1.0) - deviations, 0.25)


def test_a_map_of_one_position_has_no_deviation() -> None:
    learner, source = (tensor([[[[value]]]], dtype=torch.float64) for value in (1.0, 3.0))
    near(gaussian_wasserstein(learner, source, 2.0), 8.0)


def test_neighbours() -> None:
    rows = [[0.431736, 0.352395, 0.215868], [0.341956, 0.418947, 0.239097], [0.241463, 0.275611, 0.482926]]
    near(_neighbourhoods(V_T), rows)
    for neighbours, expected in ((_neighbourhoods, 0.00488125), (_student_t, 0.00524918)):
        q, p = neighbours(V_S), neighbours(V_T)
        # Distances of 0 have 1e-6 added below the root.
        near(((p - q) * (p.log() - q.log())).mean(), expected, 7 if neighbours is _neighbourhoods else 5)
    near(losses.pkt(V_S, 10 * V_T), 0.00239234, 8)
    assert losses.information_flow(V_S, 10 * V_T).item() != pytest.approx(0.01013043, rel=0.1)


def test_divergences_of_several_teachers() -> None:
    near(losses.kl_divergence(S, U, 5.0), 0.160504)
    total = 2 * losses.kl_divergence(S, T, 5.0) + losses.kl_divergence(S, U, 5.0)
    near(total, 0.365265)
    near(2 * losses.kl_divergence(S, T, 5.0, "mean") + losses.kl_divergence(S, U, 5.0, "mean"), 0.121755)


def test_the_share_of_dpk_is_one_minus_cka() -> None:
    x = tensor([[1.0, 2], [2, 0], [0, 1], [3, 3]], dtype=torch.float64)
    y = tensor([[1.0, 0, 1], [2, 1, 0], [0, 2, 1], [1, 1, 3]], dtype=torch.float64)
    near(1 - losses.linear_cka(x, y), 0.251782)


def test_the_cost_of_two_classes_by_their_features() -> None:
    near(1 - (losses.linear_cka(V_S, V_T) - 1).exp(), 0.044534)


def test_cosines_of_rows_and_of_a_whole() -> None:
    near(losses.cosine_distance(V_S, V_T[:, :3]), 0.578363)
    near(losses.cosine_distance(V_S.flatten()[None], V_T[:, :3].flatten()[None]), 0.591752)


def test_the_mean_of_two_networks_is_of_their_logits() -> None:
    mean = joined([Output(S), Output(U)]).logits.softmax(1)
    near(mean, [[0.496679, 0.386814, 0.116506], [0.068146, 0.830191, 0.101662]])


def test_tokens_are_averaged_over_tokens_and_maps_over_space() -> None:
    expected = losses.information_flow(V_S, V_T)
    near(losses.information_flow(torch.stack([V_S - 1, V_S + 1], 1), torch.stack([V_T] * 3, 1)), expected.item())
    near(losses.information_flow(V_S[..., None, None].expand(-1, -1, 2, 2), V_T), expected.item())


def test_one_row_has_no_correlation() -> None:
    with pytest.raises(AttarError, match="a single row; give two or more"):
        losses.correlation_information(V_S[:1], V_S[:1])


@pytest.mark.parametrize("loss", [losses.Refined(), losses.ScaleDecoupled()])
def test_probabilities_in_place_of_class_numbers_are_one_line(loss: torch.nn.Module) -> None:
    cells = isinstance(loss, losses.ScaleDecoupled)
    learner, source = (z[:, None] if cells else z for z in (S, T))
    with pytest.raises(AttarError, match=r"expected class numbers of shape \(2,\)"):
        loss(learner, source, torch.eye(2, 3))
