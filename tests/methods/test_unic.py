"""UNIC: its loss by hand, the teachers that are kept, the ladders, and a run on images without labels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.batch import Batch
from attar.errors import AttarError
from attar.losses import KeptTeachers, feature_distance
from attar.methods import create_method
from attar.methods.common.standard_scores import StandardScores
from attar.models import create_model
from attar.models.surgery.headless import headless

from ..losses.test_oracles import V_S, V_T


def test_the_distance_of_an_image_is_half_a_cosine_and_half_a_smooth_l1():
    expected = torch.tensor([0.675219, 0.108992, 0.916667], dtype=torch.float64)
    torch.testing.assert_close(feature_distance(V_S, V_T[:, :3]), expected, atol=1e-6, rtol=0)
    maps = [torch.stack([one, one.flip(0)], 2)[..., None] for one in (V_S, V_T[:, :3])]
    torch.testing.assert_close(feature_distance(*maps), (expected + expected.flip(0)) / 2, atol=1e-6, rtol=0)


def test_the_hardest_teacher_is_kept_and_the_others_where_the_draw_says_so():
    own = (V_S, V_S, V_S)
    theirs = (V_T[:, :3], V_S + 0.1, 2 * V_S)
    draws = torch.tensor([[0.1, 0.9, 0.2], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    each = torch.stack([feature_distance(V_S, one) for one in theirs])
    assert each.argmax(0).tolist() == [0, 2, 0]
    kept = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 0]])
    torch.testing.assert_close(KeptTeachers(0.5)(own, theirs, draws), (kept * each).sum() / 6)
    torch.testing.assert_close(KeptTeachers(0.0)(own, theirs, draws), each.mean())
    torch.testing.assert_close(KeptTeachers(1.0)(own, theirs, draws), each.amax(0).mean())
    two = KeptTeachers(0.0, cosine=1.0, smooth=0.0, kinds=2)((V_S,) * 4, (*theirs[:2], *theirs[1:]), draws[:, :2])
    cosines = [1 - F.cosine_similarity(V_S, one) for one in (*theirs[:2], *theirs[1:])]
    torch.testing.assert_close(two, torch.stack(cosines).mean())


def test_scores_of_parts_are_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    maps = 5 + 3 * torch.randn(40, 6, 3, 2, generator=generator, dtype=torch.float64)
    scores = StandardScores(6).double()
    for part in maps.split(7):
        scores.see(part)
    scores.settle()
    torch.testing.assert_close(scores.mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(scores.deviation, maps.movedim(1, 0).flatten(1).std(1))
    torch.testing.assert_close(scores(maps).std((0, 2, 3)), torch.ones(6, dtype=torch.float64), atol=1e-6, rtol=0)
    scores.see(torch.full((9, 6), 0.1))
    with pytest.raises(AttarError, match="the same for all images"):
        scores.settle()


def built(**options):
    torch.manual_seed(0)
    teachers = [create_model(name, 6, image_size=16) for name in ("resnet8x4", "resnet14")]
    method = create_method("unic", teacher=teachers, student=create_model("resnet8", 6, image_size=16), **options)
    images, labels = torch.randn(8, 3, 16, 16).double(), torch.arange(8) % 6
    for teacher in teachers:
        teacher.double()
    method.double().prepare([Batch(images[:5], labels[:5]), Batch(images[5:], labels[5:])])
    return method, images, labels


def ladder_by_hand(ladder, features):
    total = 0
    for rung, one in zip(ladder.heads, features, strict=True):
        (first, _, second), rows = rung, one.movedim(1, -1)
        hidden = F.gelu(rows @ first.weight.T + first.bias)
        total = total + hidden @ second.weight.T + second.bias
    return total.movedim(-1, 1)


def test_the_total_by_hand():
    method, images, labels = built(drop=0.5, cosine=0.7, smooth=0.2, ce=0.3)
    losses = method(images, labels, epoch=3, step=5)
    student = method.student(images, ["stage1", "stage2", "stage3", "pooled"])
    stages = [student.tap(f"stage{number}") for number in (1, 2, 3)]
    rows = []
    for place, name in enumerate(method.names):
        theirs = getattr(method, name)(images, ["stage3", "pooled"])
        distances = []
        for at, target in ((place, theirs.tap("pooled")), (place + 2, theirs.tap("stage3"))):
            axes = [0, *range(2, target.ndim)]
            mean, deviation = target.mean(axes, True), target.std(axes, keepdim=True)
            target = (target - mean) / (deviation + 1e-6)
            if target.ndim == 2:
                levels = [one.mean((2, 3)) for one in stages[:2]] + [student.tap("pooled")]
            else:
                levels = [F.adaptive_avg_pool2d(one, target.shape[-1]) for one in stages]
            own = ladder_by_hand(method.ladders[at], levels)
            cosine = 1 - F.cosine_similarity(own, target, dim=1)
            gap = F.smooth_l1_loss(own, target, reduction="none").mean(1)
            distance = 0.7 * cosine + 0.2 * gap
            distances.append(distance.flatten(1).mean(1) if distance.ndim > 1 else distance)
        rows.append(torch.stack(distances).mean(0))
    each = torch.stack(rows)
    known = method.run(Batch(images, labels, address=attar.batch.Address(0, 3, 5)))
    dropped = (known["teachers.draws"] < 0.5).T & (torch.arange(2)[:, None] != each.argmax(0))
    assert 0 < dropped.sum() < 8
    expected = each[~dropped].mean()
    torch.testing.assert_close(losses["teachers.targets->student.predictions"], expected, atol=1e-10, rtol=0)
    whole = 0.3 * F.cross_entropy(student.logits, labels) + expected
    torch.testing.assert_close(losses["total"], whole, atol=1e-10, rtol=0)


def test_preparing_leaves_the_student_as_it_is():
    torch.manual_seed(0)
    student = create_model("resnet8", 6, image_size=16)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    method = create_method("unic", teacher=create_model("resnet14", 6, image_size=16), student=student)
    method.prepare([Batch(torch.randn(8, 3, 16, 16), torch.arange(8) % 6)])
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_class_tokens_are_no_patches():
    pytest.importorskip("timm")
    teacher = headless(create_model("timm/test_vit", 6, input_size=16, image_size=16))
    student = headless(create_model("resnet8", 6, image_size=16))
    method = create_method("unic", teacher=teacher, student=student, task="features")
    assert attar.models.tap_shapes(teacher, ["stage4"])["stage4"][0] == 128
    assert [len(score.mean) for score in method.scores] == [64, 64]
    ends = [rung[0].in_features for rung in method.ladders[1].heads]
    assert ends == [16, 32, 64]
    assert [rung[0].out_features for rung in method.ladders[1].heads] == [16, 32, 256]


def test_networks_without_stages_are_named_and_pooled_features_alone_will_do():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3))
    options = {"teacher": net, "student": create_model("resnet8", 3, image_size=4), "image_shape": (3, 4, 4)}
    with pytest.raises(AttarError, match=r"Sequential has no stages; method.stages=false compares pooled features"):
        create_method("unic", **options)
    method = create_method("unic", **options, stages=False)
    assert len(method.ladders) == len(method.ladders[0].heads) == 1
    with pytest.raises(AttarError, match=r"drop=1.5 is no probability; give a number from 0 to 1"):
        create_method("unic", **options, drop=1.5)
