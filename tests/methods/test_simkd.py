"""SimKD: the trunk, the projector and the teacher's classifier."""

import pytest
import torch

from attar.batch import Batch
from attar.conformance import check
from attar.deploy import load, save
from attar.methods import create_method
from attar.models import create_model

NETS = ("resnet8", "wrn_16_1", "mobilenetv2", "shufflenetv2", "vgg8")


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def batch(size=16, count=4):
    return Batch(torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 5)


def simkd(teacher, student, size=16, **options):
    make = {"num_classes": 5, "image_size": size}
    return create_method(
        "simkd", teacher=create_model(teacher, **make), student=create_model(student, **make), **options
    )


def test_parameter_count_of_the_papers_pair():
    teacher, student = create_model("resnet32x4"), create_model("resnet8x4")
    net = create_method("simkd", teacher=teacher, student=student).deployed()
    assert parameters(net.projectors[0]) == 214_016
    assert parameters(net) == parameters(student) - parameters(student.fc) + 214_016 + parameters(teacher.fc)


@pytest.mark.parametrize(
    ("teacher", "student"), [*(("resnet8", name) for name in NETS), *((name, "resnet8") for name in NETS[1:])]
)
def test_families_mix_whatever_their_map_sizes(teacher, student, tmp_path):
    method = simkd(teacher, student, size=32)
    images = batch(32)
    check(method, images)
    values = method.eval().run(images)
    assert values["student.projected"].shape == values["teacher.aligned"].shape
    net = method.deployed().eval()
    torch.testing.assert_close(net(images.inputs), values["student.logits"])
    save(net, tmp_path / "student.safetensors")
    assert torch.equal(load(tmp_path / "student.safetensors")(images.inputs), net(images.inputs))


def test_predictions_are_the_teachers_classifier_on_the_projected_map():
    method = simkd("resnet14", "resnet8").eval()
    values = method.run(batch())
    expected = method.teacher.module.fc(values["student.projected"].mean((2, 3)))
    torch.testing.assert_close(values["student.logits"], expected)


def test_a_perfect_projection_predicts_what_the_teacher_does():
    method = simkd("resnet14", "resnet8").eval()
    values = method.run(batch())
    torch.testing.assert_close(method.student.classify(0, values["teacher.aligned"]), values["teacher.logits"])


def test_training_never_moves_the_classifier_nor_the_teacher():
    method = simkd("resnet14", "resnet8").train()
    teacher = {name: tensor.clone() for name, tensor in method.teacher.module.state_dict().items()}
    before = method.student.classifiers[0].weight.clone()
    learner = torch.optim.SGD(method.trainable(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        learner.zero_grad()
        method.batch_losses(batch()).total.backward()
        learner.step()
    assert torch.equal(method.student.classifiers[0].weight, before)
    assert torch.equal(method.deployed().classifiers[0].weight, method.teacher.module.fc.weight)
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in method.teacher.module.state_dict().items())


def test_labels_teach_nothing():
    assert simkd("resnet14", "resnet8").graph.nodes == ["teacher", "student"]


def test_loss_is_the_mean_square_of_the_maps():
    method = simkd("resnet14", "resnet8", weight=3.0).eval()
    losses = method.batch_losses(batch())
    values = losses.knowledge
    expected = 3 * (values["student.projected"] - values["teacher.aligned"]).square().mean()
    torch.testing.assert_close(losses.total, expected)
