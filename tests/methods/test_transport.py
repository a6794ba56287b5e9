"""WKD-L and DIST+: the transport between classes, and correlations of maps, by value."""

import pytest
import torch

from attar import losses
from attar.batch import Batch
from attar.methods import create_method
from attar.models import create_model

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
COST = 1 - torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.0, 0.3], [0.9, 0.3, 0.0]], dtype=torch.float64).neg().exp()
K = torch.arange(36.0, dtype=torch.float64).reshape(3, 3, 2, 2)
F3, G3 = (1.3 * K).sin(), (0.7 * K).cos()


@pytest.mark.parametrize(("iterations", "expected"), [(10, 0.060813), (1000, 0.079733)])
def test_transport(iterations: int, expected: float) -> None:
    found = losses.transport_cost(S.softmax(1)[:1], T.softmax(1)[:1], COST, iterations=iterations)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_class_without_mass_is_as_if_it_were_not_there() -> None:
    found = losses.wkd_logits(S, T, torch.tensor([0, 1]), COST, temperature=2.0)
    expected = [
        losses.transport_cost(*(z[row : row + 1, rest].div(2).softmax(1) for z in (S, T)), COST[rest][:, rest])
        for row, rest in ((0, [1, 2]), (1, [0, 2]))
    ]
    torch.testing.assert_close(found, torch.cat(expected).mean())


def test_cka() -> None:
    x = torch.tensor([[1.0, 2], [2, 0], [0, 1], [3, 3]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0, 1], [2, 1, 0], [0, 2, 1], [1, 1, 3]], dtype=torch.float64)
    turned = 2 * x @ torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    vs = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]], dtype=torch.float64)
    vt = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]], dtype=torch.float64)
    assert losses.linear_cka(x, y).item() == pytest.approx(0.748218, abs=1e-6)
    assert losses.linear_cka(vs, vt).item() == pytest.approx(0.954444, abs=1e-6)
    assert losses.linear_cka(x, x).item() == pytest.approx(1.0)
    assert losses.linear_cka(x, turned).item() == pytest.approx(1.0)
    assert losses.linear_cka(x, torch.ones_like(x)).item() == 0.0


def test_map_correlation() -> None:
    assert losses.map_correlation(F3, G3, spatial=0.0).item() == pytest.approx(0.968131, abs=1e-6)
    assert losses.map_correlation(F3, G3, channel=0.0).item() == pytest.approx(0.326676, abs=1e-6)
    assert losses.map_correlation(F3, 2 * F3 + 1).item() == pytest.approx(0.0, abs=1e-6)


def built(name: str, teacher: str = "resnet14", **options: object):
    torch.manual_seed(0)
    nets = (create_model(net, num_classes=3, image_size=8) for net in (teacher, "resnet8"))
    return create_method(name, teacher=next(nets), student=next(nets), **options).double()


def test_the_total_of_wkdl() -> None:
    method, labels = built("wkdl", temperature=2.0), torch.tensor([0, 1])
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = method.batch_losses(Batch(images, labels))
    student, teacher = (found.knowledge[f"{name}.logits"] for name in ("student", "teacher"))
    rows = method.teacher.classifier.weight
    cost = 1 - (torch.cosine_similarity(rows[:, None], rows[None], dim=2) - 1).exp()
    target = -(teacher.softmax(1) * student.log_softmax(1))[[0, 1], labels].mean()
    torch.testing.assert_close(found["target class"], target)
    torch.testing.assert_close(
        found.total,
        torch.nn.functional.cross_entropy(student, labels)
        + target
        + 600 * losses.wkd_logits(student, teacher, labels, cost, 2.0),
        rtol=1e-4,  # the costs were made in float32
        atol=0.0,
    )


def test_distplus_projects_where_channels_differ() -> None:
    assert built("distplus").projector is None
    assert built("distplus", teacher="resnet8x4").projector.weight.shape == (256, 64, 1, 1)
