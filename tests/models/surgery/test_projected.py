"""The network that SimKD and ATSC deploy."""

import json

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import ProjectedNet, SimKDProjector, adapter, build, create_model, load_weights, match_size


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("name", ["resnet8x4", "vgg8", "mobilenetv2", "shufflenetv2", "wrn_16_2"])
def test_it_is_the_path_step_by_step(name):
    student = create_model(name).eval()
    teacher = create_model("resnet8x4").eval()
    images = torch.randn(2, 3, 32, 32)
    last = f"stage{len(student.stages)}"
    features = student.features(images, [last]).tap(last)
    target = teacher.features(images, ["final"]).tap("final")
    projector = SimKDProjector(features.shape[1], target.shape[1]).eval()
    net = ProjectedNet(student, projector, teacher.classifier, map_sizes=[target.shape[2:]]).eval()
    aligned, _ = match_size(features, target)
    torch.testing.assert_close(net(images), teacher.classifier(projector(aligned).mean((2, 3))))


@pytest.mark.parametrize("name", ["resnet8x4", "mobilenetv2", "wrn_16_2"])
def test_no_dead_parameters(name):
    student = create_model(name)
    channels = {"resnet8x4": 256, "mobilenetv2": 160, "wrn_16_2": 128}[name]
    projector, classifier = SimKDProjector(channels, 256), nn.Linear(256, 100)
    net = ProjectedNet(student, projector, classifier)
    head = [getattr(student, part) for part in student.layout.head]
    assert count(net) == count(student) - count(*head) + count(projector, classifier)
    net(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_student_stays_whole():
    student = create_model("resnet8")
    net = ProjectedNet(student, SimKDProjector(64, 16), nn.Linear(16, 100))
    assert student(torch.randn(2, 3, 16, 16)).shape == (2, 100)
    assert net.trunk.conv1.weight is student.conv1.weight
    with torch.no_grad():
        student.fc.weight.normal_()
    assert "trunk.fc.weight" not in net.state_dict()


def test_several_teachers_are_averaged():
    student = create_model("resnet8").eval()
    projectors = [SimKDProjector(64, 16).eval(), adapter((64, 4, 4), (24, 4, 4)).eval()]
    classifiers = [nn.Linear(16, 5), nn.Linear(24, 5)]
    images = torch.randn(2, 3, 16, 16)
    one, other = (ProjectedNet(student, p, c).eval()(images) for p, c in zip(projectors, classifiers, strict=True))
    torch.testing.assert_close(ProjectedNet(student, projectors, classifiers).eval()(images), (one + other) / 2)


def test_save_and_rebuild(tmp_path):
    student = create_model("resnet8", num_classes=5)
    projectors = [SimKDProjector(64, 16), adapter((64, 8, 8), (24, 4, 4))]
    net = ProjectedNet(student, projectors, [nn.Linear(16, 5), nn.Linear(24, 5, bias=False)], [(4, 4), (8, 8)]).eval()
    spec = json.loads(json.dumps(net.spec))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    rebuilt = build(spec).eval()
    load_weights(rebuilt, tmp_path / "net.pth")
    assert rebuilt.spec == spec
    assert rebuilt.input_shape == (3, 32, 32)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(rebuilt(images), net(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "0 projectors for 0 classifiers"),
        (([nn.Identity()], [nn.Linear(64, 5)] * 2), "1 projectors for 2 classifiers"),
        (([nn.Identity()] * 2, [nn.Linear(64, 5), nn.Linear(64, 7)]), r"have \[5, 7\] classes"),
        ((nn.Identity(), nn.Linear(64, 5), [(4, 4)] * 2), "2 map sizes for 1 projectors"),
    ],
)
def test_teachers_that_do_not_go_together(arguments, message):
    with pytest.raises(AttarError, match=message):
        ProjectedNet(create_model("resnet8"), *arguments)


def test_what_has_no_trunk_or_no_spec():
    with pytest.raises(AttarError, match="needs a staged student, not a Linear"):
        ProjectedNet(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 2))
    with pytest.raises(AttarError, match="made by hand has no spec"):
        _ = ProjectedNet(create_model("resnet8"), nn.Identity(), nn.Linear(64, 5)).spec
