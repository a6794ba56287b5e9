"""Offline methods that compare logits: each total against the sum worked out from its formula in float64."""

import pytest
import torch
from torch import nn

from attar import losses
from attar.batch import Address, Batch
from attar.losses.entropy import entropy_weights
from attar.losses.logit_relations import whitened_similarity
from attar.methods import create_method
from attar.models import create_model

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
MORE_S = torch.tensor([[0.2, 0.1, 1.7], [1.0, -0.5, 2.0]], dtype=torch.float64)
MORE_T = torch.tensor([[0.1, 0.3, 2.0], [1.5, -0.2, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
CE = 0.318540


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def total(name: str, student: torch.Tensor = S, teacher: torch.Tensor = T, **options: object) -> float:
    method = create_method(name, teacher=Constant(teacher), student=Constant(student), **options)
    return method.losses(
        torch.zeros(len(student), 3, 8, 8), Y.repeat(len(student) // 2), epoch=0, epochs=1, step=0
    ).total.item()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dist", {"temperature": 1.0, "weight": 1.0}, CE + 0.015696 + 0.666662),
        ("dist", {"temperature": 1.0}, CE + 2 * (0.015696 + 0.666662)),
        ("dist", {"temperature": 1.0, "gamma": 0.0}, CE + 2 * 0.015696),
        ("nkd", {}, CE + 1.259933),
        ("normkd", {}, 0.1 * CE + 0.9 * 0.030168),
        ("ttm", {}, CE + 45 * 0.328049),
        ("lskd", {}, 0.1 * CE + 0.239912),
        ("abkd", {}, CE + 32 * 0.005754),
        ("abkd", {"alpha": 0.5, "beta": 0.5}, CE + 32 * 0.006369),
        ("abkd", {"alpha": 1.0, "beta": 0.0}, CE + 32 * 0.006427),
        ("eakd", {}, 0.1 * CE + 0.9 * 0.104651),
        ("skd", {}, 0.210422),
        ("rld", {"warmup": 0}, CE + 0.383919),
        ("ekd", {"warmup": 0}, 0.370215 + 4.5 * (0.068907 + 0.026103)),
        ("ekd", {"warmup": 0, "ce": 5.0, "first": 2.5, "second": 2.5}, 2.088599),
        ("wttm", {"power": 0.1, "weight": 1.0}, CE + 0.850292),
    ],
)
def test_totals(name: str, options: dict[str, float], expected: float) -> None:
    assert total(name, **options) == pytest.approx(expected, abs=3e-5)


def test_ldrld() -> None:
    student, teacher = torch.cat([S, U], dim=1), torch.cat([T, S], dim=1)
    assert total("ldrld", student, teacher, top=3, ce=0.0) == pytest.approx(10.5 * 0.060151 + 7 * 0.084407, abs=2e-5)
    assert total("ldrld", student, teacher, top=4, ce=0.0) == pytest.approx(10.5 * 0.048883, abs=2e-5)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (1, 0, 0.072066),
        (0, 1, 0.072701),
        (0.5, 0.5, 0.071654),
        (0.8, 0.3, 0.061170),
        (0.2, 0.7, 0.084895),
        (0, 0, 0.451116),
        (1, -1, 0.461619),
        (1, 1, 0.019613),
        (2, 0, 0.020258),
        (0, 2, 0.019891),
    ],
)
def test_alpha_beta_divergence_and_its_limits(alpha: float, beta: float, expected: float) -> None:
    assert losses.alpha_beta(S, T, alpha, beta, temperature=1.0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.5, -0.5), (0.0, 0.0)])
def test_alpha_beta_is_continuous_at_its_limits(alpha: float, beta: float) -> None:
    near = losses.alpha_beta(S, T, alpha + 1e-4, beta + 2e-4, temperature=1.0)
    assert losses.alpha_beta(S, T, alpha, beta, temperature=1.0).item() == pytest.approx(near.item(), rel=2e-3)


def test_alpha_beta_gradient() -> None:
    student = S.clone().requires_grad_()
    losses.alpha_beta(student, T, 0.8, 0.3, temperature=1.0).backward()
    expected = torch.tensor([[-0.081042, 0.060683, 0.020359], [-0.003452, 0.046543, -0.043092]], dtype=torch.float64)
    torch.testing.assert_close(student.grad, expected, atol=1e-6, rtol=0)


def test_entropy_weights() -> None:
    torch.testing.assert_close(entropy_weights(S, T), torch.tensor([1.002090, 1.037080]).double(), atol=1e-6, rtol=0)


def test_whitened_similarity_of_four_images() -> None:
    value = whitened_similarity(torch.cat([S, MORE_S]), torch.cat([T, MORE_T]))
    assert value.item() == pytest.approx(0.483248, abs=1e-6)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_rld_with_a_label_that_the_teacher_finds_least_likely(label: int) -> None:
    student = S.clone().requires_grad_()
    losses.Refined()(student, T, torch.tensor([label, label])).backward()
    assert student.grad.isfinite().all()


def test_balanced_divergence_is_symmetric_without_emphasis() -> None:
    one, other = (losses.balanced_divergence(*ends, delta=1.0).item() for ends in ((S, T), (T, S)))
    assert one == pytest.approx(0.144767, abs=1e-6)
    assert other == pytest.approx(one, abs=1e-12)
    assert losses.balanced_divergence(S, T, delta=2.0).item() == pytest.approx(0.223926, abs=1e-6)


def test_evidential_first_order_at_temperature_four() -> None:
    assert losses.EvidentialMeanKL(4.0)(S, T).item() == pytest.approx(0.073295, abs=1e-6)


def test_evidence_does_not_overflow() -> None:
    assert losses.EvidentialMeanKL()(200 * S.float(), 200 * T.float()).isfinite()


def test_deepkd_widens_from_the_teachers_surest_other_classes_to_all():
    logits = torch.randn(4, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learner, labels = logits.flip(1), torch.tensor([0, 1, 2, 3])
    assert losses.TopNCKD(4.0)(learner, logits, labels, torch.tensor(39)).item() == pytest.approx(
        losses.nckd(learner, logits, labels).item(), abs=1e-12
    )
    each = []
    for row in range(4):
        others = [c for c in range(40) if c != labels[row]]
        top = sorted(others, key=lambda c: -logits[row, c])[:3]
        p, q = ((z[row, top] / 4).log_softmax(0) for z in (logits, learner))
        each.append(16 * (p.exp() * (p - q)).sum().item())
    assert losses.top_nckd(learner, logits, labels, 3).item() == pytest.approx(sum(each) / 4, abs=1e-12)
    assert losses.TCKD()(learner, logits, labels).item() == losses.tckd(learner, logits, labels).item()


def test_deepkd_keeps_a_part_of_the_classes():
    nets = {"teacher": create_model("resnet14", num_classes=100), "student": create_model("resnet8", num_classes=100)}
    method = create_method("deepkd", **nets)
    for epoch, kept in ((0, 5), (10, 52), (20, 100)):
        batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), address=Address(epoch=epoch), epochs=21)
        assert method.batch_losses(batch).knowledge["teacher.kept"].item() == kept
