"""The generated parts of README.md and docs: the drawing of the rooms, the tables of methods, of methods and tasks.

`python tests/support/generated.py` writes them; tests/test_readme.py, tests/test_house.py and
tests/conformance/test_tasks.py hold them.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from attar.conformance import check
from attar.conformance.cases import NETWORKS, Case, networks_of
from attar.methods import create_method, list_methods, method_info
from attar.report.catalogue import families_table, methods_table
from attar.tasks import create_task
from rooms import mermaid

ROOT = Path(__file__).parents[2]
README, METHODS = ROOT / "README.md", ROOT / "docs" / "methods" / "index.md"
TASKS = ROOT / "docs" / "tasks" / "index.md"


def own_methods() -> list[str]:
    """The methods that come with the package; tests register others."""
    return [name for name in list_methods() if method_info(name).cls.__module__.startswith("attar.methods.")]


def families() -> str:
    """The README's list of methods."""
    return families_table(own_methods()).markdown()


def methods() -> str:
    """The table of all methods with their papers."""
    return methods_table(own_methods(), papers=True).markdown()


def runs(name: str, task: str) -> bool:
    """Whether a method passes the check before every run, on the small networks that the suite has for a task."""
    networks, takes_teacher = networks_of(task, name), method_info(name).takes_teacher
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            teacher, student = networks()
            method = create_method(name, teacher=teacher if takes_teacher else None, student=student, task=task)
            batch = Case(lambda: method, create_task(task), networks).batch()
            method.setup(batch.labels)
            check(method, batch)
    except Exception:  # shapes do not fit in many ways
        return False
    return True


def tasks_row(name: str) -> str:
    """A method's row of the table of tasks."""
    return f"| {name} | {' | '.join('yes' if runs(name, task) else '' for task in NETWORKS)} |"


def tasks() -> str:
    """The table of methods and the tasks that they run on."""
    head = [f"| runs on | {' | '.join(NETWORKS)} |", "|---" * (1 + len(NETWORKS)) + "|"]
    return "\n".join([*head, *map(tasks_row, own_methods())])


def main() -> None:
    """Write the parts in place."""
    text = README.read_text(encoding="utf-8")
    text = re.sub(r"```mermaid\n.*?```", lambda _: f"```mermaid\n{mermaid()}\n```", text, flags=re.S)
    text = re.sub(r"\| family \| methods \|\n(\|.*\n)*", lambda _: families() + "\n", text)
    README.write_text(text, encoding="utf-8")
    table = re.sub(r"\| method \|.*\n(\|.*\n)*", lambda _: methods() + "\n", METHODS.read_text(encoding="utf-8"))
    METHODS.write_text(table, encoding="utf-8")
    table = re.sub(r"\| runs on \|.*\n(\|.*\n)*", lambda _: tasks() + "\n", TASKS.read_text(encoding="utf-8"))
    TASKS.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
