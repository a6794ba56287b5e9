"""Methods of two views: CRLD and MLKD, their formulas in float64, and the views that a run gives them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar import losses
from attar.errors import AttarError

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
V = torch.tensor([[6.0, 0.3, 2.0], [1.5, -0.2, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
WEAK, STRONG = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)


class OfViews(nn.Module):
    """A network with logits of its own for each of two views."""

    def __init__(self, weak, strong):
        super().__init__()
        self.weak, self.strong = nn.Parameter(weak.clone()), nn.Parameter(strong.clone())

    def forward(self, images):
        return self.strong if images.sum() > 0 else self.weak


def built(name, **options):
    return attar.create_method(name, teacher=OfViews(T, V), student=OfViews(S, U), **options).double()


def kd(student, teacher):
    p, q = (teacher / 4).softmax(1), (student / 4).log_softmax(1)
    return 16 * (p * (p.log() - q)).sum(1)


def test_crld_by_hand():
    found = built("crld", sure_weak=0.7).losses(WEAK, Y, views={"strong": STRONG})
    weak = (T.softmax(1).amax(1) >= 0.7).double()
    strong = (V.softmax(1).amax(1) >= 0.2).double()
    assert weak.tolist() == [1.0, 0.0]
    expected = F.cross_entropy(S, Y) + F.cross_entropy(U, Y)
    expected = expected + 2 * ((kd(S, T) + kd(U, V)) * weak).mean() + 0.5 * ((kd(U, T) + kd(S, V)) * strong).mean()
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-9)
    assert losses.ConfidentKL(4.0, 0.7)(S, T, T).item() == pytest.approx((kd(S, T) * weak).mean().item(), abs=1e-12)


def test_mlkd_of_two_views():
    found = built("mlkd", two_views=True).losses(WEAK, Y, views={"strong": STRONG})
    labels = 0.1 * (F.cross_entropy(S, Y) + F.cross_entropy(U, Y))
    expected = labels + 0.9 * (0.5 * losses.mlkd(S, T) + losses.mlkd(U, V))
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-9)


def test_a_view_that_is_missing_is_named():
    with pytest.raises(AttarError, match="no view 'strong'"):
        built("crld").losses(WEAK, Y)


@pytest.mark.parametrize(("name", "options"), [("crld", {}), ("mlkd", {"two_views": True})])
def test_they_pass_the_suite(name, options):
    assert len(attar.check_method(name, **options)) == 12


def test_what_they_declare():
    assert built("mlkd").views() == {}
    with pytest.raises(AttarError, match=r"strong makes the second view; give method\.two_views=true"):
        built("mlkd", strong={"cutout": 2})
    assert built("crld").views() == {"strong": {"rand_augment": 2, "magnitude": 10}}
    assert built("crld", strong={"cutout": 3}).views() == {"strong": {"cutout": 3}}
    grey = built("crld", image_shape=(1, 8, 8))
    assert grey.views() == {"strong": {"cutout": 4}}


def test_a_run_gives_them_and_resumes(tmp_path):
    recipe = {"teacher": "resnet8", "student": "resnet8", "data": {"name": "digits", "train_size": 64}}
    keys = {"method": "crld", "epochs": 1, "batch_size": 32, "alone": "skip", "precision": "float32", "jobs": 1}
    run = attar.distill(**recipe, **keys, out=str(tmp_path / "run"))
    assert (run.folder / "student.safetensors").is_file()


def test_itrd_by_hand():
    s = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    t = torch.tensor([[2.0, 2.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    total = 0.0
    for d in range(2):
        a, b = s[:, d] - s[:, d].mean(), t[:, d] - t[:, d].mean()
        r = (a * b).sum() / 3 / ((a.square().sum() / 2).sqrt() * (b.square().sum() / 2).sqrt())
        total += (r - 1).abs() ** 2.02
    assert losses.CorrelationInformation(1.01)(s, t).item() == pytest.approx(torch.log2(total).item(), abs=1e-9)
    own, theirs = (torch.stack([row / row.norm() for row in x]) for x in (s, t))
    g, h = own @ own.T, theirs @ theirs.T
    expected = ((g / 3) ** 2).sum() - ((g * h / 3) ** 2).sum()
    assert losses.MutualInformation()(s, t).item() == pytest.approx(expected.item(), abs=1e-12)
