"""ONE, OKDDip, CL-ILR, DKS and BYOT: their edges, and the rule of each by hand."""

import pytest
import torch
import torch.nn.functional as F

from attar.batch import Batch
from attar.methods import create_method
from attar.models import create_model

T = 3.0


def built(name, **options):
    torch.manual_seed(0)
    net = create_model("resnet8", num_classes=5, in_channels=1, image_size=8)
    return create_method(name, student=net, image_shape=(1, 8, 8), **options).double()


def batch():
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4), epochs=300)


def kl(source, learner, temperature=T):
    p, log_q = (source / temperature).softmax(1), (learner / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")


def logits(losses, *names):
    return [losses.knowledge[f"{name}.logits"].detach() for name in names]


@pytest.mark.parametrize(
    ("name", "paths"), [("one", 3), ("okddip", 4), ("clilr", 4), ("dks", 3), ("byot", 3), ("bdkd", 2)]
)
def test_every_path_learns_from_the_labels(name, paths):
    learners = {edge.target for edge in built(name).edges if edge.source == "labels"}
    assert len(learners - {"ensemble.logits"}) == paths


def test_one_at_the_end_of_its_ramp():
    method = built("one", ramp=0)
    losses = method.batch_losses(batch())
    names = ["student", *method.net.forks, "ensemble"]
    *paths, ensemble = logits(losses, *names)
    labels = batch().labels
    expected = sum(F.cross_entropy(one, labels) for one in (*paths, ensemble)) + sum(kl(ensemble, one) for one in paths)
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-9)


def test_clilr_learns_from_the_mean_of_the_others():
    method = built("clilr", heads=2)
    losses = method.batch_losses(batch())
    paths = logits(losses, "student", *method.net.forks)
    expected = sum(F.cross_entropy(one, batch().labels) for one in paths)
    expected += sum(kl((sum(paths) - one) / 2, one) for one in paths)
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-9)
    assert method.net.ilr


def test_dks_has_every_ordered_pair():
    method = built("dks")
    losses = method.batch_losses(batch())
    paths = logits(losses, "student", *method.net.forks)
    expected = sum(F.cross_entropy(one, batch().labels) for one in paths)
    expected += sum(kl(other, one, 1.0) for one in paths for other in paths if one is not other)
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-9)


def test_byot_learns_from_the_deepest_alone():
    method = built("byot", alpha=0.3, feature=0.5)
    losses = method.batch_losses(batch())
    deepest, *exits = logits(losses, "student", *method.net.forks)
    expected = 0.7 * sum(F.cross_entropy(one, batch().labels) for one in (deepest, *exits))
    expected += 0.3 * sum(kl(deepest, one) for one in exits)
    features = [losses.knowledge[f"{name}.projected"].detach() for name in ("student", *method.net.forks)]
    expected += 0.5 * sum((one - features[0]).square().sum() / 4 for one in features[1:])
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-9)
    edges = [edge.source for edge in method.edges if edge.source != "labels"]
    assert {edge.partition(".")[0] for edge in edges} == {"student"}


def test_okddip_lets_queries_and_keys_learn():
    method = built("okddip", ramp=0)
    method.batch_losses(batch()).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.shares.parameters())


def test_bdkd_peer_may_be_larger():
    method = built("bdkd", peer="resnet14")
    assert sum(p.numel() for p in method.peer1.parameters()) > sum(p.numel() for p in method.student.parameters())
    losses = method.batch_losses(batch())
    assert set(losses) == {
        "labels->student.logits",
        "labels->peer1.logits",
        "peer1.logits->student.logits",
        "student.logits->peer1.logits",
    }


@pytest.mark.parametrize("stages", [(1, 2), (2, 1)])
def test_peers_have_their_own_attention_in_whatever_order_they_are_listed(stages):
    method = built("uakd", rule="okddip", branches=[{"stage": stage, "name": f"at{stage}"} for stage in stages])
    losses = method.batch_losses(batch())
    _, outputs = method.net(batch().inputs)
    peers = list(outputs)
    pooled = [outputs[name].tap("pooled") for name in peers]
    keys = torch.stack([method.shares.keys[name](one) for name, one in zip(peers, pooled, strict=True)], 1)
    each = torch.stack([outputs[name].logits for name in peers], 1)
    for name, one in zip(peers, pooled, strict=True):
        shares = (method.shares.queries[name](one)[:, None] * keys).sum(2).softmax(1)
        torch.testing.assert_close(losses.knowledge[f"attention_of_{name}.logits"], (shares[..., None] * each).sum(1))
