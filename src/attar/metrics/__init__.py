"""Metrics: accuracy, calibration, fidelity to a teacher, and statistics over seeds."""

from attar.metrics.accuracy import Scores, evaluate, evaluating, interval
from attar.metrics.base import Measure, Metrics, Scoring, score
from attar.metrics.calibration import bin_sums, brier, ece, nll
from attar.metrics.classification import ClassificationMetrics
from attar.metrics.fidelity import agreement, kl
from attar.metrics.registry import MetricInfo, list_metrics, register_metric
from attar.metrics.statistics import Gap, Mean, Ranking, holm, paired_gap, ranking, summarise

__all__ = [
    "ClassificationMetrics",
    "Gap",
    "Mean",
    "Measure",
    "MetricInfo",
    "Metrics",
    "Ranking",
    "Scores",
    "Scoring",
    "agreement",
    "bin_sums",
    "brier",
    "ece",
    "evaluate",
    "evaluating",
    "holm",
    "interval",
    "kl",
    "list_metrics",
    "nll",
    "paired_gap",
    "ranking",
    "register_metric",
    "score",
    "summarise",
]
