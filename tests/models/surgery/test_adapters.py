"""Projectors reach the teacher's shape from any student's."""

import json

import pytest
import torch
from torch import nn

from attar.errors import AttarError
from attar.models import SimKDProjector, adapter, build, match_size

MAP_KINDS = ["auto", "1x1", "3x3", "pool", "interpolate", "regressor"]


def shape_after(module, shape):
    return tuple(module(torch.randn(2, *shape)).shape[1:])


@pytest.mark.parametrize("kind", MAP_KINDS)
@pytest.mark.parametrize("size", [(8, 8), (4, 4), (16, 16), (5, 5), (7, 3), (11, 11), (4, 16)])
def test_map_to_map(kind, size):
    module = adapter((6, 8, 8), (10, *size), kind)
    assert shape_after(module, (6, 8, 8)) == (10, *size)
    assert (module(torch.randn(2, 6, 8, 8)) >= 0).all()


@pytest.mark.parametrize("kind", ["auto", "linear"])
@pytest.mark.parametrize("shape", [(6,), (6, 8, 8)])
def test_to_vector(kind, shape):
    module = adapter(shape, (10,), kind)
    assert shape_after(module, shape) == (10,)
    assert sum(parameter.numel() for parameter in module.parameters()) == 70


@pytest.mark.parametrize(
    ("new", "kernel", "stride"), [((8, 8), (1, 1), 1), ((4, 4), (3, 3), 2), ((16, 16), (4, 4), 2), ((6, 5), (3, 4), 1)]
)
def test_regressor_is_fitnets(new, kernel, stride):
    conv, norm, relu = adapter((6, 8, 8), (10, *new), "regressor")
    assert conv.kernel_size == kernel
    assert conv.stride == (stride, stride)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(relu, nn.ReLU)


def test_without_relu_a_regressor_gives_negative_values():
    module = adapter((6, 8, 8), (10, 8, 8), relu=False)
    assert (module(torch.randn(2, 6, 8, 8)) < 0).any()


@pytest.mark.parametrize("kind", ["pool", "interpolate"])
def test_resizing_alone_has_no_parameters(kind):
    module = adapter((6, 8, 8), (6, 4, 4), kind)
    assert not list(module.parameters())
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(adapter((6, 8, 8), (6, 8, 8), kind)(x), x)


def test_pooling_averages():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert adapter((1, 4, 4), (1, 2, 2), "pool")(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((6,), (10, 4, 4)), "cannot make a map"),
        (((6, 8), (10,)), "shapes are"),
        (((6, 8, 8), (10,), "3x3"), "makes maps, not the vector"),
        (((6, 8, 8), (10, 4, 4), "linear"), "makes vectors, not the map"),
        (((6,), (10,), "lineer"), "unknown kind of adapter 'lineer'; did you mean 'linear'"),
    ],
)
def test_what_cannot_be_adapted(arguments, message):
    with pytest.raises(AttarError, match=message):
        adapter(*arguments)


@pytest.mark.parametrize(
    "make", [lambda: adapter((6, 8, 8), (10, 4, 4), "3x3", relu=False), lambda: SimKDProjector(6, 9)]
)
def test_specs_rebuild(make):
    module = make()
    rebuilt = build(json.loads(json.dumps(module.spec)))
    assert rebuilt.spec == module.spec
    rebuilt.load_state_dict(module.state_dict())
    assert str(rebuilt) == str(module)


@pytest.mark.parametrize(
    ("student", "teacher", "counts"),
    [
        (256, 256, (214_016, 70_400, 26_240)),
        (512, 256, (246_784, 86_784, 34_432)),
        (704, 256, (271_360, 99_072, 40_576)),
        (160, 256, (201_728, 64_256, 23_168)),
        (128, 128, (53_760, 17_792, 6_720)),
        (512, 2048, (12_066_816, 3_676_160, 1_250_304)),
    ],
)
def test_simkd_parameters(student, teacher, counts):
    for factor, expected in zip((2, 4, 8), counts, strict=True):
        module = SimKDProjector(student, teacher, factor)
        assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_simkd_output():
    out = SimKDProjector(6, 9)(torch.randn(2, 6, 4, 4))
    assert out.shape == (2, 9, 4, 4)
    assert (out >= 0).all()
    with pytest.raises(AttarError, match="leaves nothing of 4 channels"):
        SimKDProjector(6, 4, factor=8)


@pytest.mark.parametrize(("student", "teacher", "both"), [(8, 4, 4), (4, 8, 4), (8, 8, 8)])
def test_the_larger_map_is_averaged(student, teacher, both):
    x, y = torch.randn(2, 3, student, student), torch.randn(2, 5, teacher, teacher)
    one, other = match_size(x, y)
    assert one.shape == (2, 3, both, both)
    assert other.shape == (2, 5, both, both)
    torch.testing.assert_close(one.mean((2, 3)), x.mean((2, 3)))
    assert student > teacher or one is x
