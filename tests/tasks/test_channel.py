"""CSI feedback: the NMSE, channels from files and from Sionna, and bad input."""

import numpy as np
import pytest
import torch

from attar.batch import Batch
from attar.data import divided
from attar.data.loading.tensor_loader import TensorLoader
from attar.data.sources.channels import parts, read_channels, turned
from attar.data.sources.simulated_channels import Simulation, angular, drops, simulated
from attar.errors import AttarError
from attar.metrics.channel import ChannelMetrics, decibels, nmse
from attar.recipe import read_recipe
from attar.tasks import create_task, task_name


def noise(*shape, seed=0):
    """Complex channels, in double precision."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def as_parts(channels):
    """(N, D, A) complex as (N, 2, D, A)."""
    return np.stack([channels.real, channels.imag], 1)


def scored(found, channels, **keys):
    metrics = ChannelMetrics()
    metrics.update(found, Batch(channels, channels, **keys))
    return metrics.compute()["nmse"]


def test_nine_tenths_of_any_channel_are_minus_20_db():
    for seed in range(3):
        channels = torch.from_numpy(as_parts(noise(5, 4, 8, seed=seed)))
        assert scored(0.9 * channels, channels) == pytest.approx(-20.0, abs=1e-9)
    assert scored(channels, channels) == -300.0
    assert scored(torch.zeros_like(channels), channels) == pytest.approx(0.0, abs=1e-12)


def test_two_real_channels_are_complex_arithmetic():
    channels, found = noise(6, 4, 8), noise(6, 4, 8, seed=1)
    expected = np.mean(
        [np.linalg.norm(a - b) ** 2 / np.linalg.norm(b) ** 2 for a, b in zip(found, channels, strict=True)]
    )
    real = scored(torch.from_numpy(as_parts(found)), torch.from_numpy(as_parts(channels)))
    assert real == pytest.approx(10 * np.log10(expected), abs=1e-10)
    assert nmse(torch.from_numpy(found), torch.from_numpy(channels)).mean().item() == pytest.approx(expected, abs=1e-12)


def test_batches_of_any_size_and_weights_give_the_mean_over_what_counts():
    channels, found = (torch.from_numpy(as_parts(noise(6, 4, 8, seed=seed))) for seed in (0, 1))
    metrics, teacher = ChannelMetrics(), 0.9 * found
    for rows in (slice(0, 1), slice(1, 6)):
        metrics.update(found[rows], Batch(channels[rows], channels[rows]), teacher[rows])
    scores = metrics.compute()
    assert scores["nmse"] == pytest.approx(scored(found, channels), abs=1e-10)
    assert scores["gap"] == pytest.approx(10 * np.log10((0.1 / 0.9) ** 2), abs=1e-9)
    weight = torch.tensor([1.0, 1, 0, 0, 0, 0])
    assert scored(found, channels, weight=weight) == pytest.approx(scored(found[:2], channels[:2]), abs=1e-10)


def test_the_loss_is_the_nmse_of_prepared_channels():
    channels, _ = parts(7 * noise(4, 3, 5), "noise")
    found = channels + 0.1 * torch.randn(channels.shape, generator=torch.Generator().manual_seed(0))
    loss = create_task("channel").supervise()(found, channels)
    assert decibels(loss.item()) == pytest.approx(scored(found, channels), abs=1e-5)


def test_complex_and_real_files_are_the_same_data_and_scales_bring_them_back(tmp_path):
    channels = noise(10, 4, 8)
    np.savez(tmp_path / "complex.npz", inputs=channels)
    np.savez(tmp_path / "real.npz", inputs=as_parts(channels)[:8], test=as_parts(channels)[8:])
    one, other = (read_channels(tmp_path / f"{name}.npz") for name in ("complex", "real"))
    assert [len(one.train), len(one.test)] == [8, 2]
    for name in ("train", "test"):
        assert torch.equal(getattr(one, name).inputs, getattr(other, name).inputs)
    found, scale = parts(channels, "noise")
    assert np.allclose(found.numpy() * scale.numpy()[:, None, None, None], as_parts(channels), atol=1e-6)
    assert found.square().mean((1, 2, 3)).tolist() == pytest.approx([1.0] * 10, rel=1e-5)


def test_a_recipe_of_channels_loads_and_phases_turn_channel_and_label_alike(tmp_path):
    np.savez(tmp_path / "mine.npz", inputs=noise(10, 4, 8))
    recipe = read_recipe(data={"name": "channels", "root": str(tmp_path / "mine.npz"), "test_fraction": 0.5})
    splits = divided(create_task(task_name("", "channels")).load(recipe), 0.2, seed=0)
    assert [len(one) for one in (splits.train, splits.val, splits.test)] == [4, 1, 5]
    assert splits.network == {"num_classes": 2, "in_channels": 2, "image_size": [4, 8]}
    batch = next(TensorLoader(splits.train, 4).epoch(0))
    assert torch.equal(batch.inputs, batch.labels)
    assert not torch.equal(batch.inputs[batch.index.argsort()], splits.train.inputs)
    turns = torch.view_as_complex(batch.inputs.movedim(1, -1).contiguous()) / torch.view_as_complex(
        splits.train.inputs[batch.index].movedim(1, -1).contiguous()
    )
    assert torch.allclose(turns, turns[:, :1, :1].expand_as(turns), atol=1e-5)


def test_a_quarter_turn_is_a_multiplication_by_i():
    channels, _ = parts(noise(2, 3, 4), "noise")
    found, labels = turned(channels, channels, torch.tensor([[0.25], [0.25]]))
    assert torch.allclose(found, torch.stack([-channels[:, 1], channels[:, 0]], 1), atol=1e-6)
    assert torch.equal(found, labels)


HOLED = noise(6, 4, 8)
HOLED[3, 0, 0] = np.nan
SILENT = noise(6, 4, 8)
SILENT[2] = 0
BAD = {
    "NaN": ({"inputs": HOLED}, "holds NaN or infinity in channel 3"),
    "zeros": ({"inputs": SILENT}, "holds zeros alone in channel 2"),
    "a complex matrix": ({"inputs": noise(6, 8)}, r"complex of shape \(6, 8\), expected \(N, D, A\)"),
    "three parts": ({"inputs": np.ones((6, 3, 4, 8))}, r"real of shape \(6, 3, 4, 8\), expected \(N, 2, D, A\)"),
    "no channels": ({"inputs": np.ones((0, 2, 4, 8))}, "holds no channels"),
    "whole numbers": ({"inputs": np.ones((6, 2, 4, 8), int)}, "holds int64, no complex or real numbers"),
    "another name": ({"H": noise(6, 4, 8)}, "has no array 'inputs', it has H"),
    "another test shape": ({"inputs": noise(6, 4, 8), "test": noise(2, 4, 4)}, "test samples are"),
    "one channel": ({"inputs": noise(1, 4, 8)}, "leaves 1 of 1 channels to train on"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_channels_are_one_line(kind, tmp_path):
    arrays, message = BAD[kind]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(AttarError, match=message) as error:
        read_channels(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_wrong_settings_are_one_line(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    for name in ("bad.npz", "none.npz"):
        with pytest.raises(AttarError, match="cannot read"):
            read_channels(tmp_path / name)
    task = create_task("channel")
    for keys, message in (
        ({"name": "channels"}, "needs data.root"),
        ({"name": "sionna", "scenario": "uml"}, "did you mean 'umi'"),
        ({"name": "sionna", "delays": 65}, "delays must be 1 to 64, got 65"),
        ({"name": "sionna", "bandwidth": -1.0}, "bandwidth must be above 0"),
        ({"name": "sionna", "mixup": 0.1}, "is for classified images"),
    ):
        with pytest.raises(AttarError, match=message):
            task.load(read_recipe(data=keys))


def test_one_path_is_one_delay_and_one_angle():
    simulation = Simulation(delays=8, antennas=16)
    steering = torch.exp(2j * torch.pi * 5 / 16 * torch.arange(16))[None, :, None]
    found = angular(steering.to(torch.complex64), torch.tensor([[3 / simulation.bandwidth]]), simulation)
    assert found.abs()[0].argmax().item() == 3 * 16 + 5
    assert found.abs().square().sum().item() == pytest.approx(16.0, rel=1e-4)


def test_a_set_that_is_kept_is_not_simulated_again(tmp_path, monkeypatch):
    simulation, made = Simulation(samples=10, delays=2, antennas=2), []

    def fake(given):
        made.append(given)
        yield torch.from_numpy(noise(10, 2, 2).astype(np.complex64))

    monkeypatch.setattr("attar.data.sources.simulated_channels.drops", fake)
    first, second = (simulated(simulation, tmp_path) for _ in range(2))
    assert (first, made) == (second, [simulation])
    assert first.name == "umi-10x2x2-20MHz-seed0.npz"
    recipe = read_recipe(data={"name": "sionna", "root": str(tmp_path), "samples": 10, "delays": 2, "antennas": 2})
    splits = create_task("channel").load(recipe)
    assert [len(splits.train), len(splits.test), splits.train.shape] == [8, 2, (2, 2, 2)]


@pytest.mark.slow
def test_sionna_simulates_by_seed_and_leaves_torchs_generator():
    pytest.importorskip("sionna")
    state = torch.get_rng_state()
    small, large, other = (
        torch.cat(list(drops(Simulation(samples=count, antennas=8, seed=seed))))
        for count, seed in ((20, 0), (30, 0), (20, 1))
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(small, large[:20])
    assert not torch.allclose(small, other)
    power = small.abs().square().sum(2)
    assert torch.isfinite(small.abs()).all()
    # Delays: the first taps hold most of the power, as 3GPP's delay spreads of some 100 ns have it.
    assert (power[:, :8].sum(1) / power.sum(1)).mean() > 0.8
