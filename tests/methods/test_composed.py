"""Several methods over the same networks."""

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.losses.loss import same_loss
from attar.methods import create_method
from attar.models import create_model


class Counted(nn.Module):
    """A network that counts how often it runs."""

    def __init__(self, logits):
        super().__init__()
        self.net, self.runs = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, logits)), 0

    def forward(self, images):
        self.runs += 1
        return self.net(images)


@pytest.fixture
def nets():
    make = {"num_classes": 4, "image_size": 16}
    return {"teacher": create_model("resnet14", **make), "student": create_model("resnet8", **make)}


@pytest.fixture
def batch():
    return Batch(torch.randn(4, 3, 16, 16), torch.arange(4))


def test_taps_of_the_guest_are_requested_by_themselves(nets, batch):
    method = create_method("kd+at", **nets)
    values = method.batch_losses(batch).knowledge
    assert {"teacher.stage1", "student.stage1", "teacher.stage3", "student.stage3"} <= set(values)


def test_another_loss_on_the_labels_is_an_edge_of_its_own(nets, batch):
    losses = create_method("kd+ekd", **nets).eval().batch_losses(batch)
    edge = "labels->student.logits"
    alone = [create_method(name, **nets).eval().batch_losses(batch)[edge] for name in ("kd", "ekd")]
    torch.testing.assert_close([losses[edge], losses[f"ekd:{edge}"]], alone)
    assert len(create_method("kd+dkd", **nets).edges) == 3


class Margin(nn.Module):
    """A loss whose settings its text does not have."""

    def __init__(self, margin, shares=None):
        super().__init__()
        self.margin, self.shares = margin, shares


def test_losses_of_other_settings_are_not_the_same():
    assert same_loss(Margin(1.0, torch.ones(2)), Margin(1.0, torch.ones(2)))
    assert not same_loss(Margin(1.0), Margin(2.0))
    assert not same_loss(Margin(1.0, torch.ones(2)), Margin(1.0, torch.zeros(2)))
    assert not same_loss(Margin(1.0), Margin(1.0, torch.ones(2)))
    assert not same_loss(nn.Sequential(Margin(1.0)), nn.Sequential(Margin(2.0)))


def test_networks_run_once_whatever_is_joined():
    teacher, student = Counted(3), Counted(3)
    method = create_method("kd+rkd+dkd", teacher=teacher, student=student)
    losses = method.losses(torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 0]), epoch=0)
    losses.total.backward()
    assert (teacher.runs, student.runs) == (1, 1)
    assert student.net[2].num_batches_tracked == 1
    assert len(losses) == 5


def test_another_loss_on_the_same_ends_is_an_edge_of_its_own(nets, batch):
    losses = create_method("kd+dkd+at+fitnet", **nets, dkd={"warmup": 0}).eval().batch_losses(batch)
    edge = "teacher.logits->student.logits"
    alone = [create_method(name, **nets).eval().batch_losses(batch)[edge] for name in ("kd", "dkd")]
    torch.testing.assert_close([losses[edge], losses[f"dkd:{edge}"]], alone)
    assert "fitnet:teacher.stage2->student.stage2" in losses
    assert len(losses) == 7
    assert len(create_method("kd+takd", **nets, takd={"temperature": 4.0}).edges) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("kd+kd", "'kd' with itself; name each method once"), ("dml+kd", "'dml' has no teacher and cannot be joined")],
)
def test_what_cannot_be_joined(nets, name, message):
    with pytest.raises(AttarError, match=message):
        create_method(name, **nets)


def test_a_host_without_what_another_compares_is_named(nets, batch):
    method = create_method("iakd+kd", **nets)
    with pytest.raises(AttarError, match=r"'iakd' runs the networks and has no 'teacher\.logits'.*run each alone"):
        method.batch_losses(batch)


def test_the_first_methods_weight_stays(nets):
    weights = {edge.key: edge.weight for edge in create_method("kd+at", **nets).edges}
    assert weights["labels->student.logits"] == 0.1
    weights = {edge.key: edge.weight for edge in create_method("at+kd", **nets).edges}
    assert weights["labels->student.logits"] == 1.0
    assert weights["teacher.logits->student.logits"] == 0.9


def test_plus_is_the_joined_name(nets, batch):
    added = create_method("kd", **nets) + create_method("at", **nets)
    named = create_method("kd+at", **nets)
    assert (added.name, [edge.key for edge in added.edges]) == (named.name, [edge.key for edge in named.edges])
    torch.testing.assert_close(added.eval().batch_losses(batch).total, named.eval().batch_losses(batch).total)


def test_the_guests_own_parameters_learn(nets, batch):
    method = create_method("kd+fitnet", **nets)
    check(method, batch)
    assert any("regressor" in name for name, _ in method.named_parameters())


@pytest.mark.parametrize("name", ["norm+at", "fcfd+rkd", "fcfd+at"])
def test_hosts_that_compute_logits_their_own_way_keep_the_taps(nets, batch, name):
    losses = check(create_method(name, **nets), batch)
    assert losses["labels->student.logits"] > 0
    assert all(losses[edge.key] > 0 for edge in create_method(name.split("+")[1], **nets).edges)


def test_options_go_to_their_method(nets):
    method = create_method("kd+at", at={"weight": 5}, kd={"temperature": 2}, **nets)
    assert [edge.weight for edge in method.edges] == [0.1, 0.9, 5, 5, 5]
    assert method.edges[1].loss.temperature == 2


def test_options_of_edges_go_to_their_method_in_every_task():
    """Where networks put out something else than logits, the edges between outputs have other names and losses."""
    make = {"num_classes": 5, "image_size": 16}
    nets = {"teacher": create_model("resnet14", **make), "student": create_model("resnet8", **make)}
    mixed = Batch(torch.randn(4, 3, 16, 16), torch.rand(4, 5) > 0.5, output="label_logits")

    def losses(**options):
        return create_method("kd+rkd", task="multilabel", **nets, **options).batch_losses(mixed)

    key = "labels->student.label_logits"
    assert losses(kd={"weights": {key: 5.0}}).weights[key] == 5.0
    inside, outside = losses(kd={"logit_edges": "standardised"}), losses(logit_edges="standardised")
    assert inside.total.item() == outside.total.item() != losses().total.item()
    with pytest.raises(AttarError, match=r"no edge 'labels->student.logits'; the edges are 'labels->student.label_log"):
        losses(kd={"weights": {"labels->student.logits": 5.0}})


@pytest.mark.parametrize(("options", "right"), [({"weight": 5}, "at.weight"), ({"kd": 0.5}, "kd.kd")])
def test_options_without_their_method_are_refused(nets, options, right):
    with pytest.raises(AttarError, match=rf"options of 'kd\+at' are given per method: method\.{right}="):
        create_method("kd+at", **options, **nets)


def test_a_guest_that_runs_networks_its_own_way_is_refused(nets):
    with pytest.raises(AttarError, match="'sokd' runs its networks in its own way; put it first"):
        create_method("kd+sokd", **nets)


def test_a_host_without_the_same_student_inside_is_refused(nets):
    for name in ("simkd+kd", "kd+simkd"):
        with pytest.raises(
            AttarError, match="'simkd' and 'kd' hold different networks: 'simkd' has a student of its own"
        ):
            create_method(name, **nets)


def test_different_networks_are_refused(nets):
    other = create_model("resnet8", num_classes=4, image_size=16)
    with pytest.raises(AttarError, match="'kd' and 'at' hold different networks"):
        create_method("kd", **nets) + create_method("at", teacher=nets["teacher"], student=other)


def test_a_method_of_several_steps_joins_no_other(nets):
    class Twice(type(create_method("kd", **nets))):
        phases = ("", "again")

    with pytest.raises(AttarError, match="steps 2 times per batch"):
        Twice(**nets) + create_method("at", **nets)


def test_what_is_deployed_is_the_bare_student(nets):
    assert create_method("kd+at", **nets).deployed() is nets["student"]
