"""The methods' numbers, against values worked out apart from this code (softmax arithmetic in float64)."""

import copy

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import AttentionTransfer, CrossEntropy, RKDAngle, RKDDistance
from attar.methods import create_method
from attar.models import create_model

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
IMAGES = torch.zeros(2, 3, 8, 8)


class Says(nn.Module):
    """A network that always says the same."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images):
        return self.logits


def total(method, **when):
    return method.losses(IMAGES, Y, **when).total


def test_kd():
    assert total(create_method("kd", teacher=Says(T), student=Says(S))).item() == pytest.approx(0.124399, abs=1e-6)


def test_kd_keeps_its_temperature_factor_without_labels():
    method = create_method("kd", teacher=Says(T), student=Says(S), ce=0.0, kd=1.0)
    assert total(method).item() == pytest.approx(0.102828, abs=1e-6)


def test_kd_is_not_a_squared_error_of_probabilities():
    edges = create_method("kd", teacher=Says(T), student=Says(S)).edges
    assert [type(edge.loss).__name__ for edge in edges] == ["CrossEntropy", "KLDivergence"]


def test_dkd_after_its_warmup():
    method = create_method("dkd", teacher=Says(T), student=Says(S), beta=8.0, ce=0.0)
    assert total(method, epoch=19, epochs=240).item() == pytest.approx(0.403589, abs=2e-6)


def test_dkd_warms_up_linearly():
    method = create_method("dkd", teacher=Says(T), student=Says(S), beta=8.0, ce=0.0, warmup=20)
    assert total(method, epoch=4, epochs=240).item() == pytest.approx(0.403589 / 4, abs=2e-6)


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_bfloat16_logits_do_not_underflow(name):
    far = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 100.0, 0.0]]).bfloat16()
    method = create_method(name, teacher=Says(far), student=Says(-far))
    loss = total(method, epoch=0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(method.student.module.logits.grad).all()


def test_dml_pair():
    losses = create_method("dml", student=Says(S), peers=[Says(T)]).losses(IMAGES, Y)
    student = losses["labels->student.logits"] + losses["peer1.logits->student.logits"]
    peer = losses["labels->peer1.logits"] + losses["student.logits->peer1.logits"]
    assert student.item() == pytest.approx(0.390606, abs=1e-6)
    assert peer.item() == pytest.approx(0.353690, abs=1e-6)
    assert losses.total.item() == pytest.approx(0.390606 + 0.353690, abs=2e-6)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", 0.422951), ("sum", 0.527362)])
def test_dml_of_three(reduction, expected):
    method = create_method("dml", student=Says(S), peers=[Says(T), Says(U)], peer_reduction=reduction)
    losses = method.losses(IMAGES, Y)
    own = sum(losses.weights[key] * term for key, term in losses.items() if key.endswith("->student.logits"))
    assert own.item() == pytest.approx(expected, abs=1e-6)


def test_dml_peers_never_learn_from_each_others_losses():
    nets = [Says(S), Says(T), Says(U)]
    create_method("dml", student=nets[0], peers=nets[1:]).losses(IMAGES, Y).total.backward()
    together = [net.logits.grad.clone() for net in nets]
    for number, net in enumerate(nets):
        rest = [copy.deepcopy(other).requires_grad_(False) for other in nets if other is not net]
        alone = Says(net.logits.detach())
        losses = create_method("dml", student=alone, peers=rest).losses(IMAGES, Y)
        sum(losses.weights[k] * term for k, term in losses.items() if k.endswith("->student.logits")).backward()
        torch.testing.assert_close(together[number], alone.logits.grad)


def test_dml_gradient_of_one_edge_stops_at_its_learner():
    nets = [Says(S), Says(T)]
    create_method("dml", student=nets[0], peers=nets[1:]).losses(IMAGES, Y)["peer1.logits->student.logits"].backward()
    assert nets[0].logits.grad.abs().sum() > 0
    assert nets[1].logits.grad is None


def test_dml_peers_start_from_weights_of_their_own():
    student = create_model("resnet8", num_classes=4, image_size=8)
    method = create_method("dml", student=student, peers=2)
    first, second = (net.conv1.weight for net in method.also_deployed().values())
    assert not torch.equal(first, second)
    assert not torch.equal(first, student.conv1.weight)


def test_dml_peers_by_name_fit_the_students_images():
    student = create_model("resnet8", num_classes=4, in_channels=1, image_size=8)
    peer = create_method("dml", student=student, peers=["resnet14"]).also_deployed()["peer1"]
    assert peer(torch.zeros(2, 1, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("options", [{"peers": 0}, {"peer_reduction": "median"}])
def test_dml_refuses(options):
    with pytest.raises(AttarError, match="dml"):
        create_method("dml", student=Says(S), **options)


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return {
        "teacher": create_model("resnet14", num_classes=4, image_size=16).eval(),
        "student": create_model("resnet8", num_classes=4, image_size=16).eval(),
    }


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(5, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 3, 0]))


def features(net, batch, taps):
    with torch.no_grad():
        return net.features(batch.inputs, taps)


def test_at_is_labels_plus_1000_times_each_stage(nets, batch):
    stages = ["stage1", "stage2", "stage3"]
    taught, knowledge = (features(net, batch, stages) for net in nets.values())
    expected = CrossEntropy()(knowledge.logits, batch.labels)
    for stage in stages:
        maps = [f.tap(stage).square().mean(1).flatten(1) for f in (taught, knowledge)]
        first, second = (m / m.norm(dim=1, keepdim=True) for m in maps)
        expected = expected + 1000 * (first - second).square().mean()
        torch.testing.assert_close(
            AttentionTransfer()(knowledge.tap(stage), taught.tap(stage)), (first - second).square().mean()
        )
    torch.testing.assert_close(create_method("at", **nets).batch_losses(batch).total, expected)


def test_rkd_is_25_distances_and_50_angles_of_the_pooled_features(nets, batch):
    taught, knowledge = (features(net, batch, ["pooled"]) for net in nets.values())
    ends = knowledge.tap("pooled"), taught.tap("pooled")
    expected = CrossEntropy()(knowledge.logits, batch.labels) + 25 * RKDDistance()(*ends) + 50 * RKDAngle()(*ends)
    torch.testing.assert_close(create_method("rkd", **nets).batch_losses(batch).total, expected)


def test_fitnet_compares_the_regressed_second_stage(nets, batch):
    method = create_method("fitnet", **nets).eval()
    taught, knowledge = (features(net, batch, ["stage2"]) for net in nets.values())
    hint = (method.regressors[0](knowledge.tap("stage2")) - taught.tap("stage2")).square().mean()
    expected = CrossEntropy()(knowledge.logits, batch.labels) + 100 * hint
    torch.testing.assert_close(method.batch_losses(batch).total, expected)


def test_fitnet_regressor_learns_and_is_saved(nets, batch):
    method = create_method("fitnet", **nets)
    method.batch_losses(batch).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.regressors.parameters())
    assert any(name.startswith("regressors.") for name in method.state_dict())


@pytest.mark.parametrize("stage", [0, 4, -4])
def test_fitnet_names_the_stages_there_are(nets, stage):
    with pytest.raises(AttarError, match=r"has stages 1\.\.3"):
        create_method("fitnet", stage=stage, **nets)


def test_label_edges_are_the_same_object_for_nobody(nets):
    first, second = create_method("kd", **nets), create_method("kd", temperature=1.0, **nets)
    assert first.edges[0].loss is not second.edges[0].loss
    assert (first.edges[1].loss.temperature, second.edges[1].loss.temperature) == (4.0, 1.0)
