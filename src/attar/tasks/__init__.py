"""Tasks: what is learnt, how labels supervise it, how one network imitates another, and how it is scored."""

from attar.tasks.base import Task
from attar.tasks.channel import Channel
from attar.tasks.classification import Classification
from attar.tasks.density import Density
from attar.tasks.features import Features
from attar.tasks.graph import Graph
from attar.tasks.language import Language
from attar.tasks.multilabel import Multilabel
from attar.tasks.registry import (
    create_task,
    data_names,
    list_tasks,
    register_task,
    task_name,
    task_of,
    with_metrics,
)
from attar.tasks.text import Text

__all__ = [
    "Channel",
    "Classification",
    "Density",
    "Features",
    "Graph",
    "Language",
    "Multilabel",
    "Task",
    "Text",
    "create_task",
    "data_names",
    "list_tasks",
    "register_task",
    "task_name",
    "task_of",
    "with_metrics",
]
