"""FCFD and ScaleKD: features that pass through the other network."""

import pytest
import torch

import attar
from attar import losses
from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.methods.fcfd import SummedMSE, bridge, pooled, still_statistics

FS = (torch.arange(16, dtype=torch.float64) + 1).view(2, 2, 2, 2) / 10
FT = torch.tensor([1, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2], dtype=torch.float64).view(2, 2, 2, 2) / 4


@pytest.fixture
def nets():
    torch.manual_seed(0)
    kind = {"num_classes": 6, "image_size": 16}
    return {"teacher": attar.create_model("resnet14", **kind), "student": attar.create_model("resnet8", **kind)}


def batch(step=0):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.tensor([0, 1, 2, 3]), address=Address(step=step), epochs=30)


def test_fcfd_features_at_an_inner_and_the_last_stage():
    assert SummedMSE()((FS,), (FT,)).item() == pytest.approx(0.566250, abs=1e-6)
    last = SummedMSE()((FS, pooled(FS)), (FT, pooled(FT))).item()
    assert last == pytest.approx(1.090703, abs=1e-6)


def test_fcfd_paths_follow_the_address_and_reach_both_networks(nets):
    method = attar.create_method("fcfd", **nets)
    assert method.cuts == [(True, 0), (True, 1), (False, 0), (False, 1)]
    drawn = {tuple(method.drawn(batch(step))) for step in range(40)}
    assert {number for pair in drawn for number in pair} == {0, 1, 2, 3}
    assert method.drawn(batch(3)) == method.drawn(batch(3))


def test_fcfd_path_into_the_teacher_is_its_own_tail(nets, monkeypatch):
    method = attar.create_method("fcfd", **nets).eval()
    monkeypatch.setattr(method, "drawn", lambda batch: [1, 2])
    known = method.batch_losses(batch()).knowledge
    own = nets["student"].features(batch().inputs, ["stage2"]).tap("stage2")
    expected = nets["teacher"].resume(method.to_teacher[1](own), start=2).logits
    torch.testing.assert_close(known["path1.logits"], expected)
    theirs = nets["teacher"].features(batch().inputs, ["stage1"]).tap("stage1")
    expected = nets["student"].resume(method.to_student[0](theirs), start=1).logits
    torch.testing.assert_close(known["path2.logits"], expected)
    # Three stages by bridges, the last stage once more by path 1, and twice pooled.
    assert len(known["student.arrived"]) == 6


def test_mixed_paths_leave_the_running_statistics(nets):
    before = {key: value.clone() for key, value in nets["student"].state_dict().items() if "running" in key}
    net = nets["student"].train()
    with still_statistics(net):
        net(batch().inputs)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    net(batch().inputs)
    assert not all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(("own", "theirs"), [((4, 8, 8), (6, 8, 8)), ((4, 8, 8), (6, 4, 4)), ((4, 4, 4), (6, 8, 8))])
def test_bridges_fit(own, theirs):
    assert bridge(own, theirs, True)(torch.zeros(2, *own)).shape == (2, *theirs)


def test_fcfd_wants_as_many_stages(nets):
    with pytest.raises(AttarError, match="expected as many, two or more; fcfd runs on two networks of one family"):
        attar.create_method("fcfd", teacher=attar.create_model("vgg13", 6), student=nets["student"])


def test_scalekd_distances():
    assert 0.08 * losses.SpatialTokens()(FS, FT).item() == pytest.approx(0.148283, abs=1e-6)
    assert 0.06 * losses.SpatialTokens(True)(FS, FT).item() == pytest.approx(0.358326, abs=1e-6)


def test_scalekd_passes_the_teachers_last_stage(nets):
    method = attar.create_method("scalekd", **nets).eval()
    known = method.batch_losses(batch()).knowledge
    own = nets["student"].features(batch().inputs, ["stage2", "stage3"])
    through = nets["teacher"].run_stage(2, method.projectors[0][1](own.tap("stage2")))[0]
    torch.testing.assert_close(known["student.through.frequency"], through)
    direct = method.projectors[1][1](own.tap("stage3"), through)
    torch.testing.assert_close(known["student.direct.frequency"], direct)
    with pytest.raises(AttarError, match="5 heads do not divide the teacher's 32 channels"):
        attar.create_method("scalekd", **nets, heads=5)
