"""UAKD: the oracles of its reconstruction, independent formulas for every preset, and every family of the zoo."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import attar
from attar.batch import Address, Batch
from attar.conformance import check, check_method
from attar.errors import AttarError
from attar.knowledge import Knowledge, total_loss
from attar.losses import KLDivergence
from attar.methods.common import graph_presets as presets
from attar.methods.common.distill_graph import from_matrix, matrix_table
from attar.models import Branch, create_model
from attar.schedules import value

CLASSES, SIZE = 5, 8
THREE = {"a": [[2.0, 0, 0]], "b": [[0, 2.0, 0]], "c": [[0, 0, 2.0]]}
FIXTURE = {"main": [[1.0, 0, -1]], "a1": [[2.0, 0, 0]], "a2": [[0, 2.0, 0]], "b1": [[0, 0, 2.0]]}
GROUPS = {"A": ["a1", "a2"], "B": ["b1"]}


def network(name="resnet8", classes=CLASSES, size=SIZE):
    return create_model(name, num_classes=classes, image_size=size)


def method(student="resnet8", classes=CLASSES, **options):
    torch.manual_seed(0)
    return attar.create_method("uakd", student=network(student, classes), **{"width_mult": 1.0, **options})


def batch(size=6, classes=CLASSES, epoch=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(classes, (size,), generator=generator)
    return Batch(images, labels, torch.arange(size), Address(seed, epoch))


def tensors(logits):
    return {name: torch.as_tensor(z, dtype=torch.float64).clone() for name, z in logits.items()}


def losses_of(graph, logits, learned=None):
    """What each learner loses against its sources, from logits alone."""
    logits = tensors(logits) if not isinstance(next(iter(logits.values())), torch.Tensor) else logits
    size = len(next(iter(logits.values())))
    knowledge = graph.enter(Knowledge(Batch(torch.zeros(size, 1, 1, 1), torch.zeros(size).long()), **logits), learned)
    losses = total_loss(knowledge, graph.transfers())
    terms = dict.fromkeys(graph.objects, torch.zeros((), dtype=torch.float64))
    for key, term in losses.items():
        source, target = key.split("->")
        if source != "labels":
            terms[target.removesuffix(".logits")] = terms[target.removesuffix(".logits")] + losses.weights[key] * term
    return terms, losses


def total(graph, logits, learned=None):
    return float(sum(losses_of(graph, logits, learned)[0].values()))


def kl(learner, source, temperature=3.0):
    """T^2 KL(source || learner) in plain numpy."""
    p, q = (np.exp(np.asarray(z) / temperature) for z in (source, learner))
    p, q = (z / z.sum(1, keepdims=True) for z in (p, q))
    return temperature**2 * np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1))


def noise(*names, seed=0):
    return dict(zip(names, np.random.default_rng(seed).normal(size=(len(names), 4, 6)), strict=True))


NAMES = ("main", "x", "y", "z")


# 1


def test_oracle_1_numbers():
    assert total(presets.dml(list(THREE)), THREE) == pytest.approx(4.0828744, abs=5e-8)
    assert total(presets.cl_ilr(list(THREE)), THREE) == pytest.approx(2.9705114, abs=5e-8)


def test_oracle_1_mixture_and_pairwise_differ():
    rows = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    assert total(from_matrix("abc", rows), THREE) == pytest.approx(2.9705114, abs=5e-8)
    assert total(from_matrix("abc", rows, "pairwise", loss=KLDivergence(1.0)), THREE) == pytest.approx(4.0828744)
    assert total(from_matrix("abc", rows, "pairwise"), THREE) != pytest.approx(2.9705114, abs=1e-3)


def formulas():
    z = noise(*NAMES)
    every = list(z.values())
    gate = np.random.default_rng(5).dirichlet(np.ones(4), size=4)
    attention = np.random.default_rng(6).dirichlet(np.ones(3), size=(3, 4))
    branches = every[1:]
    gated = sum(gate[:, [j]] * every[j] for j in range(4))
    peers = [sum(attention[i][:, [j]] * branches[j] for j in range(3)) for i in range(3)]
    return z, {
        "kd": (kl(z["main"], sum(branches) / 3, 4.0), {}),
        "dml": (sum(kl(q, p, 1.0) for q in every for p in every if q is not p) / 3, {}),
        "dks": (sum(kl(q, p, 1.0) for q in every for p in every if q is not p), {}),
        "cl_ilr": (sum(kl(q, (sum(every) - q) / 3) for q in every), {}),
        "symmetric": (sum(kl(q, sum(branches) / 3) for q in every), {}),
        "eed": (sum(np.mean((q - sum(every) / 4) ** 2) for q in every), {}),
        "byot": (0.1 * sum(kl(q, z["main"]) for q in branches), {}),
        "one": (sum(kl(q, gated) for q in every), {"ensemble": torch.tensor(gate)}),
        "okddip": (
            kl(z["main"], sum(branches) / 3) + sum(kl(q, p) for q, p in zip(branches, peers, strict=True)),
            {f"attention_of_{name}": torch.tensor(rows) for name, rows in zip("xyz", attention, strict=True)},
        ),
    }


@pytest.mark.parametrize("name", sorted(formulas()[1]))
def test_oracle_1_presets_against_formulas(name):
    logits, expected = formulas()
    loss, learned = expected[name]
    graph = getattr(presets, name)(NAMES)
    assert total(graph, logits, learned) == pytest.approx(loss, abs=1e-12)
    assert set(learned) == set(graph.learned)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("kd", {"main": 1.0}), ("byot", dict.fromkeys(NAMES, 0.9)), ("one", dict.fromkeys((*NAMES, "ensemble"), 1.0)),
     ("dml", dict.fromkeys(NAMES, 1.0))],
)  # fmt: skip
def test_who_learns_from_the_labels(name, labels):
    assert getattr(presets, name)(NAMES).labels == labels


# 2


def test_oracle_2_the_fixture():
    graph = presets.uakd("main", GROUPS)
    terms, losses = losses_of(graph, FIXTURE)
    expected = {"main": 0.530055, "a1": 1.440422, "a2": 1.440422, "b1": 0.990170}
    assert {name: round(float(term), 6) for name, term in terms.items()} == expected
    assert float(sum(terms.values())) == pytest.approx(4.401070, abs=1e-6)
    assert losses.knowledge["A.logits"].tolist() == [[1, 1, 0]]
    assert losses.knowledge["B.logits"].tolist() == [[0, 0, 2]]
    assert losses.knowledge["A_and_B.logits"].tolist() == [[0.5, 0.5, 1]]


# 3


def test_oracle_3_the_matrix():
    graph = presets.uakd("main", {"A": ["a1", "a2"], "B": ["b1"], "C": ["c1", "c2", "c3"]})
    matrix = torch.tensor(graph.matrix, dtype=torch.float64)
    assert graph.objects == ("main", "a1", "a2", "b1", "c1", "c2", "c3")
    torch.testing.assert_close(matrix.sum(1), torch.ones(7, dtype=torch.float64))
    assert not matrix[:, 0].any()
    for rows in ([1, 2], [3], [4, 5, 6]):
        assert not matrix[rows][:, rows].any()
    assert not torch.equal(matrix, matrix.T)
    third = 1 / 3
    torch.testing.assert_close(matrix[0], torch.tensor([0, third / 2, third / 2, third, *[third / 3] * 3]).double())
    torch.testing.assert_close(matrix[1], torch.tensor([0, 0, 0, 0.5, *[0.5 / 3] * 3]).double())


def test_oracle_3_the_matrix_reproduces_the_fixture():
    matrix = torch.tensor(presets.uakd("main", GROUPS).matrix, dtype=torch.float64)
    logits = torch.stack([*tensors(FIXTURE).values()])
    targets = torch.einsum("ij,jbk->ibk", matrix, logits)
    terms = [kl(z.numpy(), t.numpy()) for z, t in zip(logits, targets, strict=True)]
    assert np.round(terms, 6).tolist() == [0.530055, 1.440422, 1.440422, 0.99017]
    assert total(from_matrix(list(FIXTURE), matrix.tolist()), FIXTURE) == pytest.approx(4.401070, abs=1e-6)


def test_oracle_3_permuting_a_group_changes_nothing():
    logits, graph = noise("main", "a1", "a2", "b1"), presets.uakd("main", GROUPS)
    swapped = {**logits, "a1": logits["a2"], "a2": logits["a1"]}
    assert total(graph, logits) == pytest.approx(total(graph, swapped), abs=1e-12)


# 4


def targets(graph, logits):
    knowledge = losses_of(graph, logits)[1].knowledge
    return {one.learner: knowledge[f"{one.source}.logits"] for one in graph.imitations}


def test_oracle_4_selectivity():
    logits, graph = noise("main", "a1", "a2", "b1"), presets.uakd("main", GROUPS)
    before = targets(graph, logits)
    changed = targets(graph, {**logits, "a1": logits["a1"] + np.arange(6)})
    same = {name for name in before if torch.equal(before[name], changed[name])}
    assert same == {"a1", "a2"}
    changed = targets(graph, {**logits, "main": logits["main"] + np.arange(6)})
    assert all(torch.equal(before[name], changed[name]) for name in before)


# 5


@pytest.mark.parametrize(
    "graph", [presets.uakd("main", GROUPS), presets.cl_ilr(list(FIXTURE)), presets.symmetric(list(FIXTURE))]
)
def test_oracle_5_only_learners_get_gradients(graph):
    logits = {name: z.requires_grad_() for name, z in tensors(noise(*FIXTURE)).items()}
    terms, _ = losses_of(graph, logits)
    before = targets(graph, noise(*FIXTURE))
    for learner, term in terms.items():
        gradients = torch.autograd.grad(term, [*logits.values()], allow_unused=True, retain_graph=True)
        for name, gradient in zip(logits, gradients, strict=True):
            if name != learner:
                assert gradient is None or not gradient.any()
                continue
            z, t = logits[name].detach(), before[name]
            expected = 3.0 * (F.softmax(z / 3, 1) - F.softmax(t / 3, 1)) / len(z)
            torch.testing.assert_close(gradient, expected)


def test_oracle_5_okddip_teaches_its_teachers_too():
    graph = presets.okddip(list(FIXTURE))
    logits = {name: z.requires_grad_() for name, z in tensors(noise(*FIXTURE)).items()}
    terms, _ = losses_of(graph, logits)
    (gradient,) = torch.autograd.grad(terms["a1"], logits["b1"])
    assert gradient.any()


# 6


def test_oracle_6_equal_logits_teach_nothing():
    same = dict.fromkeys(FIXTURE, noise("any")["any"])
    assert total(presets.uakd("main", GROUPS), same) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", ["uakd", *presets.PRESETS])
def test_oracle_6_without_branches_it_is_plain_training(rule):
    alone = method(replicas=0, rule=rule).train()
    plain = attar.create_method("supervised", student=copy.deepcopy(alone.deployed())).train()
    assert not alone.plan.learned
    one, other = alone.batch_losses(batch(epoch=80)), plain.batch_losses(batch(epoch=80))
    share = 0.9 if rule == "byot" else 1.0
    torch.testing.assert_close(one.total, share * other.total)


def test_oracle_6_one_group_is_cl_ilr():
    logits = noise("main", "x", "y", "z")
    terms, _ = losses_of(presets.uakd("main", {"only": ["x", "y", "z"]}), logits)
    among, _ = losses_of(presets.cl_ilr(["x", "y", "z"]), {name: logits[name] for name in "xyz"})
    whole, _ = losses_of(presets.cl_ilr(["main", "x", "y", "z"]), logits)
    assert {name: terms[name] for name in "xyz"} == among
    torch.testing.assert_close(terms["main"], whole["main"])


def test_oracle_6_alpha_0_is_deep_supervision():
    deep = method(alpha=0.0).train()
    losses = deep.batch_losses(batch(epoch=80))
    terms = [term for key, term in losses.items() if key.startswith("labels->")]
    assert len(terms) == 5
    torch.testing.assert_close(losses.total, sum(terms))


# 7


def test_oracle_7_the_ramp():
    weights = {edge.weight for edge in method().edges if edge.source != "labels"}
    for ramp in weights:
        assert [round(value(ramp, epoch, 300), 7) for epoch in (0, 1, 40, 80, 299)] == [
            0.0067379, 0.0076291, 0.2865048, 1, 1
        ]  # fmt: skip


def test_oracle_7_the_ramp_weighs_the_loss():
    one = method(alpha=2.0).train()
    for epoch, omega in ((0, 0.0067379), (40, 0.2865048), (90, 1.0)):
        losses = one.batch_losses(batch(epoch=epoch))
        taught = sum(2.0 * omega * term for key, term in losses.items() if "labels" not in key)
        supervised = sum(term for key, term in losses.items() if "labels" in key)
        torch.testing.assert_close(losses.total, supervised + taught)
    assert all(edge.weight == 1 for edge in method(ramp=0).edges)


# 8 and 9 are in tests/models/surgery/test_branches.py; here that the method hands them on


def test_oracle_8_the_default_is_two_branches_a_stage():
    torch.manual_seed(0)
    default = attar.create_method("uakd", student=create_model("resnet32"))
    sizes = [sum(p.numel() for p in branch.parameters()) for branch in default.net.branches.values()]
    assert sizes == [1_029_348, 1_029_348, 792_932, 792_932]


def test_oracle_9_divided_gradients_leave_the_forward_pass():
    plain, divided = method().train(), method(ilr=True).train()
    ours, theirs = plain.batch_losses(batch()), divided.batch_losses(batch())
    assert torch.equal(ours.total, theirs.total)
    ours.total.backward()
    theirs.total.backward()
    for (name, one), other in zip(plain.net.trunk.named_parameters(), divided.net.trunk.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad) == name.startswith(("layer3", "fc"))


# 10


def test_oracle_10_the_main_path_is_deployed():
    trained = attar.create_method("uakd", student=create_model("resnet32", image_size=SIZE), replicas=1)
    learner = torch.optim.SGD(trained.trainable(), lr=0.05)
    trained.train().batch_losses(batch(size=2)).total.backward()
    learner.step()
    student, plain = trained.deployed(), create_model("resnet32")
    assert list(student.state_dict()) == list(plain.state_dict())
    assert sum(p.numel() for p in student.parameters()) == 472_756
    plain.load_state_dict(student.state_dict())
    outputs = trained.eval().run(batch())["student.logits"]
    assert torch.equal(plain.eval()(batch().inputs), outputs)
    trained.net.branches.clear()
    trained.net.forks.clear()
    assert torch.equal(trained.net(batch().inputs)[0].logits, outputs)


# the whole loss


def test_the_whole_loss_against_numpy():
    one = method(ensemble_ce=True, alpha=0.5, ramp=0, temperature=2.0).train()
    losses = one.batch_losses(batch())
    z = {name: losses.knowledge[f"{name}.logits"].detach().double().numpy() for name in one.plan.objects}
    a, b = (z["branch1_1"] + z["branch1_2"]) / 2, (z["branch2_1"] + z["branch2_2"]) / 2
    labels = batch().labels.numpy()

    def ce(logits):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return -np.mean(np.log(p[np.arange(len(p)), labels]))

    taught = [(z["student"], (a + b) / 2), *((z[f"branch1_{n}"], b) for n in (1, 2)),
              *((z[f"branch2_{n}"], a) for n in (1, 2))]  # fmt: skip
    expected = sum(map(ce, [*z.values(), a, b])) + 0.5 * sum(kl(q, p, 2.0) for q, p in taught)
    assert float(losses.total.detach()) == pytest.approx(expected, rel=1e-5)


# the options


def test_the_graph_reads_well():
    text = method(ramp=0).graph.mermaid()
    for edge in ("group1_and_group2 -->", 'group2 -->|"1 x KLDivergence logits"| branch1_1', "labels -->"):
        assert edge in text
    assert "student -->" not in text
    names, matrix = method(ramp=0).graph.matrix()
    assert matrix[names.index("branch2_1")][names.index("group1")] == 1
    assert str(method().plan).splitlines()[1].split() == ["student", ".", "0.25", "0.25", "0.25", "0.25"]


def test_the_page_draws_the_graph_and_prints_the_matrix():
    page = (Path(__file__).parents[2] / "docs/methods/uakd.md").read_text(encoding="utf-8")
    assert method().graph.mermaid() in page
    assert all(line in page for line in str(method().plan).splitlines())


def test_any_method_prints_its_matrix():
    kd = attar.create_method("kd", teacher=network(), student=network())
    assert matrix_table(*kd.graph.matrix()).splitlines()[2].split() == ["student", "0.1", ".", "0.9"]


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"leader_teaches": True}, {"a1": [0.5, 0, 0, 0.5], "b1": [0.5, 0.25, 0.25, 0]}),
     ({"direction": "deeper"}, {"a1": [0.5, 0, 0, 0.5], "b1": [1, 0, 0, 0]})],
)  # fmt: skip
def test_other_directions(options, rows):
    graph = presets.uakd("main", GROUPS, **options)
    for name, row in rows.items():
        assert graph.matrix[graph.objects.index(name)] == row


def test_deeper_with_three_groups():
    graph = presets.uakd("main", {"A": ["a"], "B": ["b"], "C": ["c"]}, direction="deeper")
    third = pytest.approx(1 / 3)
    assert graph.matrix == [[0, third, third, third], [third, 0, third, third], [0.5, 0, 0, 0.5], [1, 0, 0, 0]]


def test_a_lone_branch_learns_from_the_labels():
    graph = presets.uakd("main", {"A": ["a1"]})
    assert graph.matrix == [[0, 1], [0, 0]]


def test_groups_by_stage_shape_and_name():
    branches = [Branch(1, 0.5, 1.0), Branch(1, 1.0, 2.0), Branch(2, 0.5, 1.0), {"stage": 2, "group": "own"}]
    plan = method(branches=branches).plan
    assert [name for name in plan.ensembles if "_and_" not in name] == ["group1", "group2", "own"]
    plan = method(branches=branches, group_by="shape").plan
    assert plan.ensembles["group1"] == {"branch1_1": 0.5, "branch2_1": 0.5}
    assert plan.ensembles["group2"] == {"branch1_2": 1.0}


def test_gates_share_a_group_for_each_sample():
    gated = method(ensemble="gate", ensemble_ce=True).train()
    trunk, branches = gated.net(batch().inputs)
    shares = gated.shares(trunk, branches)
    assert {name: tuple(share.shape) for name, share in shares.items()} == {"group1": (6, 2), "group2": (6, 2)}
    torch.testing.assert_close(shares["group1"].sum(1), torch.ones(6))
    losses = gated.batch_losses(batch())
    losses["labels->group1.logits"].backward(retain_graph=True)
    assert gated.shares.gates["group1"][0].weight.grad.any()
    gated.zero_grad()
    losses["group1.logits->branch2_1.logits"].backward()
    assert gated.shares.gates["group1"][0].weight.grad is None


def test_attention_is_learnt_through_the_targets():
    peers = method(rule="okddip").train()
    losses = peers.batch_losses(batch())
    shares = peers.shares(*peers.net(batch().inputs))
    assert set(shares) == set(peers.plan.learned)
    torch.testing.assert_close(shares["attention_of_branch1_1"].sum(1), torch.ones(6))
    losses["attention_of_branch1_1.logits->branch1_1.logits"].backward()
    assert peers.shares.queries["branch1_1"].weight.grad.any()
    assert peers.shares.keys["branch2_2"].weight.grad.any()


def test_features_meet_at_the_students_width():
    one = attar.create_method("uakd", student=network(), feature_weight=0.5).train()
    losses = one.batch_losses(batch())
    mean = losses.knowledge["features.mean"].detach()
    own = losses.knowledge["branch1_1.projected"]
    assert own.shape == losses.knowledge["student.projected"].shape == (6, 64)
    expected = (own - mean).square().sum(1).mean()
    torch.testing.assert_close(losses["features.mean->branch1_1.projected"], expected)
    assert losses.weights["features.mean->branch1_1.projected"] == 0.5
    assert not method().projections


# the suite, the zoo


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, *({"rule": rule, "replicas": 1} for rule in presets.PRESETS), {"ilr": True, "feature_weight": 0.1},
     {"ensemble": "gate", "ensemble_ce": True}, {"leader_teaches": True, "direction": "deeper"},
     {"branches": [{"stage": 1, "width_mult": 1}, {"stage": 2, "depth_ratio": 1}], "group_by": "shape"}],
)  # fmt: skip
def test_conformance(options):
    assert check_method("uakd", **options)


@pytest.mark.parametrize("family", ["resnet14", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_families(family):
    one = method(family, replicas=1, depth_ratio=0.2, width_mult=0.5 if family == "vgg8" else 1.0)
    check(one, batch(size=3))
    assert list(one.deployed().state_dict()) == list(network(family).state_dict())
    groups = len(one.net.trunk.stages) - 1
    assert sum(f"group{number}" in one.plan.ensembles for number in range(1, groups + 1)) == groups


@pytest.mark.parametrize("classes", [2, 13])
def test_any_number_of_classes(classes):
    assert check(method(classes=classes), batch(size=5, classes=classes)).total > 0


@pytest.mark.parametrize("rule", ["uakd", "one", "okddip"])
def test_bfloat16(rule):
    one = method(rule=rule).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = one.batch_losses(batch())
    losses.total.backward()
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in losses.terms.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rule": "uakt"}, "did you mean 'uakd'"), ({"group_by": "colour"}, "unknown group_by"),
     ({"direction": "up"}, "unknown direction"), ({"ensemble": "gate"}, "ensemble_ce"),
     ({"rule": "one", "leader_teaches": True}, "leader_teaches belongs to method.rule=uakd"),
     ({"branches": [{"stage": 5}]}, "stages 1..2"), ({"ensemble": "median"}, "did you mean 'mean'")],
)  # fmt: skip
def test_mistakes(options, message):
    with pytest.raises(AttarError, match=message):
        method(**options)


def test_mistakes_in_a_matrix():
    with pytest.raises(AttarError, match=r"sums to 0\.7"):
        from_matrix("ab", [[0.5, 0.2], [0, 0]])
    with pytest.raises(AttarError, match="2x2"):
        from_matrix("ab", [[0, 1]])
    with pytest.raises(AttarError, match="unknown mode"):
        from_matrix("ab", [[0, 1], [0, 0]], "mix")
    with pytest.raises(AttarError, match="unknown direction"):
        presets.uakd("main", GROUPS, direction="up")


def test_a_student_without_stages():
    with pytest.raises(AttarError, match="needs the stages of the student"):
        attar.create_method("uakd", student=torch.nn.Linear(2, 2))
