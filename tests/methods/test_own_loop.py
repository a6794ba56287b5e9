"""A method called from a loop of the user's: a plain dict, and a warning or one line where something is off."""

import copy
import os
import pickle
import socket
import warnings
from collections import UserDict

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from attar.errors import AttarError, Stopped
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
        (LABELS.tolist(), "labels are a list; give a tensor on cpu"),
        (LABELS.numpy(), "labels are a ndarray; give a tensor on cpu"),
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


@pytest.mark.parametrize("labelled", [-1, 7])
def test_rows_that_are_not_there_have_no_label(labelled):
    with pytest.raises(AttarError, match=rf"labelled={labelled} of 6 rows; give how many of the first have a label"):
        make()(INPUTS, LABELS, labelled=labelled)


def test_a_batch_without_labels_learns_from_the_teacher_alone():
    found = make()(INPUTS, torch.full((6,), -1), labelled=0)
    assert found["labels->student.logits"] == 0
    torch.testing.assert_close(found["total"], 0.9 * found["teacher.logits->student.logits"])


def test_an_unknown_phase_is_refused():
    with pytest.raises(AttarError, match=r"phase='clasify': atsc has '', 'classify'"):
        make("atsc")(INPUTS, LABELS, phase="clasify")


class Words(nn.Module):
    """A language model of one layer; called by name it also takes a mask."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, ids=None, mask=None, input_ids=None):
        return self.head(self.embedding(ids if input_ids is None else input_ids))


def test_padding_of_transformers_does_not_count():
    torch.manual_seed(0)
    method = create_method("kd", teacher=Words(), student=Words(), task="language", temperature=2.0).train()
    ids = torch.randint(0, 7, (3, 5))
    labels = ids.clone()
    labels[:, 2:] = -100
    found = method(ids, labels)
    outputs = [net(ids)[:, :2].flatten(0, 1) for net in (method.teacher.module, method.student.module)]
    cross_entropy = F.cross_entropy(outputs[1], labels[:, :2].flatten())
    divergence = 4 * F.kl_div(
        *((one / 2).log_softmax(1) for one in outputs[::-1]), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(found["labels->student.logits"], cross_entropy)
    torch.testing.assert_close(found["teacher.logits->student.logits"], divergence)
    weight = (labels != -100).float()
    given = method(ids, labels.clamp(min=0), weight=weight)
    assert torch.equal(given["total"], found["total"])
    with pytest.raises(AttarError, match=r"the labels hold 9, and 'student.logits' has the classes 0 to 6"):
        method(ids, torch.full_like(ids, 9))


def test_what_a_tokenizer_gives_is_taken_by_name():
    method = create_method("kd", teacher=Words(), student=Words(), task="language").train()
    ids = torch.randint(0, 7, (3, 5))
    given = UserDict(input_ids=ids, mask=None)
    assert torch.equal(method(given, ids)["total"], method({"input_ids": ids}, ids)["total"])


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_the_first_call_may_be_compiled():
    expected = make()(INPUTS, LABELS, epoch=0, step=0)["total"]
    found = torch.compile(make(), backend="eager")(INPUTS, LABELS, epoch=0, step=0)["total"]
    torch.testing.assert_close(found, expected)


class Checkpointed(nn.Module):
    """Two layers, the first of which is computed again in the backward pass."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.second, self.reentrant = nn.Linear(64, 8), nn.Linear(8, 5), reentrant

    def forward(self, images):
        inputs = images.flatten(1).requires_grad_()
        return self.second(checkpoint(self.first, inputs, use_reentrant=self.reentrant))


def test_a_tap_without_gradients_is_refused():
    def method(reentrant):
        layers = {"student.first": "teacher.first"}
        nets = {"teacher": Checkpointed(False), "student": Checkpointed(reentrant)}
        return create_method("fitnet", **nets, layers=layers, image_shape=(1, 8, 8)).train()

    assert method(False)(INPUTS, LABELS)["total"].isfinite()
    with pytest.raises(AttarError, match=r"the tap 'first' runs without gradients .* give use_reentrant=False"):
        method(True)(INPUTS, LABELS)


@pytest.mark.parametrize("name", ["crd", "angularkd", "kd"])
def test_methods_can_be_pickled(name):
    method = make(name)
    assert pickle.loads(pickle.dumps(method)).state_dict().keys() == method.state_dict().keys()


def test_a_stopped_run_ends_a_loop_over_runs():
    assert not issubclass(Stopped, Exception)
    assert Stopped("runs/a").__notes__ == ["stopped; the state is saved: attar resume runs/a"]
    assert str(pickle.loads(pickle.dumps(Stopped("runs/a")))) == "runs/a"


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
        memory = make("crd")
        memory.setup(torch.arange(8) % 5)
        before, apart = memory.of_teacher.vectors.clone(), DistributedDataParallel(memory)
        for step in range(2):
            index = torch.tensor([0, 1]) + 2 * step + 4 * rank
            apart(INPUTS[:2], LABELS[:2], index=index, epoch=0, step=step)["total"].backward()
        results[f"moved{rank}"] = (memory.of_teacher.vectors != before).any(1).nonzero().flatten().tolist()
        del ddp, apart  # before the group: its destructor could wait for ever
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
        remembered = [results[f"moved{rank}"] for rank in (0, 1)]
    start = dict(make("sokd").named_parameters())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(one[name], start[name]) for name in one)
    assert "losses() never synchronises gradients" in refused
    # Each process remembers the images that it saw.
    assert remembered == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("name", ["camkd", "ceskd", "rsd", "rld", "sdd"])
def test_methods_of_class_numbers_refuse_mixed_labels(name):
    with pytest.raises(AttarError, match=r"mixed images|mixing out|expected class numbers"):
        make(name)(INPUTS, torch.full((6, 5), 0.2), epoch=0, step=0)
