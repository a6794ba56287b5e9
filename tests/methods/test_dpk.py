"""DPK: which tokens are the teacher's, and where the gradient goes."""

import pytest
import torch

from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import linear_cka
from attar.methods import create_method
from attar.methods.dpk import Prior, patch_side, prior_mask
from attar.models import create_model


def batch() -> Batch:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([0, 1, 2, 3]))


def prior(cka: float) -> Prior:
    torch.manual_seed(0)
    made = Prior((3, 4, 4), (5, 4, 4), 8, 8).eval()
    made.cka.fill_(cka)
    return made


def test_a_mask_has_exactly_its_share() -> None:
    draws = torch.rand(3, 100, generator=torch.Generator().manual_seed(0))
    masks = prior_mask(draws, torch.tensor(0.3))
    assert masks.sum(1).tolist() == [30, 30, 30]
    assert not torch.equal(masks[0], masks[1])
    assert prior_mask(draws, torch.tensor(0.0)).sum() == 0
    assert prior_mask(draws, torch.tensor(1.0)).all()


@pytest.mark.parametrize(("cka", "student_learns", "teacher_matters"), [(1.0, True, False), (0.0, False, True)])
def test_all_or_no_tokens_are_the_teachers(cka: float, student_learns: bool, teacher_matters: bool) -> None:
    made = prior(cka)
    student, teacher = torch.randn(4, 3, 4, 4, requires_grad=True), torch.randn(4, 5, 4, 4, requires_grad=True)
    found = made(student, teacher, batch(), "stage1")
    assert found.shape == (4, 5, 4, 4)
    found.square().sum().backward()
    assert bool(student.grad.abs().sum() > 0) == student_learns
    assert bool(teacher.grad.abs().sum() > 0) == teacher_matters


def test_the_running_cka_moves_by_a_tenth() -> None:
    torch.manual_seed(0)
    teacher, student = (create_model(net, num_classes=4, image_size=8) for net in ("resnet14", "resnet8"))
    method = create_method("dpk", teacher=teacher, student=student).train()
    known = method.batch_losses(batch()).knowledge
    expected = [linear_cka(known[f"student.stage{n}"].detach(), known[f"teacher.stage{n}"]) for n in (1, 2, 3)]
    assert [made.cka.item() for made in method.priors] == pytest.approx([0.45 + 0.1 * x.item() for x in expected])
    assert 0 < min(expected) < 1
    assert all("cka" in name for name, _ in method.named_buffers() if name.startswith("priors"))


def test_large_maps_are_divided_into_patches() -> None:
    assert [patch_side(*sides, 8) for sides in ((32, 32), (8, 8), (7, 7), (56, 56), (17, 17), (16, 8))] == [
        4,
        1,
        1,
        7,
        17,
        2,
    ]
    made = Prior((3, 16, 16), (5, 32, 32), 8, 8)
    assert made.patch == 2
    assert len(made.positions) == 64
    assert made(torch.randn(4, 3, 16, 16), torch.randn(4, 5, 16, 16), batch(), "stage1").shape == (4, 5, 16, 16)


@pytest.mark.parametrize(("options", "message"), [({"width": 6}, "no multiple of 4"), ({"grid": 0}, "leaves no token")])
def test_tokens_that_cannot_be_are_one_line(options, message) -> None:
    nets = {role: create_model("resnet8", num_classes=4, image_size=8) for role in ("teacher", "student")}
    with pytest.raises(AttarError, match=message):
        create_method("dpk", **nets, **options)
