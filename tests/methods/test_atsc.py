"""ATSC: the oracles of its specification, an independent reference of its two steps, and what is deployed."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attar
from attar.batch import Address, Batch
from attar.conformance import check, check_method
from attar.errors import AttarError
from attar.methods.atsc import ATSC
from attar.models import SimKDProjector, Staged, build, create_model
from sweeps import first_of

CLASSES, SIZE = 6, 16
MSE, TETHER, CE = "teacher.map->student.for_teacher", "teacher_start.weights->teacher.weights", "labels->teacher.logits"
FAMILIES = ["resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def net(name: str = "resnet8", seed: int = 0, classes: int = CLASSES, **options: object) -> Staged:
    torch.manual_seed(seed)
    return create_model(name, num_classes=classes, image_size=SIZE, **options)


def wide(seed: int = 1, width: int = 24) -> Staged:
    return net("resnet8", seed, widths=(8, 16, width))


def method(teacher: object = None, student: Staged | None = None, **options: object) -> ATSC:
    """As the authors' code has it, unless the options say otherwise."""
    torch.manual_seed(9)
    options = {"profile": "code", **options}
    return attar.create_method("atsc", teacher=teacher or wide(), student=student or net(), **options).train()


def batch(size: int = 8, phase: str = "", classes: int = CLASSES, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator, dtype=dtype)
    return Batch(images, torch.randint(classes, (size,), generator=generator), address=Address(0, 0, 0), phase=phase)


def steps(one: ATSC, count: int, lr: float = 0.02, on: Batch | None = None) -> None:
    """As the training loop steps: each phase with its own forward pass and optimiser."""
    learners = {phase: torch.optim.SGD(one.trainable(phase), lr, 0.9, weight_decay=5e-4) for phase in one.phases}
    data = on or batch()
    for _ in range(count):
        for phase, learner in learners.items():
            one.losses(data.inputs, data.labels, phase=phase).total.backward()
            learner.step()
            one.zero_grad(set_to_none=True)


def teacher_of(one: ATSC) -> Staged:
    return one.teachers["teacher"].net


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def clone(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def drift(one: ATSC) -> float:
    held = one.teachers["teacher"]
    return sum((now - then).square().sum().detach().item() for now, then in zip(held.weights, held.start, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("update", ["layer", "bias", "none"])
def test_conformance(update):
    check_method("atsc", classifier_update=update)


# The oracles of the specification, in its order.


@pytest.mark.parametrize("w", [0.0, 100.0])
def test_oracle_1_a_frozen_teacher_makes_it_simkd(w):
    teacher, student = wide(), net()
    one = method(teacher, student, classifier_update="none", w=w)
    teacher_of(one).requires_grad_(False).eval()
    simkd = attar.create_method("simkd", teacher=teacher, student=copy.deepcopy(student)).train()
    simkd.student.load_state_dict(one.student.state_dict())
    data = batch()
    mine, theirs = one.batch_losses(data).total, simkd.batch_losses(data).total
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    mine.backward()
    theirs.backward()
    other = dict(simkd.student.named_parameters())
    for name, parameter in one.student.named_parameters():
        if not name.startswith("classifiers"):
            torch.testing.assert_close(parameter.grad, other[name].grad)
    assert all(parameter.grad is None for parameter in teacher_of(one).parameters())


@pytest.mark.parametrize("update", ["layer", "bias", "none"])
def test_a_tether_on_everything_leaves_only_what_the_labels_move(update):
    held = method(tether="all", classifier_update=update).teachers["teacher"]
    moved = {"layer": {"fc.weight", "fc.bias"}, "bias": {"fc.bias"}, "none": {"fc.weight", "fc.bias"}}[update]
    assert set(held.tied_names) == {name for name, _ in held.net.named_parameters()} - moved


def test_the_default_holds_the_teacher_and_its_parts_can_be_chosen():
    held, part = method(profile="held"), method(profile="held", w=3.0, teacher_lr=0.5, tether="kernels")
    assert (held.w, held.teacher_lr, len(held.teachers["teacher"].start)) == (10.0, 0.1, 30)
    assert (part.w, part.teacher_lr, len(part.teachers["teacher"].start)) == (3.0, 0.5, 10)
    assert attar.create_method("atsc", teacher=wide(), student=net()).w == 10.0
    with pytest.raises(AttarError, match="unknown profile 'helt'; did you mean 'held'"):
        method(profile="helt")


def test_the_teacher_moves_at_its_own_rate():
    one = method(profile="held", teacher_lr=0.25)
    theirs = {id(p) for p in teacher_of(one).parameters()}
    for phase, rates in (("", {0.5: False, 0.125: True}), ("classify", {0.125: True})):
        groups = one.parameter_groups(0.5, phase)
        assert {group["lr"]: all(id(p) in theirs for p in group["params"]) for group in groups} == rates
        assert sum(len(group["params"]) for group in groups) == len(one.trainable(phase))


def test_an_unknown_tether_is_named():
    with pytest.raises(AttarError, match="unknown tether 'kernel'; did you mean 'kernels'"):
        method(tether="kernel")


@pytest.mark.parametrize(("update", "has_classifier"), [("layer", False), ("bias", True), ("none", False)])
def test_oracle_2_tether_arithmetic(update, has_classifier):
    one = method(w=0.7, classifier_update=update).double()
    held, data = one.teachers["teacher"], batch(dtype=torch.float64)
    names = {name for name, parameter in held.net.named_parameters() if parameter.ndim == 4}
    assert set(held.tied_names) == names | ({"fc.weight"} if has_classifier else set())
    assert one.batch_losses(data)[TETHER].item() == 0.0
    deltas = [torch.randn_like(weight) for weight in held.weights]
    with torch.no_grad():
        for weight, delta in zip(held.weights, deltas, strict=True):
            weight.add_(delta)
    losses = one.batch_losses(data)
    expected = 0.7 * sum(delta.square().sum().item() for delta in deltas)
    assert losses.weights[TETHER] * losses[TETHER].item() == pytest.approx(expected, rel=1e-12)
    (0.7 * losses[TETHER]).backward()
    for weight, delta in zip(held.weights, deltas, strict=True):
        torch.testing.assert_close(weight.grad, 2 * 0.7 * delta, rtol=1e-10, atol=1e-12)


def test_oracle_3_the_start_stays():
    one = method()
    held, start = one.teachers["teacher"], [weight.clone() for weight in one.teachers["teacher"].start]
    steps(one, 3)
    assert all(map(torch.equal, held.start, start))
    assert not any(weight.requires_grad for weight in held.start)
    assert not any(map(torch.equal, held.weights, held.start))
    moved = one.to("meta")
    assert {weight.device.type for weight in moved.teachers["teacher"].start} == {"meta"}


def test_oracle_3_the_start_survives_a_resume():
    first = method()
    start = [weight.clone() for weight in first.teachers["teacher"].start]
    steps(first, 2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    # Built around other weights, as if the teacher's file had changed meanwhile.
    second = method(wide(seed=5), net(seed=6))
    second.load_state_dict(torch.load(file))
    assert all(map(torch.equal, second.teachers["teacher"].start, start))
    for one in (first, second):
        steps(one, 2)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize("update", ["layer", "bias", "none"])
def test_oracle_4_routing_of_the_feature_loss(update):
    student = net()
    one = method(student=student, classifier_update=update)
    one.batch_losses(batch())[MSE].backward()
    teacher = teacher_of(one)
    assert all(p.grad is None for p in [*teacher.classifier.parameters(), *student.classifier.parameters()])
    trunk = [p for name, p in teacher.named_parameters() if not name.startswith("fc")]
    for parameter in (*trunk, *one.student.trunk.parameters(), *one.student.projectors.parameters()):
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize(("update", "moved"), [("layer", {"fc.weight", "fc.bias"}), ("bias", {"fc.bias"})])
def test_oracle_5_the_second_step_moves_only_the_classifier(update, moved):
    one, data = method(classifier_update=update), batch(phase="classify")
    teacher, before = teacher_of(one), clone(one)
    losses = one.batch_losses(data)
    losses.total.backward()
    assert {name for name, p in teacher.named_parameters() if p.grad is not None} == moved
    assert all(p.grad is None for p in one.student.trunk.parameters())
    torch.optim.SGD(one.trainable("classify"), lr=0.01).step()
    after, parameters = one.state_dict(), {name for name, _ in one.named_parameters(remove_duplicate=False)}
    changed = {name for name in parameters if not torch.equal(before[name], after[name])}
    assert changed == {f"_teachers.teacher.net.{name}" for name in moved} | {
        f"student.classifiers.0.{name[3:]}" for name in moved
    }
    assert one.batch_losses(data).total.item() < losses.total.item()


def test_oracle_6_a_stronger_tether_holds_the_teacher_nearer():
    drifts = []
    for w in (0.0, 0.1, 1.0):
        one = method(w=w)
        steps(one, 6)
        drifts.append(drift(one))
    assert drifts[0] > drifts[1] > drifts[2] > 0


def test_oracle_6_a_free_teacher_comes_to_meet_the_student():
    free, fixed = method(w=0.0, classifier_update="none"), method(w=0.0, classifier_update="none")
    teacher_of(fixed).requires_grad_(False)
    for one in (free, fixed):
        steps(one, 10)
    assert free.batch_losses(batch())[MSE].item() < fixed.batch_losses(batch())[MSE].item()


@pytest.mark.filterwarnings("ignore:.*layers are in eval mode")
def test_oracle_7_what_is_deployed_answers_as_in_training():
    one = method()
    steps(one, 2)
    deployed = one.deployed().eval()
    with torch.no_grad():
        expected = one.eval().run(batch())["student.logits"]
        assert torch.equal(deployed(batch().inputs), expected)
    names = {name.split(".")[0] for name in deployed.state_dict()}
    assert names == {"trunk", "projectors", "classifiers"}
    steps(one.train(), 1)
    with torch.no_grad():
        assert torch.equal(deployed(batch().inputs), expected), "training on must not reach a copy"
        again = build(deployed.spec).eval()
        again.load_state_dict(deployed.state_dict())
        assert torch.equal(again(batch().inputs), expected)


@pytest.mark.parametrize(
    ("student", "teacher", "projectors"),
    [
        ("resnet8x4", "resnet32x4", (214_016, 70_400, 26_240)),
        ("vgg8", "resnet32x4", (246_784, 86_784, 34_432)),
        ("shufflenetv2_x1_5", "resnet32x4", (271_360, 99_072, 40_576)),
        ("mobilenetv2", "resnet32x4", (201_728, 64_256, 23_168)),
        ("wrn_16_2", "wrn_40_2", (53_760, 17_792, 6_720)),
    ],
)
def test_oracle_7_parameter_counts(student, teacher, projectors):
    # A shallow teacher of the same widths has the same last map.
    shallow = {"resnet32x4": "resnet8x4", "wrn_40_2": "wrn_16_2"}[teacher]
    pupil = net(student, classes=100)
    head = [getattr(pupil, part) for part in pupil.layout.head]
    for factor, expected in zip((2, 4, 8), projectors, strict=True):
        deployed = method(net(shallow, classes=100), pupil, factor=factor).deployed()
        assert count(deployed.projectors) == expected
        assert count(deployed) == count(pupil) - count(*head) + expected + count(deployed.classifiers)
    assert count(deployed.classifiers) == (25_700 if teacher == "resnet32x4" else 12_900)


@pytest.mark.parametrize(("factor", "expected"), [(2, 12_066_816), (4, 3_676_160), (8, 1_250_304)])
def test_oracle_7_parameter_counts_of_the_imagenet_pair(factor, expected):
    assert count(SimKDProjector(512, 2048, factor)) == expected
    assert count(nn.Linear(2048, 1000)) == 2_049_000


@pytest.mark.parametrize(
    ("teacher", "student", "shape"),
    [
        (("shufflenetv1", {}), ("resnet8", {}), (960, 2, 2)),  # the student's map is larger
        (("resnet8", {}), ("shufflenetv1", {}), (64, 2, 2)),  # the teacher's is
        (("resnet8", {}), ("wrn_16_1", {}), (64, 4, 4)),
        (("resnet8", {"widths": (8, 16, 33)}), ("resnet8", {}), (33, 4, 4)),  # an odd width halved
    ],
)
def test_oracle_8_geometry(teacher, student, shape):
    one = method(net(teacher[0], 1, **teacher[1]), net(student[0], **student[1]))
    knowledge = one.run(batch(4))
    projected, target = knowledge["student.for_teacher"], knowledge["teacher.map"]
    assert projected.shape == target.shape == (4, *shape)
    assert projected.min() >= 0
    assert knowledge["student.logits"].shape == (4, CLASSES)


def test_oracle_9_the_students_own_classifier_does_not_matter():
    student = net()
    one = method(student=student)
    before = one.deployed().eval()(batch().inputs)
    with torch.no_grad():
        student.fc.weight.normal_()
    assert torch.equal(one.deployed().eval()(batch().inputs), before)
    assert not any("fc" in name for name in one.student.trunk.state_dict())


def test_oracle_10_a_list_of_one_is_the_single_teacher():
    single, listed = method(wide()), method([wide()])
    assert single.state_dict().keys() == listed.state_dict().keys()
    for phase in single.phases:
        mine, theirs = (one.batch_losses(batch(phase=phase)) for one in (single, listed))
        assert torch.equal(mine.total, theirs.total)
        assert mine.terms.keys() == theirs.terms.keys()


def test_oracle_10_the_order_of_teachers_does_not_matter():
    pair = [wide(), net("vgg8", 2)]
    first, second = method(pair), method(pair[::-1])
    for number in (0, 1):
        second.student.projectors[number].load_state_dict(first.student.projectors[1 - number].state_dict())
    for one in (first, second):
        one.double()
    data = batch(dtype=torch.float64)
    mine, theirs = first.batch_losses(data), second.batch_losses(data)
    torch.testing.assert_close(mine.total, theirs.total)
    torch.testing.assert_close(mine.knowledge["student.logits"], theirs.knowledge["student.logits"])


def test_oracle_10_the_same_teacher_twice_says_the_same():
    single, double = method(wide()), method([wide(), wide()])
    double.student.trunk.load_state_dict(single.student.trunk.state_dict())
    for projector in double.student.projectors:
        projector.load_state_dict(single.student.projectors[0].state_dict())
    mine, theirs = single.batch_losses(batch()), double.batch_losses(batch())
    torch.testing.assert_close(mine.total, theirs.total)
    torch.testing.assert_close(mine.knowledge["student.logits"], theirs.knowledge["student.logits"])
    shared = [one.net for one in double.teachers.values()]
    assert shared[0] is not shared[1]


# An independent reference: both steps by hand, in double precision.


def by_hand(teacher: Staged, student: Staged, projector: nn.Module, data: Batch, update: str, w: float) -> None:
    """Three batches of the rule on bare networks, with torch's own functions."""
    start = {name: p.detach().clone() for name, p in teacher.named_parameters()}
    tied = [name for name, p in teacher.named_parameters() if p.ndim > 1 and (name != "fc.weight" or update == "bias")]
    last = [teacher.fc.bias] if update == "bias" else [teacher.fc.weight, teacher.fc.bias]
    trunk = [p for name, p in student.named_parameters() if not name.startswith("fc")]
    main = [p for p in teacher.parameters() if all(p is not other for other in last)]
    first = torch.optim.SGD([*main, *trunk, *projector.parameters()], 0.02, 0.9, weight_decay=5e-4)
    second = torch.optim.SGD(last, 0.02, 0.9, weight_decay=5e-4)
    for _ in range(3):
        theirs = teacher.features(data.inputs, ["stage3"]).tap("stage3")
        own = student.features(data.inputs, ["stage3"]).tap("stage3")
        loss = 0.5 * F.mse_loss(projector(own), theirs)
        for name, parameter in teacher.named_parameters():
            if name in tied:
                loss = loss + w * ((parameter - start[name]) ** 2).sum()
        first.zero_grad()
        loss.backward()
        first.step()
        second.zero_grad()
        F.cross_entropy(teacher(data.inputs), data.labels).backward()
        second.step()


@pytest.mark.parametrize("update", ["layer", "bias"])
def test_three_batches_equal_the_rule_by_hand(update):
    one = method(classifier_update=update, w=0.3, beta=0.5).double()
    teacher, student = copy.deepcopy(teacher_of(one)), net().double().train()
    student.load_state_dict(one.student.trunk.state_dict(), strict=False)
    projector, data = copy.deepcopy(one.student.projectors[0]), batch(dtype=torch.float64)
    by_hand(teacher, student, projector, data, update, w=0.3)
    steps(one, 3, on=data)
    trunk = {name: tensor for name, tensor in student.state_dict().items() if not name.startswith("fc")}
    for mine, theirs in (
        (teacher_of(one).state_dict(), teacher.state_dict()),
        (one.student.trunk.state_dict(), trunk),
        (one.student.projectors[0].state_dict(), projector.state_dict()),
    ):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-9, atol=1e-11)


def test_several_teachers_average_their_losses_and_logits():
    one = method([wide(), net("wrn_16_1", 2)], w=0.3, beta=0.5).double()
    with torch.no_grad():
        for parameter in one.teachers["teacher2"].net.parameters():
            parameter.add_(0.01)
    losses = one.batch_losses(batch(dtype=torch.float64))
    terms, expected = losses.terms, 0.0
    for name in ("teacher1", "teacher2"):
        feature, tether = (terms[f"{name}.map->student.for_{name}"], terms[f"{name}_start.weights->{name}.weights"])
        expected += (0.5 * feature + 0.3 * tether) / 2
    torch.testing.assert_close(losses.total, expected)
    student = one.student
    own = student.last_map(batch(dtype=torch.float64).inputs)
    outputs = [
        held.net.classifier(projector(own).mean((2, 3)))
        for held, projector in zip(one.teachers.values(), student.projectors, strict=True)
    ]
    torch.testing.assert_close(losses.knowledge["student.logits"], sum(outputs) / 2)


# Everything else that is promised.


def test_running_statistics_move_twice_a_batch():
    one = method()
    steps(one, 1)
    assert int(teacher_of(one).bn1.num_batches_tracked) == 2
    assert int(one.student.trunk.bn1.num_batches_tracked) == 1


def test_the_networks_given_stay():
    teacher = wide().requires_grad_(False).eval()
    before = clone(teacher)
    one = method(teacher)
    steps(one, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training
    assert all(parameter.requires_grad for parameter in teacher_of(one).parameters())


@pytest.mark.parametrize("update", ["layer", "bias", "none"])
def test_each_parameter_belongs_to_one_phase(update):
    one = method(classifier_update=update)
    phases = [[id(parameter) for parameter in one.trainable(phase)] for phase in one.phases]
    learning = {id(parameter) for parameter in one.parameters() if parameter.requires_grad}
    assert sorted(itertools.chain(*phases)) == sorted(learning)


@pytest.mark.parametrize("teacher", FAMILIES)
@pytest.mark.parametrize("student", first_of(["resnet8", "shufflenetv2"]))
def test_every_family_teaches(teacher, student):
    check(method(net(teacher, 1), net(student)), batch(2))


@pytest.mark.parametrize("student", FAMILIES)
def test_every_family_learns(student):
    check(method([wide(), net("shufflenetv2", 1)], net(student)), batch(3))


@pytest.mark.parametrize("classes", [2, 37])
def test_any_number_of_classes(classes):
    one = method(net("vgg8", 1, classes), net("wrn_16_1", 0, classes))
    check(one, batch(3, classes=classes))
    assert one.deployed().eval()(batch(3).inputs).shape == (3, classes)


def test_the_adapted_teachers_are_deployed_too():
    one = method([wide(), net("vgg8", 2)])
    nets = one.also_deployed()
    assert list(nets) == ["adapted teacher1", "adapted teacher2"]
    assert all(build(each.spec).load_state_dict(each.state_dict()) for each in nets.values())
    assert list(method().also_deployed()) == ["adapted teacher"]


@pytest.mark.parametrize("update", ["layer", "bias"])
def test_half_precision(update):
    one = method(classifier_update=update)
    for phase in one.phases:
        with torch.autocast("cpu", torch.bfloat16):
            total = one.batch_losses(batch(3, phase)).total
        total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in one.trainable() + one.trainable("classify"))


def test_the_drawing_says_who_teaches_whom():
    assert method().graph.mermaid().splitlines()[1:] == [
        '    teacher <-->|"1 x MSE map"| student',
        '    teacher_start -->|"1 x L2ToStart weights"| teacher',
        '    labels -->|"1 x CrossEntropy"| teacher',
    ]


def test_mistakes_are_named():
    with pytest.raises(AttarError, match="did you mean 'layer'"):
        ATSC(wide(), net(), classifier_update="layers")
    with pytest.raises(AttarError, match="6 classes and a teacher 7"):
        method(net(classes=7))
    with pytest.raises(AttarError, match="needs the stages of the teacher"):
        method(nn.Linear(2, 2))
    with pytest.raises(AttarError, match="needs a teacher"):
        ATSC([], net())
    bare = wide()
    bare.fc = nn.Linear(24, CLASSES, bias=False)
    with pytest.raises(AttarError, match="no bias to move"):
        method(bare, classifier_update="bias")
    check(method(bare), batch(3))
