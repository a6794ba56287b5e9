"""Methods without a trained teacher of another kind, and with a learnt temperature: totals and states by value."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar import losses
from attar.batch import Batch
from attar.errors import AttarError
from attar.methods import create_method
from attar.methods.common.learnt_temperature import reversal
from attar.methods.kdcl import linear, min_logit, naive, relative
from attar.methods.pskd import PastPredictions
from attar.models import create_model

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
U = torch.tensor([[1.0, 1.5, 0.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
IMAGES = torch.zeros(2, 3, 8, 8)
CE = 0.318540


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    input_shape = (3, 8, 8)

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images):
        return self.logits


def built(name, teacher=None, student=S, **options):
    teacher = None if teacher is None else Constant(teacher)
    return create_method(name, teacher=teacher, student=Constant(student), **options)


def test_virtual_teacher_of_a_hundred_classes():
    target = losses.virtual_teacher(torch.tensor([7]), 100)
    assert target[0, 7].item() == pytest.approx(0.0105, abs=1e-5)
    assert target.sum().item() == pytest.approx(1, abs=1e-6)
    assert target[0, 8].item() == pytest.approx((1 - target[0, 7].item()) / 99, abs=1e-7)


def test_tfkd_is_the_released_sum():
    u = torch.tensor([[0.99, 0.005, 0.005], [0.005, 0.99, 0.005]], dtype=torch.float64)
    q = (u / 20).softmax(1)
    released = 3 * (q * (q.log() - S.log_softmax(1))).mean()  # its multiplier: the classes
    expected = 0.9 * CE + 0.1 * released.item()
    assert built("tfkd").losses(IMAGES, Y).total.item() == pytest.approx(expected, abs=1e-6)


def test_tfkd_of_mixed_images_mixes_its_targets():
    mixed = torch.tensor([[0.75, 0.25, 0.0]])
    u = 0.75 * torch.tensor([0.99, 0.005, 0.005]) + 0.25 * torch.tensor([0.005, 0.99, 0.005])
    torch.testing.assert_close(losses.virtual_teacher(mixed, 3)[0], (u / 20).softmax(0))


def test_virtual_teacher_refuses_what_is_none():
    with pytest.raises(AttarError, match=r"correct=1\.5"):
        losses.virtual_teacher(Y, 3, correct=1.5)


@pytest.mark.parametrize(("epoch", "trust"), [(0, 0.002667), (149, 0.4), (299, 0.8)])
def test_pskd_weights(epoch, trust):
    method = built("pskd")
    method.setup(Y)
    found = method.losses(IMAGES, Y, index=torch.arange(2), epoch=epoch, epochs=300)
    assert list(found.weights.values()) == pytest.approx([1 - trust, trust], abs=1e-6)


def test_pskd_learns_from_its_last_prediction():
    past = PastPredictions(3).double()
    past.fill(torch.tensor([2, 0, 1]))
    index = torch.tensor([1, 2])
    assert past(S, index).item() == pytest.approx(CE, abs=1e-6)
    torch.testing.assert_close(past.predictions[index], S.softmax(1))
    assert past.predictions[0].tolist() == [0, 0, 1]  # not in the batch
    expected = -(S.softmax(1) * T.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(past.eval()(T, index), expected)
    torch.testing.assert_close(past.predictions[index], S.softmax(1))  # in eval mode nothing is replaced


def test_pskd_is_cross_entropy_with_the_mixed_target():
    method = built("pskd", trust=0.5)
    method.setup(Y)
    method.past.predictions = T.softmax(1)
    found = method.losses(IMAGES, Y, index=torch.arange(2), epoch=9, epochs=10).total
    target = 0.5 * F.one_hot(Y, 3) + 0.5 * T.softmax(1)
    torch.testing.assert_close(found, F.cross_entropy(S, target))


def test_pskd_needs_labels_numbers_and_setup():
    method = built("pskd")
    with pytest.raises(AttarError, match=r"call method.setup\(labels\) first"):
        method.losses(IMAGES, Y, index=torch.arange(2), epoch=0, epochs=1)
    with pytest.raises(AttarError, match=r"give losses\(..., index=\)"):
        method.losses(IMAGES, Y, epoch=0, epochs=1)
    with pytest.raises(AttarError, match="some have none"):
        method.setup(torch.tensor([0, -1]))
    with pytest.raises(AttarError, match="mixed images out"):
        method.batch_losses(Batch(IMAGES, torch.rand(2, 3), torch.arange(2)))


def test_ctkd_schedule_and_first_temperature():
    assert [reversal(torch.tensor(float(epoch)), 10).item() for epoch in (0, 5, 10, 99)] == pytest.approx(
        [0, -0.5, -1, -1]
    )
    method = built("ctkd", T)
    assert method.loss.temperature().item() == pytest.approx(15.621171, abs=1e-5)


@pytest.mark.parametrize(("epoch", "scale"), [(0, (math.cos(math.pi / 10) - 1) / 2), (4, -0.5), (9, -1.0)])
def test_ctkd_turns_the_gradient_of_the_temperature_and_no_other(epoch, scale):
    method = built("ctkd", T).double()
    found = method.losses(IMAGES, Y, epoch=epoch, epochs=20)
    found.total.backward()
    theta, student = torch.ones(1, dtype=torch.float64, requires_grad=True), S.clone().requires_grad_()
    expected = 0.1 * F.cross_entropy(student, Y) + 0.9 * losses.kl_divergence(student, T, 1 + 20 * theta.sigmoid())
    expected.backward()
    torch.testing.assert_close(found.total, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(method.loss.theta.grad, scale * theta.grad)
    torch.testing.assert_close(method.student.module.logits.grad, student.grad)
    assert theta.grad.abs().item() > 1e-6


def test_ctkd_has_a_temperature_for_each_image_that_moves_against_the_student():
    method = built("ctkd", T, per_image=True).double()
    torch.manual_seed(0)
    for parameter in method.loss.predictor[2].parameters():
        nn.init.normal_(parameter)
    both = torch.cat([S, T], 1)
    layers = [(layer.weight, layer.bias) for layer in (method.loss.predictor[0], method.loss.predictor[2])]
    own = [[one.detach().clone().requires_grad_() for one in layer] for layer in layers]
    theta = F.linear(F.linear(both, *own[0]).relu(), *own[1])
    student = S.clone().requires_grad_()
    temperature = 1 + 20 * theta.sigmoid()
    terms = (T / temperature).softmax(1) * ((T / temperature).log_softmax(1) - (student / temperature).log_softmax(1))
    expected = 0.1 * F.cross_entropy(student, Y) + 0.9 * (temperature**2 * terms).sum(1).mean()
    expected.backward()
    found = method.losses(IMAGES, Y, epoch=4, epochs=20)
    found.total.backward()
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(method.student.module.logits.grad, student.grad)
    torch.testing.assert_close(layers[0][0].grad, -0.5 * own[0][0].grad)
    assert (temperature[0] - temperature[1]).abs().item() > 0.01
    assert method.deployed() is method.student.module


def test_ctkd_starts_alike_for_each_image_and_for_all():
    totals = [
        built("ctkd", T, per_image=each).double().losses(IMAGES, Y, epoch=0).total.item() for each in (True, False)
    ]
    assert totals[0] == pytest.approx(totals[1], abs=1e-6)


def test_mlkd_at_its_published_weights():
    expected = 0.1 * CE + 0.9 * losses.mlkd(S, T).item()
    assert built("mlkd", T).losses(IMAGES, Y).total.item() == pytest.approx(expected, abs=1e-6)


def test_kdcl_targets():
    logits = torch.stack([S, T, U])
    expected = torch.tensor([[0, -2, -2.8], [-3, 0, -2.2]], dtype=torch.float64)
    torch.testing.assert_close(min_logit(logits, Y), expected)
    torch.testing.assert_close(naive(logits, Y), torch.stack([T[0], U[1]]))


def test_kdcl_linear_is_the_best_mixture():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 20, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (20,), generator=generator)
    shares = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None, None]
    best = torch.stack(
        [relative((share * logits[0] + (1 - share) * logits[1])[None], labels)[0].logsumexp(1) for share in shares]
    ).amin(0)
    found = relative(linear(logits, labels)[None], labels)[0].logsumexp(1)
    assert (found - best).abs().max().item() < 1e-5
    # The bound that "minlogit" is.
    assert (min_logit(logits, labels).logsumexp(1) <= found + 1e-12).all()


@pytest.mark.parametrize("ensemble", ["minlogit", "linear", "naive"])
def test_kdcl_total(ensemble):
    method = create_method("kdcl", student=Constant(S), peers=[Constant(T), Constant(U)], ensemble=ensemble)
    target = {"minlogit": min_logit, "linear": linear, "naive": naive}[ensemble](torch.stack([S, T, U]), Y)
    found = method.losses(IMAGES, Y)
    expected = sum(F.cross_entropy(one, Y) + losses.kl_divergence(one, target, 2.0) for one in (S, T, U))
    torch.testing.assert_close(found.total, expected)


def test_kdcl_refuses_what_it_cannot():
    with pytest.raises(AttarError, match="minlogit"):
        create_method("kdcl", student=Constant(S), peers=[Constant(T)], ensemble="minlogits")
    method = create_method("kdcl", student=Constant(S), peers=[Constant(T)])
    with pytest.raises(AttarError, match="and mixed images out"):
        method.losses(IMAGES, torch.rand(2, 3))


def test_cskd_is_the_mean_over_partners():
    logits = torch.cat([S, T, U])
    labels = torch.tensor([0, 1, 0, 2, 0, 1])

    def kl(to, of):
        return losses.kl_divergence(logits[None, of], logits[None, to], 4.0)

    pairs = {0: (2, 4), 2: (0, 4), 4: (0, 2), 1: (5,), 5: (1,)}
    expected = sum(sum(kl(j, i) for j in partners) / len(partners) for i, partners in pairs.items()) / len(pairs)
    torch.testing.assert_close(losses.same_class_kl(logits, logits, labels), expected)


def test_cskd_partners_do_not_learn_and_strangers_cost_nothing():
    learner, source = (torch.cat([S, T]).requires_grad_() for _ in range(2))
    losses.same_class_kl(learner, source.detach(), torch.tensor([0, 1, 0, 1])).backward()
    method = built("cskd", student=torch.cat([S, T]), ce=0.0)
    method.losses(IMAGES.repeat(2, 1, 1, 1), torch.tensor([0, 1, 0, 1])).total.backward()
    torch.testing.assert_close(method.student.module.logits.grad, learner.grad)
    assert built("cskd").losses(IMAGES, Y).total.item() == pytest.approx(CE, abs=1e-6)


def test_cskd_has_no_cube_of_the_batch():
    logits = torch.randn(1024, 100, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses.same_class_kl(logits, logits.detach(), torch.arange(1024) % 100).backward()
    assert math.isfinite(logits.grad.sum().item())


@pytest.mark.parametrize(("options", "expected"), [({}, CE + 0.072066), ({"temperature": 4.0}, CE + 0.102828)])
def test_born_again(options, expected):
    assert built("bornagain", T, **options).losses(IMAGES, Y).total.item() == pytest.approx(expected, abs=1e-6)


def test_born_again_by_confidence():
    confidence = T.softmax(1).amax(1)
    expected = (confidence / confidence.sum() * F.cross_entropy(S, Y, reduction="none")).sum()
    torch.testing.assert_close(built("bornagain", T, variant="cwtm").losses(IMAGES, Y).total, expected)


def test_born_again_with_permuted_classes():
    method = built("bornagain", T, variant="dkpp", ce=0.0)
    seen = {round(method.losses(IMAGES, Y, epoch=0, step=step).total.item(), 9) for step in range(40)}
    swapped = torch.stack([T[0, [0, 2, 1]], T[1, [2, 1, 0]]])
    orders = [torch.stack([a[0], b[1]]) for a in (T, swapped) for b in (T, swapped)]
    assert seen == {round(losses.kl_divergence(S, order, 1.0).item(), 9) for order in orders}


def test_permuted_keeps_the_largest_and_the_set():
    logits = torch.tensor([[1.0, 5.0, 2.0, 3.0], [9.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 9.0]])
    order = torch.tensor([[2, 0, 1]]).expand(3, -1)
    expected = [[3.0, 5.0, 1.0, 2.0], [9.0, 3.0, 1.0, 2.0], [3.0, 1.0, 2.0, 9.0]]
    assert losses.permuted(logits, order).tolist() == expected
    with pytest.raises(AttarError, match="give one permutation"):
        losses.permuted(logits, order[:, :2])


def test_born_again_refuses_a_variant_that_is_none():
    with pytest.raises(AttarError, match="cwtm"):
        create_method("bornagain", teacher=Constant(T), student=Constant(S), variant="cwt")


def test_past_predictions_are_saved():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        methods = [create_method("pskd", student=create_model("resnet8", 4, image_size=8)) for _ in range(2)]
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels, index = torch.arange(6) % 4, torch.arange(6)
    for method in methods:
        method.setup(labels)
    methods[0].train().losses(images, labels, index=index, epoch=0, epochs=2)
    methods[1].load_state_dict(methods[0].state_dict())
    assert torch.equal(methods[1].past.predictions, methods[0].past.predictions)
    assert not torch.equal(methods[1].past.predictions, F.one_hot(labels, 4).float())
