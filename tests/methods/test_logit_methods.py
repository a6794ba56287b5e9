"""Offline methods that compare logits: each total against the sum worked out from its formula in float64."""

import pytest
import torch
from torch import nn

from attar.methods import create_method

S = torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], dtype=torch.float64)
T = torch.tensor([[3.0, 1.0, 0.2], [0.2, 2.0, 0.8]], dtype=torch.float64)
MORE_S = torch.tensor([[0.2, 0.1, 1.7], [1.0, -0.5, 2.0]], dtype=torch.float64)
MORE_T = torch.tensor([[0.1, 0.3, 2.0], [1.5, -0.2, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
CE = 0.318540


class Constant(nn.Module):
    """A network whose logits are a parameter."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def total(name: str, student: torch.Tensor = S, teacher: torch.Tensor = T, **options: object) -> float:
    method = create_method(name, teacher=Constant(teacher), student=Constant(student), **options)
    return method.losses(torch.zeros(len(student), 3, 8, 8), Y.repeat(len(student) // 2)).total.item()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dist", {"temperature": 1.0, "weight": 1.0}, CE + 0.015696 + 0.666662),
        ("dist", {"temperature": 1.0}, CE + 2 * (0.015696 + 0.666662)),
        ("dist", {"temperature": 1.0, "gamma": 0.0}, CE + 2 * 0.015696),
        ("nkd", {}, CE + 1.259933),
        ("normkd", {}, 0.1 * CE + 0.9 * 0.030168),
        ("ttm", {}, CE + 45 * 0.328049),
        ("wttm", {"power": 0.1, "weight": 1.0}, CE + 0.850292),
    ],
)
def test_totals(name: str, options: dict[str, float], expected: float) -> None:
    assert total(name, **options) == pytest.approx(expected, abs=3e-5)
