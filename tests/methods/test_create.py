"""Methods by name: what create_method refuses, and what it accepts that is not of the zoo."""

import pytest
import torch
from torch import nn

from attar.batch import Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.methods import create_method, list_methods, method_info, register
from attar.methods.base import Method
from attar.models import create_model


class Plain(nn.Module):
    """Somebody's own network: no stages, no attributes, dropout, and a tuple of outputs."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.head = nn.Linear(width * 36, 4)

    def forward(self, images):
        return self.head(self.body(images))


@pytest.fixture
def plain():
    return {"teacher": Plain(8), "student": Plain(4)}


@pytest.fixture
def staged():
    make = {"num_classes": 4, "image_size": 16}
    return {"teacher": create_model("resnet14", **make), "student": create_model("resnet8", **make)}


def batch(size=8):
    return Batch(torch.randn(4, 3, size, size), torch.arange(4))


@pytest.mark.parametrize("name", ["kd", "dkd", "rkd", "kd+rkd"])
def test_any_module_can_be_taught(plain, name):
    method = create_method(name, **plain)
    check(method, batch())
    assert method.deployed() is plain["student"]


def test_any_module_can_be_a_peer(plain):
    check(create_method("dml", student=plain["student"]), batch())


def test_the_teacher_is_deterministic_although_the_method_trains(plain):
    method = create_method("kd", **plain).train()
    plain["teacher"].train()  # whoever else holds it
    images = batch()
    first, second = (method.run(images)["teacher.logits"] for _ in range(2))
    assert torch.equal(first, second)
    assert not any(module.training for module in plain["teacher"].modules())
    assert not plain["teacher"].body[1].num_batches_tracked


def test_the_student_runs_once_although_it_is_tapped(plain):
    create_method("rkd", **plain).batch_losses(batch())
    assert plain["student"].body[1].num_batches_tracked == 1


def test_the_teacher_is_neither_saved_nor_trained(plain):
    method = create_method("kd", **plain)
    assert {name.split(".")[0] for name in method.state_dict()} == {"student"}
    assert not any(parameter.requires_grad for parameter in plain["teacher"].parameters())
    assert len(method.trainable()) == len(list(plain["student"].parameters()))


def test_the_teacher_moves_with_the_method(plain):
    create_method("kd", **plain).to(torch.float64)
    assert plain["teacher"].head.weight.dtype == torch.float64


def test_a_method_does_not_change_another_of_its_class(plain):
    first = create_method("kd", **plain)
    second = create_method("kd", temperature=1.0, ce=0.5, teacher=Plain(8), student=Plain(4))
    assert [edge.weight for edge in first.edges] == [0.1, 0.9]
    assert [edge.weight for edge in second.edges] == [0.5, 0.9]


def test_state_names_come_in_the_same_order_every_time(staged):
    states = [list(create_method("kd+fitnet", **staged).state_dict()) for _ in range(2)]
    assert states[0] == states[1]


MISTAKES = [
    ("kdd", {}, "unknown method 'kdd'; did you mean 'kd'?"),
    ("kd", {"temprature": 2}, "unknown option of method 'kd': 'temprature'; did you mean 'temperature'?"),
    ("kd", {"teacher": None}, "method 'kd' needs a teacher (offline); give teacher="),
    ("kd", {"temperature": "hot"}, "method 'kd': temperature must be float, got 'hot'"),
    ("kd", {"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ("fitnet", {"stage": 1.5}, "method 'fitnet': stage must be int, got 1.5"),
    ("fitnet", {"regressor": "2x2"}, "'2x2'"),
    ("kd+", {}, "unknown method ''"),
]


@pytest.mark.parametrize(("name", "changes", "message"), MISTAKES)
def test_mistakes(staged, name, changes, message):
    with pytest.raises(AttarError) as caught:
        create_method(name, **{**staged, **changes}).losses(torch.zeros(2, 3, 16, 16), torch.zeros(2).long())
    assert message in str(caught.value)


def test_a_teacher_where_there_is_none(staged):
    for name in ("dml", "supervised"):
        with pytest.raises(AttarError, match=f"method '{name}' has no teacher"):
            create_method(name, **staged)


@pytest.mark.parametrize("name", ["at", "fitnet", "simkd"])
def test_methods_that_need_stages_say_so_and_name_others(plain, name):
    with pytest.raises(
        AttarError,
        match=rf"method '{name}' needs the stages of the teacher, and Plain has none.*\(kd, .*; {name} runs on",
    ):
        create_method(name, **plain)


def test_several_teachers_only_where_they_are_taken(staged):
    one, student = staged["teacher"], staged["student"]
    assert create_method("kd", teacher=[one], student=student).teacher.module is one
    with pytest.raises(AttarError, match="takes one teacher, got 2"):
        create_method("at", teacher=[one, one], student=student)


def test_a_network_without_a_linear_layer_has_no_pooled_feature():
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())
    with pytest.raises(AttarError, match="no linear layer"):
        create_method("rkd", teacher=net, student=Plain(4)).batch_losses(batch())


def test_the_base_says_what_to_define():
    method = Method()
    for call in (lambda: method.run(batch()), method.transfers, method.deployed):
        with pytest.raises(NotImplementedError, match="Method must define"):
            call()


def test_records():
    info = method_info("dkd")
    assert (info.paper, info.year, info.family, info.needs) == ("arXiv:2203.08679", 2022, "offline", ("logits",))
    assert info.defaults == {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, "warmup": 20, "ce": 1.0}
    assert info.takes_teacher
    assert info.needs_teacher
    assert not method_info("dml").takes_teacher
    assert list_methods("*kd", family="offline")
    assert "dml" not in list_methods(family="offline")


def test_every_method_says_what_its_options_are():
    for info in map(method_info, list_methods()):
        name, text = info.name, info.cls.__doc__ or ""
        if not info.cls.__module__.startswith("attar."):  # an example of the docs
            continue
        assert info.title, name
        assert not [option for option in info.defaults if f"{option}:" not in text], name


def test_a_taken_name_is_refused():
    with pytest.raises(AttarError, match="method 'kd' is registered already"):
        register("kd", title="", paper="", year=0, family="offline")(type("Mine", (Method,), {}))
