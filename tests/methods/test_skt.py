"""SKT: the oracles of its losses."""

import pytest
import torch

from attar.errors import AttarError
from attar.losses import inter_layer, intra_layer
from attar.losses.structured import _normalised, gram
from attar.methods import create_method
from attar.models import create_model

FS = (torch.arange(16, dtype=torch.float64) + 1).view(2, 2, 2, 2) / 10
FT = torch.tensor([1, 0, 2, 1, 0, 1, 1, 3, 2, 2, 0, 1, 1, 0, 1, 2], dtype=torch.float64).view(2, 2, 2, 2) / 4


def test_the_directions_of_one_image():
    cosines = 1 - torch.cosine_similarity(FS[0], FT[0], dim=0)
    assert cosines.flatten().tolist() == pytest.approx([0.803884, 0.051317, 0.236614, 0.010051], abs=1e-6)
    assert intra_layer([FS[:1]], [FT[:1]]).item() == pytest.approx(1.101865, abs=1e-6)


def test_the_gram_matrix_of_normalised_maps():
    first, second = (_normalised([maps[:1]])[0] for maps in (FS, FT))
    expected = [[0.316051, 0.922949]] * 2
    for row, numbers in zip(gram(first, second)[0].tolist(), expected, strict=True):
        assert row == pytest.approx(numbers, abs=1e-4)


def test_equal_and_scaled_maps_cost_nothing():
    rng = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 3, side, side, generator=rng, dtype=torch.float64) for side in (16, 8, 4, 4)]
    scaled = [(n + 2) * one for n, one in enumerate(maps)]
    assert intra_layer(maps, scaled).item() == pytest.approx(0, abs=1e-9)
    assert inter_layer(maps, scaled).item() == pytest.approx(0, abs=1e-4)  # the norm of 1e-5 in each variance


def test_all_pairs_of_seven_maps():
    rng = torch.Generator().manual_seed(0)
    own, theirs = ([torch.rand(1, 2, 4, 4, generator=rng, dtype=torch.float64) for _ in range(7)] for _ in range(2))
    normal = [_normalised(maps) for maps in (own, theirs)]
    pairs = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    assert len(pairs) == 21
    expected = sum(
        (gram(normal[0][i], normal[0][j]) - gram(normal[1][i], normal[1][j])).square().sum() for i, j in pairs
    )
    assert inter_layer(own, theirs).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 5), (6, 12)])
def test_maps_whose_sizes_were_rounded_down_are_brought_to_the_smallest(height, width):
    """Strides halve 9 to 4 and 4 to 2, which is no fourth of 9."""
    rng, shapes = torch.Generator().manual_seed(0), [(height, width)]
    while len(shapes) < 3:
        shapes.append(tuple(side // 2 for side in shapes[-1]))
    maps = [torch.rand(2, 3, *shape, generator=rng, dtype=torch.float64) for shape in shapes]
    assert [one.shape[2] for one in _normalised(maps)] == [shapes[-1][0] * shapes[-1][1]] * 3
    assert inter_layer(maps, maps).item() == 0 < inter_layer(maps, [one.flip(1) for one in maps]).item()


def test_the_batch_is_averaged():
    twice = [torch.cat([one[:1], one[:1]]) for one in (FS, FT)]
    for loss in (intra_layer, inter_layer):
        assert loss([twice[0]] * 2, [twice[1]] * 2).item() == pytest.approx(loss([FS[:1]] * 2, [FT[:1]] * 2).item())


def test_networks_of_other_maps_are_refused():
    counting = create_model("csrnet", num_classes=1, image_size=32, divisor=32)
    with pytest.raises(AttarError, match="stages"):
        create_method("skt", teacher=create_model("resnet8"), student=counting, task="density")


def test_nothing_of_the_training_is_deployed():
    teacher, student = (create_model("csrnet", num_classes=1, image_size=32, divisor=d) for d in (16, 32))
    method = create_method("skt", teacher=teacher, student=student, task="density")
    assert method.deployed() is student
    assert [edge.weight for edge in method.edges] == [1.0, 1.0, 0.5, 0.5]
