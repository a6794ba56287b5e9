"""The check that every run starts with."""

from dataclasses import replace

import pytest
import torch

from attar.batch import Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import create_model


@pytest.fixture
def method():
    make = {"num_classes": 4, "image_size": 8}
    return create_method("fitnet", teacher=create_model("resnet14", **make), student=create_model("resnet8", **make))


def batch(scale=1.0):
    return Batch(scale * torch.randn(4, 3, 8, 8), torch.arange(4))


def test_the_method_is_as_before(method):
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    method.eval()
    assert check(method, batch())["labels->student.logits"] > 0
    assert not method.training
    assert all(parameter.grad is None for parameter in method.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


def test_images_of_another_shape_do_not_leave_traces(method):
    before = method.student.module.bn1.running_mean.clone()
    with pytest.raises((AttarError, RuntimeError)):
        check(method, Batch(torch.randn(4, 1, 8, 8), torch.arange(4)))
    assert torch.equal(method.student.module.bn1.running_mean, before)


def test_a_loss_that_is_not_finite_names_its_edges(method):
    with pytest.raises(AttarError, match=r"the loss of the first batch is nan; edges: labels->student.logits, teacher"):
        check(method, batch(float("nan")))


def test_a_phase_that_reaches_what_another_phase_steps(method):
    class Turns(type(method)):
        phases = ("", "again")

        def trainable(self, phase=""):
            return list(self.regressors.parameters()) if phase else list(self.parameters())

        def transfers(self):
            for edge in super().transfers():
                yield edge
                yield replace(edge, phase="again", name=f"{edge.key} again")

    mixed = Turns(teacher=method.teacher.module, student=method.student.module)
    with pytest.raises(AttarError, match=r"phase 'again' sends a gradient to 'student\..*', which it does not step"):
        check(mixed, batch())


@pytest.mark.parametrize("options", [{"layer_schedule": "progressive"}, {"layer_schedule": "stacked"}, {}])
def test_what_learns_in_the_middle_alone_learns(options):
    """Three layers with a regressor each, of which the second weighs nothing in the first and in the last epoch."""
    make = {"num_classes": 4, "image_size": 8}
    nets = {"teacher": create_model("resnet14", **make), "student": create_model("resnet8", **make)}
    weights = None if options else {"teacher.stage2->student.stage2": "between(2, 5)"}
    method = create_method("vid", **nets, weights=weights, **options)
    check(method, replace(batch(), epochs=8))


def test_what_never_learns_is_named():
    make = {"num_classes": 4, "image_size": 8}
    nets = {"teacher": create_model("resnet14", **make), "student": create_model("resnet8", **make)}
    method = create_method("vid", **nets, weights={"teacher.stage2->student.stage2": "from(9)"})
    with pytest.raises(AttarError, match=r"parameter 'regressors.1.0.weight' and \d+ more gets no gradient"):
        check(method, replace(batch(), epochs=8))
