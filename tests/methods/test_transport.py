"""WKD-L and DIST+: the transport between classes, and correlations of maps, by value."""

import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.experiments.launch import prepare
from attar.methods import create_method
from attar.methods.wkdl import class_cka, class_costs
from attar.models import create_model
from attar.recipe import read_recipe

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


@pytest.mark.parametrize("width", [2, 12])  # fewer and more features than a class has images
def test_cka_of_classes_is_that_of_each_pair(width: int) -> None:
    features = torch.randn(17, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2])
    found = class_cka(features, labels, 3)
    # The smallest class has 5 images: the first 5 of each.
    rows = [features[labels == one][:5] for one in range(3)]
    for one in range(3):
        for other in range(3):
            torch.testing.assert_close(found[one, other], losses.linear_cka(rows[one], rows[other]))
    same = torch.ones(4, width)
    assert class_cka(same, torch.tensor([0, 0, 1, 1]), 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(AttarError, match=r"class 1 has 1 training images of the 3 .*give method\.cost=classifier"):
        class_cka(same[:3], torch.tensor([0, 0, 1]), 2)


def test_wkdl_reads_its_costs_off_training_images() -> None:
    method, images, labels = built("wkdl"), torch.randn(9, 3, 8, 8, dtype=torch.float64), torch.arange(9) % 3
    assert (method.wanted_images(), built("wkdl", cost="classifier").wanted_images()) == (50_000, 0)
    before = method.cost.clone()
    torch.testing.assert_close(before, built("wkdl", cost="classifier").cost)
    method.prepare(Batch(images[part], labels[part]) for part in (slice(5), slice(5, 9)))
    pooled = method.teacher(images, ["pooled"]).tap("pooled")
    expected = 1 - (losses.linear_cka(pooled[0::3], pooled[1::3]) - 1).exp()
    assert method.cost[0, 1].item() == pytest.approx(expected.item(), abs=1e-9) != before[0, 1].item()
    with pytest.raises(AttarError, match="unknown cost 'cosine'"):
        built("wkdl", cost="cosine")


def test_the_weight_of_wkd_falls_after_150_epochs() -> None:
    for name, weight in (("wkdl", 600), ("wkdf", 0.08)):
        edge = built(name).edges[-1]
        assert [edge.weight(epoch, 240) for epoch in (0, 149, 194, 239)] == pytest.approx(
            [weight, weight, weight / 2, 0]
        )
        assert edge.weight(99, 100) == weight


@pytest.mark.parametrize("side", [8, 6])
def test_gaussians_of_cells(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    own, theirs = (torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64) for _ in range(2))
    moments = []
    for one in (own, theirs):
        mean = F.adaptive_avg_pool2d(one, 4)
        # Cells of 2x2 positions, with 6 rows as with 8: the unbiased variance is 4/3 of the mean square's excess.
        variance = (F.adaptive_avg_pool2d(one.square(), 4) - mean.square()) * 4 / 3
        moments.append((mean, (variance + 1e-5).sqrt()))
    gap = 3 * (moments[0][0] - moments[1][0]).square() + (moments[0][1] - moments[1][1]).square()
    found = losses.GaussianWasserstein(3, grid=4)(own, theirs)
    assert found.item() == pytest.approx(gap.sum((1, 2, 3)).mean().item() / 16, rel=1e-9)
    with pytest.raises(AttarError, match=rf"grid=9: .*{side}x{side} positions"):
        losses.GaussianWasserstein(3, grid=9)(own, theirs)


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


def test_a_run_reads_the_costs_before_its_first_step(tmp_path) -> None:
    nets = {"teacher": "resnet14", "student": "resnet8", "data": {"name": "digits", "train_size": 200}}
    keys = {"method": {"name": "wkdl+wkdf", "wkdf": {"grid": 2}}, "epochs": 1, "out": str(tmp_path / "run")}
    job = prepare(read_recipe(**nets, **keys), console=Console(file=io.StringIO()))
    job.run()
    held = job.training(job.recipe.seed).method.parts[0]
    rows = F.normalize(held.teacher.classifier.weight, dim=1)
    assert held.wanted_images() == 50_000
    assert (held.cost.cpu() - class_costs(rows @ rows.T).cpu()).abs().max() > 0.01
