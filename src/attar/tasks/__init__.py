"""Tasks: what is learnt, how labels supervise it, and how one network imitates another."""

from attar.tasks.base import Task
from attar.tasks.classification import Classification

__all__ = ["Classification", "Task"]
