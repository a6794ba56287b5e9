"""What a student may cost: budgets as people write them ("5ms", "10MB", "300M"), and by how much one is missed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from attar.errors import AttarError

TIME = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
COUNT = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
# What each budget is written in, with an example for messages.
UNITS: dict[str, tuple[Mapping[str, float], str]] = {
    "latency": (TIME, "5ms or 0.005s"),
    "size": (BYTES, "10MB or 10MiB"),
    "macs": (COUNT, "300M or 1.2G"),
    "params": (COUNT, "5M or 5000000"),
    "memory": (BYTES, "10MB or 10MiB"),
}
QUANTITY = re.compile(r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(?P<unit>[a-zµμ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """The most that a student may cost; infinity: no limit.

    Attributes:
        latency: milliseconds of one pass.
        size: bytes of the weights as safetensors.
        macs: multiply-accumulates of one image.
        params: numbers that the network learns.
        memory: peak bytes of images and activations of one pass.
    """

    latency: float = math.inf
    size: float = math.inf
    macs: float = math.inf
    params: float = math.inf
    memory: float = math.inf

    def misses(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Which budgets some costs exceed, each as cost / budget; a cost that is not given misses nothing.

        >>> Budget(latency=5, size=1e7).misses({"latency": 6, "size": 1e6})
        {'latency': 1.2}
        """
        return {key: costs[key] / most for key, most in asdict(self).items() if key in costs and costs[key] > most}

    @property
    def given(self) -> dict[str, float]:
        """The budgets that somebody gave."""
        return {key: most for key, most in asdict(self).items() if most < math.inf}


def read_budget(**texts: str | float | None) -> Budget:
    """Budgets from what people write; None is no budget.

    Raises:
        AttarError: one that `quantity` refuses.

    >>> read_budget(latency="5ms", macs="1.2G", size=None)
    Budget(latency=5.0, size=inf, macs=1200000000.0, params=inf, memory=inf)
    """
    return Budget(**{key: quantity(key, text) for key, text in texts.items() if text is not None})


def quantity(kind: str, text: str | float) -> float:
    """One budget as a number: milliseconds, bytes or a count. Upper and lower case are the same.

    Args:
        kind: latency (us, ms, s), size or memory (B, kB, MB, GB, KiB, MiB, GiB), macs or params (no unit, k, M, G, B).
        text: a positive number and its unit.

    Raises:
        AttarError: no number, no unit where one is needed, an unknown unit, or nothing positive and finite.

    >>> quantity("latency", "0.005s"), quantity("size", "10 MiB"), quantity("params", 5e6)
    (5.0, 10485760.0, 5000000.0)
    """
    units, example = UNITS[kind]
    match = QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise AttarError(f"{kind} is {text!r}; give a number and its unit: {example}")
    unit = match["unit"].lower()
    if unit not in units:
        wrong = f"the unit {match['unit']!r} is unknown" if unit else "it has no unit"
        raise AttarError(f"{kind} is {text!r}: {wrong}; give {example}")
    value = float(match["number"]) * units[unit]
    if not 0 < value < math.inf:
        raise AttarError(f"{kind} is {text!r}; give more than 0: {example}")
    return value
