"""Convolutions of several images in a row are torch's own, and taken only where they were faster."""

import pytest
import torch
from torch import nn

from attar.accel import packed_convolutions
from attar.accel import runtime as runtimes
from attar.accel.compiled_steps import Compiled
from attar.accel.function_override import FunctionOverride
from attar.accel.packed_convolutions import conv2d, in_rows, matrix_units
from attar.accel.runtime import Runtime
from attar.batch import Address, Batch
from attar.methods import create_method

HALF = Runtime(torch.device("cpu"), "bfloat16", "")


def leaves(batch=12, size=(4, 4), kernel=3, inputs=5, bias=False):
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, inputs, *size), (7, inputs, kernel, kernel), *([(7,)] if bias else [])]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel_and_stride", [(1, 1), (3, 1), (3, 2), (3, 3), (5, 1), (5, 2)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4), (7, 7), (8, 8), (3, 6), (6, 3), (5, 70)])
@pytest.mark.parametrize("batch", [2, 7, 12])
def test_value_and_gradients(batch, size, kernel_and_stride, bias):
    kernel, stride = kernel_and_stride
    given = leaves(batch, size, kernel, bias=bias)
    true = torch.conv2d(*given, stride=stride, padding=kernel // 2)
    mine = in_rows(*given, *([] if bias else [None]), stride)
    assert mine.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(mine, true, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(true.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(mine, given, upstream), torch.autograd.grad(true, given, upstream), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def taken(monkeypatch, x, weight, **options):
    """Whether a convolution is computed in rows; it is torch's own whatever way it is computed."""
    found = []
    monkeypatch.setattr(packed_convolutions, "in_rows", lambda *given: found.append(1) or in_rows(*given))
    mine, true = conv2d(x, weight, **options), torch.conv2d(x, weight, **options)
    assert (mine - true).float().norm() <= 0.01 * true.float().norm()
    return bool(found)


def half(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).bfloat16()


@pytest.mark.parametrize(
    ("size", "kernel", "options", "expected"),
    [
        (8, 3, {"padding": 1}, True),
        (9, 3, {"padding": 1}, False),
        (14, 3, {"padding": (1, 1), "stride": (2, 2)}, True),
        (16, 3, {"padding": 1, "stride": 2}, False),
        (7, 1, {}, True),
        (8, 1, {}, False),
        (4, 1, {"stride": 2}, False),
        (4, 5, {"padding": 2}, False),
        (4, 3, {}, False),
        (4, 3, {"padding": "same"}, False),
        (4, 3, {"padding": (1, 0)}, False),
        (4, 3, {"padding": 1, "stride": (1, 2)}, False),
        (4, 3, {"padding": 2, "dilation": 2}, False),
    ],
)
def test_where_it_was_faster(monkeypatch, size, kernel, options, expected):
    weight = half(128, 128, kernel, kernel)
    assert taken(monkeypatch, half(2, 128, size, size), weight, **options) is expected


@pytest.mark.parametrize("channels", [(127, 128), (128, 127)])
def test_not_with_few_channels(monkeypatch, channels):
    outputs, inputs = channels
    assert not taken(monkeypatch, half(2, inputs, 4, 4), half(outputs, inputs, 3, 3), padding=1)


def test_not_in_groups_nor_for_one_image_nor_in_float32(monkeypatch):
    x, weight = half(2, 128, 4, 4), half(128, 128, 3, 3)
    assert taken(monkeypatch, x, weight, padding=1)
    assert not taken(monkeypatch, half(2, 256, 4, 4), weight, padding=1, groups=2)
    assert not taken(monkeypatch, x[:1], weight, padding=1)
    assert not taken(monkeypatch, x[0], weight, padding=1)
    assert not taken(monkeypatch, x.float(), weight.float(), padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert taken(monkeypatch, x.float(), weight.float(), padding=1)


def test_an_export_in_float32_keeps_the_number_of_images_free():
    net, images = nn.Conv2d(128, 128, 3, padding=1), torch.export.Dim("images")
    with FunctionOverride({torch.conv2d: conv2d}):
        program = torch.export.export(net, (torch.zeros(2, 128, 4, 4),), dynamic_shapes=({0: images},))
    assert program.module()(torch.zeros(5, 128, 4, 4)).shape == (5, 128, 4, 4)


def a_method():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU()]
        student = nn.Sequential(nn.Conv2d(3, 128, 1), *convolutions, nn.Flatten(), nn.Linear(128 * 16, 6))
        return create_method("supervised", student=student).to(memory_format=torch.channels_last).train()


def a_batch():
    images = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(12) % 6, torch.arange(12), Address(0, 0, 0), epochs=1)


def gradient(method, losses_of):
    with HALF.computing():
        total = losses_of(a_batch()).total
    total.backward()
    found = torch.cat([parameter.grad.flatten() for parameter in method.parameters()])
    method.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_takes_it_on_a_processor_with_matrix_units(monkeypatch, compiled):
    usual, found, gradients = torch.compile, [], []
    monkeypatch.setattr(torch, "compile", lambda one, **options: usual(one, **{**options, "backend": "aot_eager"}))
    monkeypatch.setattr(packed_convolutions, "in_rows", lambda *given: found.append(1) or in_rows(*given))
    for units in (True, False):
        monkeypatch.setattr(runtimes, "matrix_units", lambda units=units: units)
        method = a_method()
        gradients.append(gradient(method, Compiled(method) if compiled else method.batch_losses))
        assert bool(found) is units, found
        found.clear()
    torch.compiler.reset()
    assert (gradients[0] - gradients[1]).norm() <= 0.02 * gradients[1].norm()


def test_matrix_units_are_what_torch_says(monkeypatch):
    for capabilities, expected in (({"amx_bf16": True}, True), ({"amx_bf16": False}, False), ({}, False)):
        matrix_units.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda output=capabilities: output, raising=False)
        assert matrix_units() is expected
    matrix_units.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not matrix_units()
    matrix_units.cache_clear()
