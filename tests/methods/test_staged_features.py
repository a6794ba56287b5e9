"""Offline methods on the maps of stages: levels, margins, boundaries, and the phase that begins some of them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from attar import losses
from attar.batch import Address, Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.methods import create_method
from attar.methods.ofd import last_norm, negative_part
from attar.models import create_model


def built(name, teacher="resnet14", student="resnet8", **options):
    torch.manual_seed(0)
    nets = [create_model(net, num_classes=5, in_channels=1, image_size=8) for net in (teacher, student)]
    made = create_method(name, teacher=nets[0], student=nets[1], image_shape=(1, 8, 8), **options)
    return made.double()


def batch(epoch=0):
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4), Address(epoch=epoch), epochs=4)


def test_a_review_mixes_a_level_with_all_deeper_ones():
    method = built("reviewkd")
    found = method.batch_losses(batch())
    level, deeper = found.knowledge["student.stage3"], found.knowledge["student.pooled"]
    last, fuse = method.fusions[-1], method.fusions[-2]
    below = last.enter(deeper[:, :, None, None])
    torch.testing.assert_close(last.leave(below).flatten(1), found.knowledge["student.pooled.review"])
    own, below = fuse.enter(level), F.interpolate(below, level.shape[-2:])
    gates = fuse.gates(torch.cat([own, below], 1)).sigmoid()
    review = fuse.leave(own * gates[:, :1] + below * gates[:, 1:])
    torch.testing.assert_close(review, found.knowledge["student.stage3.review"])
    assert found.weights["teacher.stage3.preact->student.stage3.review"] == pytest.approx(0.6 / 20)
    expected = losses.HierarchicalContext()(review, found.knowledge["teacher.stage3.preact"])
    assert found["teacher.stage3.preact->student.stage3.review"].item() == pytest.approx(expected.item())


def test_the_margin_of_ofd_is_that_of_the_teachers_last_norm():
    method = built("ofd")
    norm = method.teacher.module.layer3[-1].bn2
    norm.bias.data.copy_(torch.linspace(0, 4, len(norm.bias)))
    assert last_norm(method.teacher.module, "stage3.preact") is norm
    found = method.batch_losses(batch())
    margin = found.knowledge["teacher.stage3.preact.margin"][0, :, 0, 0]
    assert margin[0].item() == pytest.approx(-0.797885, abs=1e-6)
    assert margin[-1].item() == pytest.approx(-3.0)
    assert list(found.weights.values()) == [1.0, 0.00025, 0.0005, 0.001]


def test_a_stage_that_ends_in_no_norm_gives_the_mean_of_its_negative_values():
    method = built("ofd", "wrn_40_1", "wrn_16_1")
    assert last_norm(method.teacher.module, "stage1.preact") is None
    maps = torch.tensor([[[[1.0, -2.0]], [[1.0, 2.0]]], [[[-4.0, 3.0]], [[0.0, 1.0]]]])
    assert negative_part(maps).tolist() == [-3.0, 0.0]


def test_the_stages_of_ab_weigh_half_of_the_next():
    found = built("ab").batch_losses(batch())
    assert list(found.weights.values()) == [1.0, 0.00075, 0.0015, 0.003]


@pytest.mark.parametrize("name", ["ab"])
def test_an_initialisation_phase_trains_without_the_labels(name):
    method = built(name, init=2)
    labels = [method.batch_losses(batch(epoch)).weights["labels->student.logits"] for epoch in range(4)]
    assert labels == [0.0, 0.0, 1.0, 1.0]


def test_after_its_boundaries_ab_trains_on_labels_alone():
    method = built("ab", init=2)
    assert sum(list(method.batch_losses(batch(1)).weights.values())[1:]) == pytest.approx(0.00525)
    assert sum(list(method.batch_losses(batch(2)).weights.values())[1:]) == 0.0


def test_a_run_may_begin_with_what_the_labels_do_not_reach():
    check(built("ab", init=2), batch())
    with pytest.raises(AttarError, match=r"'student.module.fc.weight' and 1 more gets no gradient"):
        check(built("ab", init=2), replace(batch(), epochs=2))
