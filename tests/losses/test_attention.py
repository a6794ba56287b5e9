"""The attention loss of KD from internal representations."""

import pytest
import torch

from attar.errors import AttarError
from attar.losses import attention_kl, cosine_distance

A_T = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64)
A_S = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)


def test_the_published_losses_of_two_tokens_and_a_cls_vector():
    rows = [attention_kl(A_S[None, None, [row]], A_T[None, None, [row]]).item() for row in (0, 1)]
    assert rows == pytest.approx([0.082283, 0.104650], abs=1e-6)
    assert attention_kl(A_S[None, None], A_T[None, None]).item() == pytest.approx(0.093466, abs=1e-6)
    vectors = torch.tensor([[[2.0, 1.0, 2.0]], [[1.0, 2.0, 2.0]]], dtype=torch.float64)
    assert cosine_distance(*vectors).item() == pytest.approx(1 / 9, abs=1e-12)


def test_each_sentence_counts_alike_and_padding_not_at_all():
    short = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    short[0], short[1, 0, 0] = A_T, torch.tensor([1.0, 0.0])
    learner = torch.zeros(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        learner[0], learner[1, 0, 0] = A_S, torch.tensor([0.8, 0.2])
    loss = attention_kl(learner, short)
    assert loss.item() == pytest.approx((0.093466 + 0.223144) / 2, abs=1e-6)
    loss.backward()
    assert learner.grad[1, 0, 1].tolist() == [0.0, 0.0]
    assert torch.isfinite(learner.grad).all()


def test_other_numbers_of_heads_are_one_line():
    with pytest.raises(AttarError, match="number of heads"):
        attention_kl(torch.zeros(2, 3, 4, 4), torch.zeros(2, 2, 4, 4))
    with pytest.raises(AttarError, match=r"expected \(B, heads, N, N\)"):
        attention_kl(torch.zeros(2, 4), torch.zeros(2, 4))
