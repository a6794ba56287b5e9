import pytest
import torch

from attar.data.transforms import colour


def apart(one, other):
    """The largest difference, and the share of values that differ."""
    gap = (one.int() - other.int()).abs()
    return gap.max().item(), (gap > 0).float().mean().item()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("brightness", "adjust_brightness"),
        ("saturation", "adjust_saturation"),
        ("contrast", "adjust_contrast"),
        ("sharpness", "adjust_sharpness"),
    ],
)
def test_blends_are_torchvisions(torchvision, photographs, ours, theirs):
    factors = torch.tensor([0.1, 0.73, 1.0, 1.27, 1.6, 1.9])
    reference = getattr(torchvision.functional, theirs)
    expected = torch.stack(
        [reference(image, factor.item()) for image, factor in zip(photographs, factors, strict=True)]
    )
    result = getattr(colour, ours)(photographs, factors)
    most, share = apart(result, expected)
    assert result.dtype == torch.uint8
    # A value that lands on a whole number may be cut down to the one below.
    assert most <= 1
    assert share < 0.01
    assert not torch.equal(result[0], photographs[0])
    assert torch.equal(result[2], photographs[2])


@pytest.mark.parametrize("bits", [8, 7, 4, 1])
def test_posterise_is_torchvisions(torchvision, photographs, bits):
    assert torch.equal(colour.posterise(photographs, bits), torchvision.functional.posterize(photographs, bits))


@pytest.mark.parametrize("threshold", [255.0, 178.5, 128.0, 0.0])
def test_solarise_is_torchvisions(torchvision, photographs, threshold):
    assert torch.equal(colour.solarise(photographs, threshold), torchvision.functional.solarize(photographs, threshold))


def uneven():
    """Images where a channel has one value, two, or all pixels but a few the same."""
    flat = torch.full((3, 3, 8, 8), 90, dtype=torch.uint8)
    flat[1, 0, :4] = 200
    flat[2, 1, 0, 0] = 255
    return flat


@pytest.mark.parametrize("change", ["autocontrast", "equalise"])
def test_stretches_are_torchvisions(torchvision, photographs, change):
    reference = getattr(torchvision.functional, change.replace("ise", "ize"))
    for images in (photographs, uneven()):
        most, share = apart(getattr(colour, change)(images), reference(images))
        assert most <= 1
        assert share < 0.005
    assert torch.equal(colour.equalise(photographs), torchvision.functional.equalize(photographs))


def test_tiny_images_have_nothing_to_sharpen():
    tiny = torch.randint(256, (2, 3, 2, 5), dtype=torch.uint8)
    assert torch.equal(colour.sharpness(tiny, torch.tensor([0.5, 1.5])), tiny)
