"""What every loss must pass: one table of (function, module, reference, inputs), one tester."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attar import losses

from . import reference

BATCH, CLASSES = 6, 7


def logits(rng: torch.Generator) -> tuple:
    return tuple(3 * torch.randn(BATCH, CLASSES, generator=rng, dtype=torch.float64) for _ in range(2))


def labels(rng: torch.Generator) -> Tensor:
    return torch.randint(CLASSES, (BATCH,), generator=rng)


def labelled(rng: torch.Generator) -> tuple:
    return (*logits(rng), labels(rng))


def scored(rng: torch.Generator) -> tuple:
    return logits(rng)[0], labels(rng)


def multilabelled(rng: torch.Generator) -> tuple:
    return logits(rng)[0], torch.rand(BATCH, CLASSES, generator=rng) < 0.3


def maps(rng: torch.Generator) -> tuple:
    return tuple(torch.randn(BATCH, 3, 4, 4, generator=rng, dtype=torch.float64) for _ in range(2))


def attentions(rng: torch.Generator) -> tuple:
    """Of two heads over four tokens, the last token of all sentences but the first is padding."""
    found = []
    for _ in range(2):
        scores = torch.randn(BATCH, 2, 4, 4, generator=rng, dtype=torch.float64)
        scores[1:, :, :, 3] = -torch.inf
        found.append(scores.softmax(-1))
        found[-1][1:, :, 3] = 0
    return tuple(found)


def margins(rng: torch.Generator) -> tuple:
    return (*maps(rng), -torch.rand(3, 1, 1, generator=rng, dtype=torch.float64))


def unequal_maps(rng: torch.Generator) -> tuple:
    shapes = ((BATCH, 3, 4, 4), (BATCH, 5, 2, 2))
    return tuple(torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes)


def embeddings(rng: torch.Generator) -> tuple:
    return tuple(torch.randn(BATCH, width, generator=rng, dtype=torch.float64) for width in (5, 8))


def equal_embeddings(rng: torch.Generator) -> tuple:
    return tuple(torch.randn(BATCH, 5, generator=rng, dtype=torch.float64) for _ in range(2))


def remembered(rng: torch.Generator) -> tuple:
    """Embeddings, eleven that are remembered, each one's own row, the rows' classes and log Z."""
    vectors = [torch.randn(count, 5, generator=rng, dtype=torch.float64) for count in (BATCH, 11)]
    index = torch.randperm(11, generator=rng)[:BATCH]
    return (
        *(one / one.norm(dim=1, keepdim=True) for one in vectors),
        index,
        torch.arange(11) % 3,
        torch.tensor(4.0).double(),
    )


def gaussians(rng: torch.Generator) -> tuple:
    return tuple(tuple(torch.randn(BATCH, 4, generator=rng, dtype=torch.float64) for _ in range(2)) for _ in range(2))


def weights(rng: torch.Generator) -> tuple:
    shapes = ((3, 2), (4,))
    return tuple(tuple(torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes) for _ in range(2))


@dataclass(frozen=True)
class Case:
    """One loss: the function over (learner, source, *given), the module, the reference, and what feeds them."""

    function: Callable
    module: nn.Module
    reference: Callable
    inputs: Callable[[torch.Generator], tuple]
    at_equality: float | None = (
        1e-12  # how near to 0 identical learner and source come; None if their minimum is elsewhere
    )


def flat(function: Callable) -> Callable:
    return lambda learner, source: function(*learner, *source)


# fmt: off
CASES = {
    "ce": Case(losses.cross_entropy, losses.CrossEntropy(), reference.cross_entropy, scored, at_equality=None),
    "ce smoothed": Case(
        lambda z, y: losses.cross_entropy(z, y, 0.1), losses.CrossEntropy(0.1),
        lambda z, y: reference.cross_entropy(z, y, 0.1), scored, at_equality=None,
    ),
    "kl": Case(losses.kl_divergence, losses.KLDivergence(), reference.kl_divergence, logits),
    "kl T=1": Case(
        lambda s, t: losses.kl_divergence(s, t, 1.0), losses.KLDivergence(1.0),
        lambda s, t: reference.kl_divergence(s, t, 1.0), logits,
    ),
    "reverse kl": Case(losses.reverse_kl, losses.ReverseKL(), reference.reverse_kl, logits),
    "js": Case(losses.jensen_shannon, losses.JensenShannon(), reference.jensen_shannon, logits),
    "logits mse": Case(losses.logits_mse, losses.LogitsMSE(), reference.mse, logits),
    "bce": Case(
        losses.binary_cross_entropy, losses.BinaryCrossEntropy(), reference.binary_cross_entropy, multilabelled,
        at_equality=None,
    ),
    "binary kl": Case(losses.binary_kl, losses.BinaryKL(), reference.binary_kl, logits),
    "binary kl T=2": Case(
        lambda s, t: losses.binary_kl(s, t, 2.0, "mean"), losses.BinaryKL(2.0, "mean"),
        lambda s, t: reference.binary_kl(s, t, 2.0) / CLASSES, logits,
    ),
    "dkd": Case(losses.dkd, losses.DKD(), reference.dkd, labelled),
    "dkd T=1": Case(
        lambda s, t, y: losses.dkd(s, t, y, 0.5, 2.0, 1.0), losses.DKD(0.5, 2.0, 1.0),
        lambda s, t, y: reference.dkd(s, t, y, 0.5, 2.0, 1.0), labelled,
    ),
    "nkd": Case(losses.nkd, losses.NKD(), reference.nkd, labelled, at_equality=None),
    "nkd T=2": Case(
        lambda s, t, y: losses.nkd(s, t, y, 1.0, 2.0), losses.NKD(1.0, 2.0),
        lambda s, t, y: reference.nkd(s, t, y, 1.0, 2.0), labelled, at_equality=None,
    ),
    "normkd": Case(losses.normkd, losses.NormKD(), reference.normkd, logits),
    "ttm": Case(losses.ttm, losses.TTM(), reference.ttm, logits, at_equality=None),
    "wttm": Case(losses.wttm, losses.WTTM(), reference.wttm, logits, at_equality=None),
    "dist": Case(losses.dist, losses.DIST(), reference.dist, logits, at_equality=1e-5),
    "dist 2,1,1": Case(
        lambda s, t: losses.dist(s, t, 2.0, 1.0, 1.0), losses.DIST(2.0, 1.0, 1.0),
        lambda s, t: reference.dist(s, t, 2.0, 1.0, 1.0), logits, at_equality=1e-5,
    ),
    "mlkd": Case(losses.mlkd, losses.MLKD(), reference.mlkd, logits),
    "mse": Case(losses.mse, losses.MSE(), reference.mse, maps),
    "at": Case(losses.at, losses.AttentionTransfer(), reference.at, maps),
    "at pooled": Case(losses.at, losses.AttentionTransfer(), reference.at, unequal_maps),
    "attention kl": Case(
        losses.attention_kl, losses.AttentionKL(), reference.attention_kl, attentions, at_equality=None
    ),
    "nst": Case(losses.nst, losses.NST(), reference.nst, maps),
    "nst pooled": Case(losses.nst, losses.NST(), reference.nst, unequal_maps),
    "ab": Case(
        losses.activation_boundary, losses.ActivationBoundary(), reference.activation_boundary, maps,
        at_equality=None,
    ),
    "ofd": Case(losses.partial_l2, losses.PartialL2(), reference.partial_l2, margins, at_equality=None),
    "rkd distance": Case(losses.rkd_distance, losses.RKDDistance(), reference.rkd_distance, embeddings),
    "rkd angle": Case(losses.rkd_angle, losses.RKDAngle(), reference.rkd_angle, embeddings),
    "sp": Case(losses.sp, losses.SimilarityPreserving(), reference.sp, unequal_maps),
    "pkt": Case(losses.pkt, losses.PKT(), reference.pkt, embeddings),
    "contrast": Case(losses.contrast, losses.Contrast(), reference.contrast, remembered, at_equality=None),
    "contrast T=1": Case(
        lambda *given: losses.contrast(*given, 1.0, 4), losses.Contrast(1.0, 4),
        lambda *given: reference.contrast(*given, 1.0, 4), remembered, at_equality=None,
    ),
    "cc": Case(losses.cc, losses.CC(), reference.cc, equal_embeddings),
    "gaussian kl": Case(flat(losses.gaussian_kl), losses.GaussianKL(), reference.gaussian_kl, gaussians),
    "l2 to start": Case(losses.l2_to_start, losses.L2ToStart(), reference.l2_to_start, weights),
}
# fmt: on


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def draw(case: Case, seed: int = 0) -> tuple:
    return case.inputs(torch.Generator().manual_seed(seed))


def each(change: Callable[[Tensor], object], value):
    """Apply a change to a tensor or to every tensor of a tuple."""
    return tuple(each(change, part) for part in value) if isinstance(value, tuple) else change(value)


def tensors(value) -> list[Tensor]:
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, tuple) else [value]


def learning(value):
    return each(lambda tensor: tensor.detach().clone().requires_grad_(tensor.is_floating_point()), value)


def halved(value, dtype: torch.dtype):
    return each(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, value)


@pytest.mark.parametrize("seed", range(3))
def test_value_is_the_references(case: Case, seed: int) -> None:
    given = draw(case, seed)
    expected = case.reference(*each(lambda tensor: tensor.numpy(), given))
    torch.testing.assert_close(case.function(*given).item(), float(expected), rtol=1e-9, atol=1e-12)


def test_float32_is_close_to_the_reference(case: Case) -> None:
    given = draw(case)
    expected = case.reference(*each(lambda tensor: tensor.numpy(), given))
    computed = case.function(*halved(given, torch.float32))
    assert computed.dtype == torch.float32
    assert computed.shape == ()
    np.testing.assert_allclose(computed.item(), expected, rtol=2e-5, atol=1e-6)


def test_module_is_the_function(case: Case) -> None:
    given = draw(case)
    assert torch.equal(case.module(*given), case.function(*given))


def test_gradients_are_the_numeric_ones(case: Case) -> None:
    given = learning(draw(case))
    leaves = tensors(given[0])

    def of_learner(*parts: Tensor) -> Tensor:
        learner = parts if isinstance(given[0], tuple) else parts[0]
        return case.function(learner, *each(lambda tensor: tensor.detach(), given[1:]))

    assert torch.autograd.gradcheck(of_learner, leaves)


def test_gradient_reaches_the_learner_and_a_source_that_asks(case: Case) -> None:
    given = learning(draw(case))
    case.module(*given).backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in tensors(given[0]))
    sources = [tensor for tensor in tensors(given[1]) if tensor.is_floating_point()]
    silent = (losses.ActivationBoundary, losses.Contrast)  # only the sign of its source counts; a memory is data
    assert isinstance(case.module, silent) or all(tensor.grad.abs().sum() > 0 for tensor in sources)


def test_no_gradient_reaches_a_detached_source(case: Case) -> None:
    given = draw(case)
    case.module(learning(given[0]), *given[1:]).backward()
    assert all(tensor.grad is None for tensor in tensors(given[1:]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_agrees_with_its_own_values_in_float64(case: Case, dtype: torch.dtype) -> None:
    given = halved(draw(case), dtype)
    computed, exact = case.function(*given), case.function(*halved(given, torch.float64))
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed.double(), exact, rtol=1e-4, atol=1e-5)


# Log-variances and probabilities aside, a network can say anything; embeddings have length 1, and 16,384 of 10,000 are
# too many for a gradient in float16.
EXTREME = sorted(set(CASES) - {"gaussian kl", "contrast"})


@pytest.mark.parametrize("name", EXTREME)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_enormous_inputs_stay_finite(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    learner, source, *given = halved(each(lambda t: 1e4 * t.sign() if t.is_floating_point() else t, draw(case)), dtype)
    learner, source = learning(learner), learning(source)
    value = case.module(learner, source, *given)
    value.backward()
    assert value.isfinite()
    assert all(tensor.grad.isfinite().all() for tensor in tensors((learner, source)) if tensor.grad is not None)


def test_nothing_waits_for_the_device(case: Case) -> None:
    # A tensor on "meta" has no values: reading one, or a shape that depends on one, would raise.
    given = learning(each(lambda tensor: tensor.to("meta"), draw(case)))
    case.module(*given).backward()
    assert all(tensor.grad.is_meta for tensor in tensors(given[0]))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.at_equality is not None])
def test_identical_inputs_give_zero(name: str) -> None:
    case = CASES[name]
    learner, _, *given = draw(case)
    learner = learning(learner)
    value = case.module(learner, each(lambda tensor: tensor.detach(), learner), *given)
    value.backward()
    assert abs(value.item()) < case.at_equality
    assert all(tensor.grad.abs().max() < 1e-6 for tensor in tensors(learner))


def test_autocast_does_not_lower_the_precision(case: Case) -> None:
    given = halved(draw(case), torch.float32)
    expected = case.module(*given)
    with torch.autocast("cpu", torch.bfloat16):
        computed = case.module(*given)
    torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-6)


def test_every_exported_module_is_held_by_numbers() -> None:
    """By this table, or by name in the oracles of its method, its task or its own docstring's example."""
    exported = {getattr(losses, name) for name in losses.__all__}
    modules = {thing for thing in exported if isinstance(thing, type) and thing is not losses.Loss}
    rest = {module.__name__ for module in modules - {type(case.module) for case in CASES.values()}}
    tests = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parents[1].rglob("test_*.py"))
    examples = "".join(file.read_text(encoding="utf-8") for file in Path(losses.__file__).parent.glob("*.py"))
    called, by_method = set(re.findall(r"\b((?:losses\.)?\w+)\(", tests)), methods_of(rest)
    for name in sorted(rest):
        function = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        named = bool(called & {name, f"losses.{name}", f"losses.{function}"})
        held = named or f">>> {name}" in examples or by_method[name]
        assert held, f"no number holds {name}"


def methods_of(names: set[str]) -> dict[str, bool]:
    """For each loss, whether a method that uses it is created by name in the tests of methods."""
    root = Path(__file__).parents[1]
    tests = "".join(file.read_text(encoding="utf-8") for file in (root / "methods").glob("test_*.py"))
    found = dict.fromkeys(names, False)
    for file in (Path(losses.__file__).parents[1] / "methods").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        for name in names:
            found[name] |= re.search(rf"\b{name}\b", source) is not None and f'"{file.stem}"' in tests
    return found
