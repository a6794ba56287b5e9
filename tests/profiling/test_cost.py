"""Parameters, multiply-accumulates, latency and size of small networks counted by hand."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save
from torch import nn

from attar.errors import AttarError
from attar.profiling import cost, file_size, latency, macs, parameters
from attar.profiling.cost import RECURRENT


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )


def test_counts_are_those_by_hand() -> None:
    found = cost(small(), (3, 6, 6))
    assert found.parameters == 8 * 3 * 9 + 2 * 8 + 8 * 36 * 5 + 5
    assert found.macs == 8 * 3 * 9 * 36 + 8 * 36 * 5
    assert found.latency_ms > 0
    assert found.latency_spread_ms >= 0


def test_grouped_convolutions_cost_less() -> None:
    assert macs(nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 4, 4)) == 8 * 9 * 16


def test_measuring_leaves_the_network_alone() -> None:
    net = small().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cost(net, (3, 6, 6))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_shared_parameters_count_once() -> None:
    net = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    separate = file_size(net)
    net[1].weight = net[0].weight
    assert parameters(net) == 50 * 50 + 2 * 50
    assert file_size(net) < separate - 4 * 50 * 50 + 200


def test_file_size_is_what_safetensors_writes() -> None:
    net = small()
    assert abs(file_size(net) - len(save(net.state_dict()))) < 64


def test_half_precision_networks_get_half_precision_images() -> None:
    assert macs(nn.Linear(4, 2).bfloat16(), (4,)) == 8


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(AttarError, match="at least 2"):
        latency(nn.Identity(), (4,), repeats=1)


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.layer = kind(3, 5, batch_first=True, **options)

    def forward(self, sequences):
        return self.layer(sequences)[0]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_each_step_of_a_recurrent_layer_counts(kind, gates):
    first, second = gates * 5 * (3 + 5), gates * 5 * (5 + 5)
    assert macs(Recurrent(kind), (7, 3)) == 7 * first
    assert macs(Recurrent(kind, bidirectional=True), (7, 3)) == 2 * 7 * first
    assert macs(Recurrent(kind, num_layers=2), (7, 3)) == 7 * (first + second)
    # As a GPU is asked for it, in one call.
    weights = [weight.shape for weight in kind(3, 5, num_layers=2).parameters()]
    assert RECURRENT[torch.ops.aten._cudnn_rnn](torch.Size([1, 7, 3]), weights) == 2 * 7 * (first + second)


def test_a_token_that_is_expanded_does_not_stop_the_count_of_macs():
    class Tokened(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.head = nn.Linear(4, 3)
            self.head.weight.requires_grad = False

        def forward(self, images):
            return self.head(torch.cat([self.head_of(self.token.expand(len(images), -1, -1)), images], 1)[:, 0])

        def head_of(self, token):
            return nn.Identity()(token)

    net = Tokened()
    assert macs(net, (5, 4)) == 12
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, False, True]


class Attention(nn.Module):
    """Four heads over ten tokens of sixteen numbers, by one of torch's ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.project = way, nn.Linear(16, 48)
        self.whole = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "whole":
            return self.whole(x, x, x, need_weights=False)[0]
        q, k, v = self.project(x).view(len(x), 10, 3, 4, 4).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_attention_counts_in_whatever_form_it_is_computed() -> None:
    products = 2 * 10 * 10 * 16
    assert macs(Attention("parts"), (10, 16)) == 3 * 10 * 16 * 16 + products
    assert macs(Attention("whole"), (10, 16)) == 4 * 10 * 16 * 16 + products
    fused = torch.backends.mha.get_fastpath_enabled()
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    assert macs(nn.TransformerEncoder(layer, 2), (10, 16)) == 2 * (4 * 10 * 16 * 16 + products + 2 * 10 * 16 * 32)
    assert torch.backends.mha.get_fastpath_enabled() is fused
