"""Methods with several teachers, and networks that learn together: totals by hand, drops, routes, heads."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar import losses
from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.knowledge import Knowledge, total_loss
from attar.losses.teachers import confidence_shares, entropy_shares
from attar.methods import create_method
from attar.models import create_model

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
CE = 0.318540


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images):
        return self.logits


def built(name, *teachers, **options):
    return create_method(name, teacher=[Constant(one) for one in teachers], student=Constant(S), **options)


def total(method, **when):
    return method.losses(torch.zeros(2, 3, 8, 8), Y, **{"epoch": 0, "epochs": 1, "step": 0, **when}).total.item()


@pytest.mark.parametrize(
    ("name", "teachers", "options", "expected"),
    [
        ("averkd", (T, U), {}, CE + 0.131014),
        ("ebkd", (T, U), {}, CE + 0.062816),
        ("camkd", (T, U), {"feature": 0}, CE + 0.060623),
        ("averkd", (T,), {}, CE + 0.102828),
        ("ebkd", (T,), {}, CE + 0.102828),
        ("camkd", (T,), {"feature": 0}, CE + 0.102828),
        ("dgkd", (T, U, T), {"drop": 0}, 0.365265),
        ("ceskd", (T,), {}, 0.124399),
    ],
)
def test_totals(name, teachers, options, expected):
    assert total(built(name, *teachers, **options)) == pytest.approx(expected, abs=2e-6)


def test_shares():
    expected = torch.tensor([[0.634974, 0.386487], [0.365026, 0.613513]]).double()
    torch.testing.assert_close(entropy_shares((T, U)), expected, atol=1e-6, rtol=0)
    expected = torch.tensor([[0.716065, 0.446944], [0.283935, 0.553056]]).double()
    torch.testing.assert_close(confidence_shares((T, U), Y), expected, atol=1e-6, rtol=0)


def test_teachers_that_are_all_certain_share_alike():
    sure = torch.tensor([[300.0, 0.0, 0.0], [300.0, 0.0, 1.0]])
    torch.testing.assert_close(entropy_shares((sure, 2 * sure)), torch.full((2, 2), 0.5))
    assert entropy_shares((sure, torch.zeros(2, 3)))[0].tolist() == [1.0, 1.0]


def staged(seed, image_size=16, name="resnet8"):
    torch.manual_seed(seed)
    return create_model(name, num_classes=3, image_size=image_size).double()


@pytest.mark.parametrize("student_name", ["resnet8", "resnet8x4"])
def test_camkd_compares_maps_as_the_teachers_classifiers_read_them(student_name):
    teachers = [staged(1), staged(2, name="resnet8x4")]
    method = create_method("camkd", teacher=teachers, student=staged(0, name=student_name)).double()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = method.losses(images, Y, epoch=1, epochs=4, step=0)

    own, errors, hits = found.knowledge["student.final"], [], []
    for number, net in enumerate(teachers):
        convolution, norm, _ = method.connectors[number]
        raw = torch.einsum("bchw,dc->bdhw", own, convolution.weight[:, :, 0, 0])
        mean, deviation = raw.mean((0, 2, 3), keepdim=True), raw.var((0, 2, 3), keepdim=True, unbiased=False)
        connected = ((raw - mean) / (deviation + norm.eps).sqrt()).clamp_min(0)
        errors.append((connected - found.knowledge[f"teacher{number + 1}.final"]).square().mean((1, 2, 3)))
        logits = connected.mean((2, 3)) @ net.classifier.weight.T + net.classifier.bias
        hits.append(logits.softmax(1).gather(1, Y[:, None])[:, 0])
    # exp of a cross-entropy is one over the probability of the label.
    wrong = 1 / torch.stack(hits)
    expected = ((1 - wrong / wrong.sum(0)) * torch.stack(errors)).sum() / 4
    assert found["teachers.final->student.connected"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert found.weights["teachers.final->student.connected"] == 50
    found.total.backward()
    assert all(one.grad is not None for one in method.connectors.parameters())
    assert all(parameter.grad is None for net in teachers for parameter in net.parameters())


def test_camkd_leaves_the_maps_out_of_the_first_epoch():
    method = create_method("camkd", teacher=[staged(1), staged(2)], student=staged(0)).double()
    found = method.losses(torch.zeros(2, 3, 16, 16, dtype=torch.float64), Y, epoch=0, epochs=4, step=0)
    assert found.weights["teachers.final->student.connected"] == 0
    logits = sum(found[f"{source}->student.logits"] for source in ("labels", "teachers.logits"))
    assert found.total.item() == pytest.approx(logits.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("teacher", "student", "mode"), [("vgg8", "resnet8", "pool"), ("resnet8", "vgg8", "interpolate")]
)
def test_camkd_brings_the_students_map_to_the_teachers_size(teacher, student, mode):
    nets = {"teacher": staged(1, 32, teacher), "student": staged(0, 32, student)}
    method = create_method("camkd", **nets).double()
    assert method.connectors[0][0].mode == mode
    found = method.losses(torch.zeros(2, 3, 32, 32, dtype=torch.float64), Y, epoch=1, epochs=4, step=0)
    assert found.knowledge["student.connected"][0].shape == found.knowledge["teacher1.final"].shape


def test_camkd_without_stages_names_the_option():
    with pytest.raises(AttarError, match=r"Constant has no stages; method\.feature=0 leaves the maps out"):
        built("camkd", T, U)


def test_dgkd_drops_exactly_so_many():
    method = built("dgkd", T, U, T)
    seen = {round(total(method, step=step), 5) for step in range(30)}
    assert seen == {round(0.262885, 5), round(0.204760, 5)}


def test_dgkd_keeps_at_least_one():
    method = built("dgkd", T, U, keep=0.01)
    kept = [method.kept(Batch(torch.zeros(2, 1), Y, address=Address(0, 0, step))).sum().item() for step in range(50)]
    assert min(kept) == 1
    with pytest.raises(AttarError, match="keep=2"):
        built("dgkd", T, keep=2.0)


def test_dgkd_survival_is_as_probable_as_described():
    method = built("dgkd", T, U, T, U, keep=0.75)
    steps = [method.kept(Batch(torch.zeros(2, 1), Y, address=Address(0, 0, step))) for step in range(2000)]
    assert torch.stack(steps).mean().item() == pytest.approx(0.75, abs=0.02)


def test_ceskd_begins_with_the_smallest_expert():
    method = built("ceskd", U, T, pace=2, kd=1.0)
    alone = {"epoch": 0, "epochs": 4}
    assert total(method, **alone) == pytest.approx(losses.kl_divergence(S, U, 4.0).item(), abs=1e-9)
    # The image that the smallest expert finds hard is the first one; from epoch 1 on the larger expert teaches it.
    each = [losses.kl_divergence(S, one, 4.0, "none").sum(1) for one in (U, T)]
    assert total(method, epoch=1, epochs=4) == pytest.approx(((each[1][0] + each[0][1]) / 2).item(), abs=1e-9)


def test_takd_is_one_link():
    method = create_method("takd", teacher=Constant(T), student=Constant(S), temperature=4.0, kd=0.9)
    assert total(method) == pytest.approx(0.124399, abs=1e-6)


def test_kdp2p():
    method = create_method("kdp2p", student=Constant(S), expert=Constant(T), peers=[Constant(U)])
    found = method.losses(torch.zeros(2, 3, 8, 8), Y)
    own = sum(value for key, value in found.items() if key.endswith("->student.logits"))
    assert own.item() == pytest.approx(0.527362, abs=1e-6)
    # The expert learns from the labels alone.
    assert [key for key in found if key.endswith("->peer1.logits")] == ["labels->peer1.logits"]


def test_information_flow():
    own = torch.tensor([[1.0, 0, 2], [0, 1, 1], [2, 1, 0]], dtype=torch.float64)
    theirs = torch.tensor([[1.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 3]], dtype=torch.float64)
    assert losses.information_flow(own, theirs).item() == pytest.approx(0.01013043, abs=1e-7)
    assert losses.information_flow(own, own).item() == 0


@pytest.mark.parametrize(("own", "theirs", "expected"), [("ST", "US", 2.658919), ("S", "T", 0.744296)])
def test_dcm_of_two_heads_and_of_one(monkeypatch, own, theirs, expected):
    method = create_method("dcm", student=create_model("resnet8", num_classes=3, in_channels=1, image_size=8))
    heads = [f"own{number}" for number in range(len(own))], [f"peer{number}" for number in range(len(theirs))]
    monkeypatch.setattr(type(method), "heads", heads)
    logits = {"S": S, "T": T, "U": U}
    outputs = dict(zip((*heads[0], *heads[1]), (logits[letter] for letter in own + theirs), strict=True))
    found = total_loss(Knowledge(Batch(torch.zeros(2, 1), Y), **outputs), method.transfers())
    assert len(found.terms) == 2 * len(own) + 2 * len(own) * len(theirs)
    assert found.total.item() == pytest.approx(expected, abs=1e-6)


def test_dcm_has_six_labels_and_eighteen_pairs():
    net = create_model("resnet8", num_classes=5, in_channels=1, image_size=8)
    method = create_method("dcm", student=net).double()
    sources = [edge.source == "labels" for edge in method.edges]
    assert (sources.count(True), sources.count(False)) == (6, 18)
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = method.losses(images, torch.tensor([0, 1, 2]))
    own, theirs = ([found.knowledge[f"{name}.logits"] for name in names] for names in method.heads)
    expected = sum(F.cross_entropy(one, torch.tensor([0, 1, 2])) for one in (*own, *theirs))
    for one in own:
        for other in theirs:
            expected += losses.kl_divergence(one, other, 1.0) + losses.kl_divergence(other, one, 1.0)
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-9)
    assert method.deployed() is net
