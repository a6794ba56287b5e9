"""Tracking: a run's curves, recipe and results in TensorBoard, W&B, MLflow, trackio, or a tracker of one's own.

A run's folder is the record; a tracker gets a copy of what is in it, and never changes what is trained.
"""

from attar.track import mlflow, tensorboard, trackio, wandb  # noqa: F401 - entered in the registry
from attar.track.following import Tracking
from attar.track.tracker import Epoch, Subject, Tracker, TrackerInfo, list_trackers, register_tracker, tracker_info

__all__ = [
    "Epoch",
    "Subject",
    "Tracker",
    "TrackerInfo",
    "Tracking",
    "list_trackers",
    "register_tracker",
    "tracker_info",
]
