"""Peak memory counted by hand, and everything in one record."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attar
from attar.errors import AttarError
from attar.profiling import peak_memory, profile

MAP = 4 * 8 * 6 * 6  # bytes of 8 channels of 6 x 6


def conv() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1)


def test_a_chain_holds_two_maps_at_a_time() -> None:
    net = nn.Sequential(conv(), conv(), conv(), conv())
    # The images stay with the caller; below them input and output of one layer.
    assert peak_memory(net, (8, 6, 6)) == 3 * MAP
    assert peak_memory(net, (8, 6, 6), batch=5) == 5 * 3 * MAP


def test_in_place_results_and_views_cost_nothing() -> None:
    net = nn.Sequential(conv(), nn.ReLU(inplace=True), nn.Flatten())
    assert peak_memory(net, (8, 6, 6)) == 2 * MAP
    assert peak_memory(nn.Sequential(conv(), nn.ReLU()), (8, 6, 6)) == 3 * MAP


def test_what_a_shortcut_keeps_is_counted() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second = conv(), conv(), conv()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            kept = self.stem(images)
            return self.second(self.first(kept)) + kept

    assert peak_memory(Shortcut(), (8, 6, 6)) == 4 * MAP


def test_the_profile_of_a_network() -> None:
    net = attar.create_model("resnet20").train()
    found = attar.profile(net, (3, 32, 32), batch=2)
    assert (found.parameters, found.macs, found.batch) == (278_324, 40_818_944, 2)
    assert found.bytes > 4 * found.parameters
    assert found.latency.median > 0
    assert found.batch_latency.median > 0
    assert found.memory == peak_memory(net, (3, 32, 32)) > 4 * 16 * 32 * 32
    assert found.threads == torch.get_num_threads()
    assert net.training


@pytest.mark.parametrize(
    ("shape", "batch", "message"),
    [((3, 8, 8), 0, "batch is 0; give 1 or more"), ((4, 8, 8), 1, r"does not take images of \(4, 8, 8\): ")],
)
def test_mistakes(shape: tuple[int, ...], batch: int, message: str) -> None:
    with pytest.raises(AttarError, match=message):
        profile(nn.Conv2d(3, 3, 1), shape, batch=batch)
