"""A method called from a loop of the user's: a plain dict, and a warning or one line where something is off."""

import copy
import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from attar.errors import AttarError
from attar.methods import create_method
from attar.methods.kd import KD
from attar.models import create_model

INPUTS, LABELS = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])


def net(name="resnet8"):
    return create_model(name, num_classes=5, in_channels=1, image_size=8)


def make(name="kd", **options):
    torch.manual_seed(0)
    return create_method(name, teacher=net("resnet14"), student=net(), **options).train()


def warned(call):
    """The messages of a call's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught]


def test_calling_a_method_gives_the_losses_as_a_plain_dict():
    method = make()
    out, losses = copy.deepcopy(method)(INPUTS, LABELS), copy.deepcopy(method).losses(INPUTS, LABELS)
    assert type(out) is dict
    assert list(out) == ["total", "labels->student.logits", "teacher.logits->student.logits"]
    assert torch.equal(out["total"], losses.total)
    assert all(torch.equal(out[key], losses[key]) for key in losses)


def test_a_schedule_without_its_epoch_is_warned_of_once():
    method = make("dkd")
    first, again = (warned(lambda: method(INPUTS, LABELS)) for _ in range(2))
    assert len(first) == 1
    assert "'teacher.logits->student.logits' follows a schedule and no epoch was given" in first[0]
    assert again == []
    assert warned(lambda: make("dkd")(INPUTS, LABELS, epoch=3)) == []
    assert warned(lambda: make("kd")(INPUTS, LABELS)) == []


def test_a_schedule_over_the_whole_training_needs_the_number_of_epochs():
    class Fading(KD):
        def transfers(self):
            yield self.label_edge(weight=lambda epoch, epochs: 1 - epoch / epochs)

    def method():
        return Fading(net("resnet14"), net()).train()

    assert "depends on the number of epochs" in warned(lambda: method()(INPUTS, LABELS, epoch=3))[0]
    assert warned(lambda: method()(INPUTS, LABELS, epoch=3, epochs=10)) == []


def test_a_method_that_draws_without_a_step_is_warned_of_once():
    method = make("unikd", warmup=0)
    first, again = (warned(lambda: method(INPUTS, LABELS, epoch=0)) for _ in range(2))
    assert [("no step was given" in line, "draws random numbers" in line) for line in first] == [(True, True)]
    assert again == []
    assert warned(lambda: make("unikd")(INPUTS, LABELS, epoch=0, step=1)) == []


def test_one_network_as_teacher_and_student_is_refused():
    one = net()
    with pytest.raises(AttarError, match="teacher and student are the same object"):
        create_method("kd", teacher=one, student=one)
    with pytest.raises(AttarError, match=r"share the parameter 'student.module.conv1.weight'.*copy.deepcopy"):
        KD(one, one)(INPUTS, LABELS)


def test_a_student_in_eval_mode_is_warned_of():
    method = make()
    method.student.module.eval()
    first, again = (warned(lambda: method(INPUTS, LABELS)) for _ in range(2))
    assert "layers are in eval mode while the method trains" in first[0]
    assert again == []
    with torch.no_grad():  # a validation loss
        assert warned(lambda: make().eval()(INPUTS, LABELS)) == []


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_without_the_bridge_is_warned_of(optimiser):
    def train(parameters):
        method = make("sokd")
        learner = optimiser(parameters(method), lr=0.01)

        def steps():
            for _ in range(3):
                learner.zero_grad()
                method(INPUTS, LABELS)["total"].backward()
                learner.step()

        return warned(steps)

    assert train(lambda method: method.trainable()) == []
    found = train(lambda method: method.student.parameters())
    assert len(found) == 1
    assert found[0].startswith("the optimiser does not move 'bridge.")


def test_an_optimiser_can_be_checked_beforehand():
    method = make("sokd")
    method.check_optimiser(torch.optim.SGD(method.trainable(), lr=0.1))
    with pytest.raises(AttarError, match=r"does not move 'bridge.* and \d+ more parameters.*method.trainable\(\)"):
        method.check_optimiser(torch.optim.SGD(method.student.parameters(), lr=0.1))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_class_numbers_of_any_integer_type(dtype):
    method = make()
    assert torch.equal(method(INPUTS, LABELS.to(dtype))["total"], make()(INPUTS, LABELS)["total"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 1, r"the labels hold 5, and 'student.logits' has the classes 0 to 4$"),
        (LABELS - 1, r"the labels hold -1, .*labelled= counts"),
        (LABELS + 0.5, r"labels of shape \(6,\) are class numbers and have to be integers, not float32"),
        (
            LABELS > 2,
            r"labels of shape \(6,\) are class numbers .*, not bool; give labels.long\(\), or task=multilabel",
        ),
        (
            LABELS[:, None] > 2,
            r"labels have shape \(6, 1\) and type torch.bool; expected class numbers of shape \(6,\)",
        ),
        (LABELS[:5], "6 inputs and 5 labels"),
        (LABELS.to("meta"), "labels are on meta and the method on cpu"),
    ],
)
def test_wrong_labels_are_one_line(labels, message):
    with pytest.raises(AttarError, match=message) as caught:
        make()(INPUTS, labels)
    assert "\n" not in str(caught.value)


def test_wrong_class_numbers_are_one_line_in_every_task_that_has_them():
    with pytest.raises(AttarError, match=r"the labels hold 5, and 'student.logits' has the classes 0 to 4"):
        make(task="text")(INPUTS, LABELS + 1)


def test_inputs_on_another_device_are_one_line():
    with pytest.raises(AttarError, match="inputs are on meta and the method on cpu"):
        make()(INPUTS.to("meta"), LABELS)


def test_unlabelled_rows_may_be_minus_one():
    labels = torch.tensor([0, 1, 2, -1, -1, -1])
    assert make()(INPUTS, labels, labelled=3)["total"].isfinite()


def in_two(rank, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    try:
        method = make("sokd")
        ddp = DistributedDataParallel(method)
        optimiser = torch.optim.SGD(method.trainable(), lr=0.05)
        torch.manual_seed(rank)
        try:
            ddp.module.losses(INPUTS, LABELS)
        except AttarError as error:
            results[f"refused{rank}"] = str(error)
        for step in range(3):
            inputs, labels = torch.randn(4, 1, 8, 8), torch.randint(5, (4,))
            optimiser.zero_grad()
            ddp(inputs, labels, epoch=0, step=step)["total"].backward()
            optimiser.step()
        del ddp  # before the group: its destructor could wait for ever
        results[rank] = {name: p.detach().clone() for name, p in method.named_parameters()}
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_under_ddp_hold_the_same_weights():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(in_two, args=(port, results), nprocs=2)
        one, other, refused = results[0], results[1], results["refused0"]
    start = dict(make("sokd").named_parameters())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(one[name], start[name]) for name in one)
    assert "losses() never synchronises gradients" in refused


@pytest.mark.parametrize("name", ["camkd", "ceskd", "rsd", "rld", "sdd"])
def test_methods_of_class_numbers_refuse_mixed_labels(name):
    with pytest.raises(AttarError, match=r"mixed images|mixing out|expected class numbers"):
        make(name)(INPUTS, torch.full((6, 5), 0.2), epoch=0, step=0)
