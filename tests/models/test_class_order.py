"""Class names decide what a teacher's logits mean: rows are reordered, or the weights refused."""

from dataclasses import replace

import pytest
import torch

from attar.data import load_data
from attar.deploy import save
from attar.errors import AttarError
from attar.experiments.build import build
from attar.models import class_rows, create_model, recorded_classes
from attar.recipe import ModelRecipe

NAMES = tuple("abcdefghij")


@pytest.fixture
def splits():
    held = load_data("digits")
    parts = {key: replace(getattr(held, key), classes=NAMES) for key in ("train", "val", "test") if getattr(held, key)}
    return replace(held, **parts)


def saved(folder, classes):
    net = create_model("resnet8", num_classes=len(classes), in_channels=1, image_size=8)
    save(net, folder / "teacher.safetensors", classes=list(classes))
    return net.eval(), ModelRecipe("resnet8", str(folder / "teacher.safetensors"))


def test_a_teacher_in_the_same_order_is_taken_as_it_is(tmp_path, splits):
    net, recipe = saved(tmp_path, NAMES)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(build(recipe, splits, 0, "teacher").eval()(images), net(images))


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_another_order_is_put_in_the_datas(tmp_path, splits, role):
    net, recipe = saved(tmp_path, NAMES[::-1])
    images = torch.randn(3, 1, 8, 8)
    with pytest.warns(UserWarning, match="has the data's classes in another order"):
        made = build(recipe, splits, 0, role).eval()
    torch.testing.assert_close(made(images), net(images).flip(1))


def test_other_classes_are_refused(tmp_path, splits):
    _, recipe = saved(tmp_path, [*NAMES[:6], "z", *NAMES[7:]])
    with pytest.raises(AttarError, match=r"teacher.safetensors was trained on other classes .* no 'g' and 'z', which"):
        build(recipe, splits, 0, "teacher")
    build(recipe, splits, 0, "student")
    build(replace(recipe, classes=list(range(10))), splits, 0, "teacher")


def test_numbers_for_names_decide_nothing():
    assert class_rows([f"LABEL_{number}" for number in range(3)], ["a", "b", "c"], "x") is None
    assert class_rows(["b", "a"], ["0", "1"], "x") is None


def test_the_names_of_a_hugging_face_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"id2label": {"0": "cat", "1": "dog"}}')
    assert recorded_classes(f"hf/{tmp_path}", None) == ["cat", "dog"]
    assert recorded_classes("resnet8", None) is None
