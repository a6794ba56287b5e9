"""Counting: density maps from dots, their losses and scores."""

import numpy as np
import pytest
import torch

from attar.conformance import check
from attar.data import divided
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.sources.cells import density, flipped, read, read_cells
from attar.data.tensor_set import TensorSet, TensorSplits
from attar.errors import AttarError
from attar.methods import create_method
from attar.models import create_model
from attar.recipe import read_recipe
from attar.tasks import create_task, task_name
from attar.tasks.density import counted
from attar.tasks.predictions import Request


@pytest.fixture
def cells(tmp_path):
    """Eight images of 32 x 32; image n has n + 1 dots, one in a corner."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{number:03d}cell.png")
        dots = np.zeros((32, 32), np.uint8)
        for column in range(number + 1):
            dots[3 * column, column] = 255
        image.fromarray(dots).save(tmp_path / f"{number:03d}dots.png")
    return tmp_path


def test_the_sums_of_the_maps_are_the_numbers_of_dots(cells):
    recipe = read_recipe(data={"name": "cells", "root": str(cells), "val_fraction": 0.25, "sigma": 3.0})
    task = create_task(task_name(recipe.task.name, recipe.data.name))
    splits = divided(task.load(recipe), 0.25, seed=0)
    assert task.output == "density"
    assert [len(one) for one in (splits.train, splits.val, splits.test)] == [3, 1, 4]
    assert splits.test.labels.sum((1, 2, 3)).tolist() == pytest.approx([5, 6, 7, 8], rel=1e-5)
    assert splits.test.shape == (3, 32, 32)


def test_dots_of_sixteen_bits_count_whatever_their_value(cells):
    image = pytest.importorskip("PIL.Image")
    expected = read_cells(cells).labels
    for file in cells.glob("*dots.png"):
        marks = np.asarray(image.open(file)).astype(np.uint16) // 255
        image.fromarray(marks).save(file)
    assert torch.equal(read_cells(cells).labels, expected)


def test_a_photograph_is_counted_upright(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8] = 255
    image.fromarray(pixels).save(tmp_path / "plain.png")
    exif = image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter to the right
    image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(read(tmp_path / "phone.png"), read(tmp_path / "plain.png"))


def test_too_many_pixels_are_one_line(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    image.new("1", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(AttarError, match=r"large.png cannot be read"):
        read(tmp_path / "large.png")


def test_a_dot_outside_is_refused():
    with pytest.raises(AttarError, match="row 4, column 16 lies outside the image of 16 x 8"):
        density(torch.tensor([[1, 1], [4, 16]]), (8, 16), 2.0)


def test_dots_of_another_size_are_refused(cells):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((40, 32), np.uint8)).save(cells / "002dots.png")
    with pytest.raises(AttarError, match=r"002dots.png is 32 x 40 pixels.*outside the image"):
        read_cells(cells)


def test_missing_and_damaged_files_are_named(cells):
    (cells / "003dots.png").unlink()
    with pytest.raises(AttarError, match=r"has no 003dots.png"):
        read_cells(cells)
    (cells / "003dots.png").write_bytes(b"no image")
    with pytest.raises(AttarError, match=r"003dots.png cannot be read"):
        read_cells(cells)
    with pytest.raises(AttarError, match="is no folder"):
        read_cells(cells / "nowhere")


def test_nan_is_refused():
    images = torch.zeros(3, 2)
    images[1, 1] = torch.nan
    with pytest.raises(AttarError, match="NaN or infinity in sample 1"):
        TensorSet(images, torch.zeros(3), "three", 1)


def test_sets_of_different_shapes_are_refused():
    one, other = (TensorSet(torch.zeros(2, size), torch.zeros(2), "x", 1) for size in (3, 4))
    with pytest.raises(AttarError, match="test samples are"):
        TensorSplits(one, other)


def test_a_mirrored_image_has_its_mirrored_map():
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(4, 1, 4, 4, generator=rng)
    images = maps.repeat_interleave(8, 2).repeat_interleave(8, 3)
    seen, truth = flipped(images, maps, torch.tensor([[0.1, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]]))
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(seen, 8), truth)
    assert torch.equal(truth[3], maps[3])
    assert not torch.equal(truth[0], maps[0])


@pytest.mark.parametrize("method", ["kd", "skt", "supervised", "at", "dml"])
def test_methods_learn_densities(method):
    samples = TensorSet(torch.randn(4, 3, 32, 32), torch.rand(4, 1, 4, 4), "four", 1, vary=flipped)
    teacher, student = (create_model("csrnet", num_classes=1, image_size=32, divisor=divisor) for divisor in (16, 32))
    alone = method in ("supervised", "dml")
    made = create_method(method, teacher=None if alone else teacher, student=student, task="density")
    losses = check(made, next(TensorLoader(samples, 4).epoch(0)))
    truth, found = samples.labels, losses.knowledge["student.density"]
    assert found.shape == truth.shape


def test_an_image_lower_than_one_cell_is_one_line(tmp_path):
    image = tmp_path / "strip.png"
    pytest.importorskip("PIL.Image").new("RGB", (40, 6)).save(image)
    request = Request(torch.nn.Identity(), {"mean": [0.5] * 3, "std": [0.5] * 3}, image)
    with pytest.raises(AttarError, match=r"strip.png has 40x6 pixels; a density map needs 8x8 or more"):
        counted(request)
