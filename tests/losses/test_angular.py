"""Angular-KD's losses by value, in float64."""

import pytest
import torch
import torch.nn.functional as F

from attar.errors import AttarError
from attar.losses import AngularInter, AngularIntra, angular_inter, angular_intra
from attar.methods.angularkd import ensemble

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
VS = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]], dtype=torch.float64)
VT3 = torch.tensor([[1.0, 1, 0], [0, 2, 1], [0, 0, 1]], dtype=torch.float64)
FEATURES = torch.stack([VT3, 2 * VS.flip(0)], 1)
LOGITS = torch.stack([S, U], 1)


def test_values():
    assert AngularIntra()(FEATURES, VS).item() == pytest.approx(1.048924, abs=1e-6)
    assert AngularIntra(4.0)(LOGITS, T).item() == pytest.approx(1.168838, abs=1e-6)
    assert AngularInter()(FEATURES, VS).item() == pytest.approx(3.252928 + 0.425336, abs=1e-6)
    assert AngularInter(4.0)(LOGITS, T).item() == pytest.approx(0.278914, abs=1e-6)


def test_the_ensemble_is_the_released_one_but_for_its_mass():
    found = 1.721892 * ensemble((T / 4).softmax(1), (LOGITS / 4).softmax(2))
    torch.testing.assert_close(found[0], torch.tensor([0.717534, 0.569040, 0.435317]).double(), atol=1e-6, rtol=0)
    # Five views' mass.
    assert pytest.approx(2.4398, abs=1e-4) == (0.8 * 5 + 1) / (5 * 0.64 + 1) ** 0.5


def test_views_near_the_teacher_part_and_others_do_not():
    one = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    near = F.normalize(torch.tensor([[[1.0, 0.1, 0.0], [1.0, 0.0, 0.1]]], dtype=torch.float64), dim=2)
    cosine = (near[0, 0] * near[0, 1]).sum()
    # With one image the contrast is 0, and both similarities are held at 1.
    assert angular_inter(near, one).item() == pytest.approx(F.softplus(cosine).item(), abs=1e-9)
    far = torch.cat([near[:, :1], torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)], 1)
    assert angular_inter(far, one).item() == pytest.approx(0, abs=1e-9)


def test_gradients_are_those_of_finite_differences():
    views = FEATURES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda views: angular_intra(views, VS), views)
    unit = F.normalize(FEATURES, dim=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda views: angular_inter(views, F.normalize(VS, dim=1), 0.01), unit)


@pytest.mark.parametrize("views", [FEATURES[:, :1], FEATURES[:2], VS])
def test_other_shapes_are_an_error(views):
    with pytest.raises(AttarError, match="expected \\(B, N, D\\)"):
        angular_intra(views, VS)
