"""Knowledge, edges, the total loss, composition and the views of who teaches whom."""

import pytest
import torch
from torch import nn

from attar.batch import Address, Batch
from attar.errors import AttarError
from attar.knowledge import Graph, Knowledge, Output, Transfer, owner, total_loss, union
from attar.losses import MSE, CrossEntropy, KLDivergence
from attar.schedules import LinearWarmup


class Distance(nn.Module):
    """A loss whose gradient reaches both ends, and whatever is given."""

    def forward(self, learner, source, *given):
        return (learner - source).square().mean() + sum(g.sum() for g in given if g.is_floating_point())


@pytest.fixture
def tensors():
    return {name: torch.randn(4, 3, requires_grad=True) for name in ("student", "teacher", "other")}


@pytest.fixture
def knowledge(tensors):
    return Knowledge(Batch(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 0])), **tensors)


def edge(**changes):
    return Transfer(**{"source": "teacher.logits", "target": "student.logits", "loss": Distance(), **changes})


def test_a_source_is_detached(knowledge, tensors):
    total_loss(knowledge, [edge()]).total.backward()
    assert tensors["student"].grad.abs().sum() > 0
    assert tensors["teacher"].grad is None


def test_learns_both_lets_the_gradient_reach_either_end(knowledge, tensors):
    total_loss(knowledge, [edge(learns="both")]).total.backward()
    torch.testing.assert_close(tensors["teacher"].grad, -tensors["student"].grad)


@pytest.mark.parametrize("learns", ["target", "both"])
def test_given_knowledge_never_learns(knowledge, tensors, learns):
    total_loss(knowledge, [edge(learns=learns, given=("other.logits",))]).total.backward()
    assert tensors["other"].grad is None


def test_a_tuple_of_tensors_is_detached_part_by_part(knowledge, tensors):
    class First(nn.Module):
        def forward(self, learner, source):
            return (learner - source[0] - source[1]).square().sum()

    knowledge.add("teacher.pair", (tensors["teacher"], tensors["other"]))
    total_loss(knowledge, [edge(source="teacher.pair", loss=First())]).total.backward()
    assert tensors["teacher"].grad is None
    assert tensors["other"].grad is None


def test_the_learner_passes_through_via(knowledge, tensors):
    via = nn.Linear(3, 3)
    term = total_loss(knowledge, [edge(via=via)])["teacher.logits->student.logits"]
    expected = (via(tensors["student"]) - tensors["teacher"]).square().mean()
    torch.testing.assert_close(term, expected)


def test_total_is_the_weighted_sum_of_the_terms(knowledge):
    losses = total_loss(knowledge, [edge(weight=0.25), edge(source="other.logits", weight=3.0)])
    first, second = losses.values()
    torch.testing.assert_close(losses.total, 0.25 * first + 3 * second)
    assert list(losses.weights.values()) == [0.25, 3.0]


def test_weight_zero_is_shown_but_does_not_teach(knowledge, tensors):
    losses = total_loss(knowledge, [edge(weight=0.0), edge(source="other.logits", name="on")])
    assert losses["teacher.logits->student.logits"] > 0
    assert not losses["teacher.logits->student.logits"].requires_grad
    torch.testing.assert_close(losses.total, losses["on"])


def test_a_nan_under_weight_zero_does_not_spoil_the_total(knowledge):
    knowledge.add("bad.logits", torch.full((4, 3), torch.nan))
    assert torch.isfinite(total_loss(knowledge, [edge(), edge(source="bad.logits", weight=0.0)]).total)


def test_a_ramp_follows_the_batch_epoch(tensors):
    batch = Batch(torch.zeros(4, 1, 2, 2), torch.zeros(4).long(), address=Address(epoch=4), epochs=50)
    losses = total_loss(Knowledge(batch, **tensors), [edge(weight=LinearWarmup(10, weight=2.0))])
    assert losses.weights == {"teacher.logits->student.logits": 1.0}


def test_only_edges_of_the_batch_phase_count(tensors):
    batch = Batch(torch.zeros(4, 1, 2, 2), torch.zeros(4).long(), phase="second")
    losses = total_loss(Knowledge(batch, **tensors), [edge(), edge(phase="second", name="later")])
    assert list(losses) == ["later"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"source": "techer.logits"}, r"unknown knowledge 'techer.logits'; did you mean 'teacher.logits'\?"),
        ({"target": "student.logit"}, "did you mean 'student.logits'"),
        ({"given": ("label",)}, "did you mean 'labels'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(knowledge, bad, message):
    with pytest.raises(AttarError, match=message):
        total_loss(knowledge, [edge(**bad)])


def test_two_edges_of_one_key_are_refused(knowledge):
    with pytest.raises(AttarError, match=r"two edges are called 'teacher.logits->student.logits'.*name="):
        total_loss(knowledge, [edge(), edge()])


def test_knowledge_given_twice_is_refused(knowledge):
    with pytest.raises(AttarError, match=r"'student.logits' was given twice"):
        knowledge.add("student.logits", torch.zeros(1))


def test_an_unknown_term_or_tap_names_the_nearest(knowledge):
    with pytest.raises(AttarError, match=r"unknown edge .* did you mean"):
        total_loss(knowledge, [edge()])["teacher.logits->student.logit"]
    with pytest.raises(AttarError, match="unknown tap 'stage4'; did you mean 'stage3'"):
        Output(torch.zeros(1, 2), {"stage3": torch.zeros(1)}).tap("stage4")


def test_taps_become_names_under_their_network():
    batch = Batch(torch.zeros(2, 1, 2, 2), torch.zeros(2).long())
    known = Knowledge(batch, net=Output(torch.zeros(2, 3), {"layer1.conv": torch.ones(1)}))
    assert list(known) == ["labels", "net.logits", "net.layer1.conv"]
    assert owner("net.layer1.conv") == "net"


def test_union_keeps_the_first_of_a_key():
    joined = union([edge(weight=0.1)], [edge(weight=9.0), edge(source="other.logits")])
    assert [(e.key, e.weight) for e in joined] == [
        ("teacher.logits->student.logits", 0.1),
        ("other.logits->student.logits", 1.0),
    ]


@pytest.fixture
def graph():
    return Graph(
        (
            Transfer("labels", "student.logits", CrossEntropy(), weight=0.1),
            Transfer("teacher.logits", "student.logits", KLDivergence(), weight=LinearWarmup(4)),
            Transfer("teacher.stage2", "student.stage2", MSE(), weight=2.0, via=nn.Linear(2, 2)),
            Transfer("student.logits", "peer.logits", KLDivergence(), weight=0.5, learns="both"),
            Transfer("student.stage3", "student.stage1", MSE(), weight=7.0, learns="both"),
        )
    )


def test_mermaid_text(graph):
    assert graph.mermaid().splitlines() == [
        "graph LR",
        '    labels -->|"0.1 x CrossEntropy"| student',
        '    teacher -->|"ramp x KLDivergence logits"| student',
        '    teacher -->|"2 x MSE stage2 via Linear"| student',
        '    student <-->|"0.5 x KLDivergence logits"| peer',
        '    student <-->|"7 x MSE stage3"| student',
    ]


def test_matrix_row_learns_from_column(graph):
    names, weights = graph.matrix(epoch=1, epochs=8)
    assert names == ["labels", "student", "teacher", "peer"]
    assert weights == [[0, 0, 0, 0], [0.1, 7.0, 2.5, 0.5], [0, 0, 0, 0], [0, 0.5, 0, 0]]
