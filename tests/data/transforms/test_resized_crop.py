import pytest
import torch

from attar.data.transforms.resized_crop import _by_weights, draw_boxes, resized_crop


def boxes_of(count, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), seed=0):
    return draw_boxes(count, size, scale, ratio, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(24, 24), (64, 48), (40, 52)])
def test_parts_are_torchvisions(torchvision, photographs, layout, size):
    boxes = boxes_of(len(photographs), (40, 52))
    result = resized_crop(photographs.contiguous(memory_format=layout), boxes, size)
    expected = [
        torchvision.functional.resized_crop(image, *box, size=list(size), antialias=True)
        for image, box in zip(photographs, boxes.tolist(), strict=True)
    ]
    assert torch.equal(result, torch.stack(expected))
    assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("size", [(24, 24), (64, 48)])
def test_the_way_of_other_devices_agrees(photographs, size):
    boxes = boxes_of(len(photographs), (40, 52))
    gap = (_by_weights(photographs, boxes, size).int() - resized_crop(photographs, boxes, size).int()).abs()
    assert gap.max() <= 1


def test_parts_have_the_shapes_of_torchvisions(torchvision):
    # The same distribution, from other random numbers: mean and spread of area and of the shape's logarithm agree.
    ours = boxes_of(4000, (40, 52)).double()
    image = torch.zeros(3, 40, 52, dtype=torch.uint8)
    torch.manual_seed(0)
    crop = torchvision.RandomResizedCrop(8)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in drawn]).double()
    for measured in (
        lambda b: b[:, 2] * b[:, 3] / 2080,
        lambda b: (b[:, 3] / b[:, 2]).log(),
        lambda b: b[:, 0] + b[:, 1],
    ):
        one, other = measured(ours), measured(theirs)
        error = (one.var() / 4000 + other.var() / 4000).sqrt()
        assert (one.mean() - other.mean()).abs() < 4 * error
        assert 0.9 < one.std() / other.std() < 1.1


def test_parts_lie_in_the_image_and_reach_every_border():
    top, left, height, width = boxes_of(3000, (20, 30)).unbind(1)
    assert top.min() == left.min() == 0
    assert (top + height).max() == 20
    assert (left + width).max() == 30
    assert height.min() >= 1
    area = (height * width) / 600
    assert 0.06 < area.min() < 0.1
    assert area.max() > 0.85


@pytest.mark.parametrize(("size", "expected"), [((10, 100), [0, 43, 10, 13]), ((100, 10), [43, 0, 13, 10])])
def test_what_never_fits_is_the_centre(size, expected):
    # The whole area of a long image cannot have an allowed shape.
    assert boxes_of(3, size, scale=(1.0, 1.0)).tolist() == [expected] * 3


def test_an_image_is_cut_alike_in_any_batch(photographs):
    boxes = boxes_of(6, (40, 52))
    alone = torch.cat([resized_crop(photographs[i : i + 1], boxes[i : i + 1], (24, 24)) for i in range(6)])
    assert torch.equal(alone, resized_crop(photographs, boxes, (24, 24)))
