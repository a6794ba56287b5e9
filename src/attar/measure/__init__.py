"""Measurements: accuracy, calibration, fidelity to a teacher, cost, and what a few seeds allow one to say."""

from attar.measure.accuracy import Scores, evaluate, evaluating, interval
from attar.measure.calibration import bin_sums, brier, ece, nll
from attar.measure.cost import Cost, Latency, cost, file_size, latencies, latency, macs, parameters, threads
from attar.measure.fidelity import agreement, kl
from attar.measure.memory import peak_memory
from attar.measure.profiling import Profile, profile
from attar.measure.search import Measured
from attar.measure.statistics import Gap, Mean, paired_gap, summarise
from attar.measure.suggestion import Suggestion, suggest

__all__ = [
    "Cost",
    "Gap",
    "Latency",
    "Mean",
    "Measured",
    "Profile",
    "Scores",
    "Suggestion",
    "agreement",
    "bin_sums",
    "brier",
    "cost",
    "ece",
    "evaluate",
    "evaluating",
    "file_size",
    "interval",
    "kl",
    "latencies",
    "latency",
    "macs",
    "nll",
    "paired_gap",
    "parameters",
    "peak_memory",
    "profile",
    "suggest",
    "summarise",
    "threads",
]
