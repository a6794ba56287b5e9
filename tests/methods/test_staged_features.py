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


@pytest.mark.parametrize("name", ["ab", "fsp", "ft"])
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


F_S = torch.arange(1.0, 17.0, dtype=torch.float64).reshape(2, 2, 2, 2) / 10
F_T = torch.tensor([1.0, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2], dtype=torch.float64).reshape(2, 2, 2, 2) / 4
LABELS = torch.tensor([0, 1])


def test_the_flow_between_two_maps():
    gap = losses.mse(losses.flow(F_S, F_T), losses.flow(F_T, F_S))
    assert gap.item() == pytest.approx(0.00757812, abs=1e-8)
    assert losses.flow(F_S, F_T)[0].tolist() == [
        pytest.approx([0.06875, 0.10625], abs=1e-12),
        pytest.approx([0.16875, 0.23125], abs=1e-12),
    ]


def test_fsp_compares_every_pair_of_neighbours():
    found = built("fsp").batch_losses(batch())
    assert [key for key in found.terms if "flow" in key] == [f"teacher.flow{n}->student.flow{n}" for n in (1, 2, 3)]
    expected = losses.flow(*(F.adaptive_avg_pool2d(one, 4) for one in flow_ends(found)))
    torch.testing.assert_close(found.knowledge["student.flow2"], expected)


def flow_ends(found):
    method = built("fsp")
    taps = method.student(batch().inputs, ["stage1", "stage2"]).taps
    return taps["stage1"], taps["stage2"]


def test_fsp_of_other_channels_is_refused():
    with pytest.raises(AttarError, match="stage1 of the teacher has 32, stage1 of the student 16"):
        built("fsp", "wrn_16_2", "resnet8")


def test_the_factor_of_a_map():
    assert losses.factor_transfer(F_S, F_T).item() == pytest.approx(0.1675294, abs=1e-6)


def test_a_paraphraser_learns_alone_and_then_stays():
    method = built("ft", init=2)
    for epoch, learns in ((0, True), (2, False)):
        method.zero_grad(set_to_none=True)
        method.batch_losses(batch(epoch)).total.backward()
        assert (method.paraphraser[0].weight.grad is not None) is learns
        assert (method.translator[0].weight.grad is None) is learns
        assert (method.student.module.fc.weight.grad is None) is learns


def test_the_factors_do_not_train_the_paraphraser():
    method = built("ft")
    found = method.batch_losses(batch())
    gradient = torch.autograd.grad(
        found["paraphraser.code->student.code"], method.paraphraser[0].weight, allow_unused=True
    )
    assert gradient == (None,)


def test_cells_that_disagree_with_the_whole_count_twice():
    weight = torch.tensor([[1.0, -1], [0, 1], [-1, 0]], dtype=torch.float64)
    own, theirs = (losses.cell_logits(torch.einsum("kc,bchw->bkhw", weight, one), (1, 2)) for one in (F_S, F_T))
    loss = losses.scale_decoupled(own, theirs, LABELS, alpha=1.0, beta=2.0, temperature=4.0)
    assert loss.item() == pytest.approx(0.394247, abs=1e-6)
    assert losses.scale_decoupled(own, theirs, LABELS, 1.0, 2.0, 4.0, complementary=1.0) < loss


def test_the_first_cell_of_sdd_is_the_networks_output():
    found = built("sdd").batch_losses(batch())
    for name in ("teacher", "student"):
        cells = found.knowledge[f"{name}.cells"]
        assert cells.shape == (4, 21, 5)
        torch.testing.assert_close(cells[:, 0], found.knowledge[f"{name}.logits"])
        torch.testing.assert_close(cells[:, 1:5].mean(1), cells[:, 0])
    with pytest.raises(AttarError, match="the whole image"):
        built("sdd", scales=(2, 4))


def test_class_means_run_over_the_images_seen():
    method = built("kdpp").train()
    found = method.batch_losses(batch())
    pooled = found.knowledge["teacher.pooled"]
    assert torch.equal(method.loss.sums[:4], pooled)
    method.batch_losses(batch())
    torch.testing.assert_close(method.loss.sums[:4], 2 * pooled)
    assert method.loss.sums[4].abs().sum() == 0
    own, direction = found.knowledge["student.pooled"], F.normalize(pooled, dim=1)
    longest = torch.maximum(own.norm(dim=1), pooled.norm(dim=1))
    expected = (1 - (own * direction).sum(1) / longest).mean()
    assert found["teacher.pooled->student.pooled"].item() == pytest.approx(expected.item(), abs=1e-12)


def test_kdpp_weighs_as_in_the_authors_code():
    method = built("kdpp", "resnet8x4")
    assert list(method.batch_losses(batch(epoch=3)).weights.values()) == [1.0, 4 / 20, 2.0]
    norm, dropout, linear = method.embed
    assert (norm.num_features, dropout.p, linear.out_features) == (64, 0.5, 256)
    assert not linear.bias.any()
    assert isinstance(built("kdpp").embed, torch.nn.Identity)


def test_kdpp_evaluates_without_learning_the_means():
    method = built("kdpp").eval()
    method.batch_losses(batch())
    assert method.loss.sums.abs().sum() == 0


def test_attention_goes_over_the_teachers_stages():
    method = built("semckd", batch_size=6)
    found = method.batch_losses(batch())
    own, theirs = found.knowledge["student.stages"], found.knowledge["teacher.stages"]
    attention = method.loss.attention(own, theirs)
    assert attention.shape == (4, 3, 3)
    torch.testing.assert_close(attention.sum(2), torch.ones(4, 3, dtype=torch.float64))
    expected = 0.0
    for i, one in enumerate(own):
        for j, other in enumerate(theirs):
            size = min(one.shape[2], other.shape[2])
            small, target = F.adaptive_avg_pool2d(one, size), F.adaptive_avg_pool2d(other, size)
            error = (method.loss.projectors[i][j](small) - target).square().mean((1, 2, 3))
            expected += (attention[:, i, j] * error).mean().item() / 3
    assert found["teacher.stages->student.stages"].item() == pytest.approx(expected)
    with pytest.raises(AttarError, match=r"batches of 2, this one has 4 images; give method.batch_size=4"):
        built("semckd", batch_size=2).batch_losses(batch())


def test_the_class_of_the_label_is_strengthened():
    own = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
    theirs = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
    for power, expected in ((1.0, 0.762047), (1.5, 0.635071), (2.0, 0.772802)):
        assert losses.boosted(own, theirs, LABELS, power).item() == pytest.approx(expected, abs=1e-6)
    entropy = -(theirs.softmax(1) * theirs.log_softmax(1)).sum(1).mean()
    assert (losses.boosted(own, theirs, LABELS) - entropy).item() == pytest.approx(0.072066, abs=1e-6)


def test_each_stage_of_ofa_has_an_exit():
    method = built("ofa", "wrn_16_2", "resnet8")
    found = method.batch_losses(batch())
    assert found.knowledge["student.stage1.exit"].shape == (4, 5)
    widths = [
        [layer.out_channels for layer in head.modules() if getattr(layer, "kernel_size", 0) == (1, 1)]
        for head in method.exits
    ]
    assert widths == [[16, 32, 32, 128], [32, 128], [128]]
    assert len(found.terms) == 5


def test_norm_deploys_the_student_alone():
    method = built("norm", copies=2).train()
    for _ in range(3):
        method.batch_losses(batch())
    method.eval()
    logits = method.deployed()(batch().inputs)
    assert sum(p.numel() for p in method.deployed().parameters()) == sum(p.numel() for p in method.student.parameters())
    spread = 2.5 * F.layer_norm(logits, (5,))
    torch.testing.assert_close(method.batch_losses(batch()).knowledge["student.logits"], spread)
    assert (method.student(batch().inputs).logits - logits).abs().max() > 1e-3


def test_norm_compares_with_copies_of_the_teacher():
    found = built("norm", copies=2).batch_losses(batch())
    theirs, own = (found.knowledge[name] for name in ("teacher.repeated", "student.expanded"))
    assert theirs.shape == own.shape == (4, 128, 2, 2)
    assert torch.equal(theirs[:, :64], theirs[:, 64:])
    key = "teacher.repeated->student.expanded"
    assert found.weights[key] == pytest.approx(0.2)
    stacked = torch.cat([F_S, F_T], 1)
    assert 2 * losses.mse(stacked, F_T.repeat(1, 2, 1, 1)).item() == pytest.approx(0.566250, abs=1e-6)
