"""What a network costs, and which student fits a budget."""

from attar.profiling.cost import Cost, Latency, cost, file_size, latencies, latency, macs, parameters, threads
from attar.profiling.memory import held_memory, peak_memory
from attar.profiling.profile import Profile, profile
from attar.profiling.results import Result, read_failures, read_results, read_scores
from attar.profiling.student_search import Measured
from attar.profiling.suggestion import Suggestion, suggest

__all__ = [
    "Cost",
    "Latency",
    "Measured",
    "Profile",
    "Result",
    "Suggestion",
    "cost",
    "file_size",
    "held_memory",
    "latencies",
    "latency",
    "macs",
    "parameters",
    "peak_memory",
    "profile",
    "read_failures",
    "read_results",
    "read_scores",
    "suggest",
    "threads",
]
